"""What all kernels share: a tile of a feature map, (channels, positions), and what is done to it before a product.

Every feature map is addressed by six strides: batch, head, channel and up to three spatial axes, so that NCHW,
channels_last, slices and expanded gradients are read and written where they lie. A program belongs to one image (and
head) and one span of its positions, and walks over it tile by tile.

Constants of every kernel: FLAT, whether positions are equally spaced; WIDE, whether offsets take 64 bits; ACC, the
dtype of sums; ROUNDED, that of the feature maps; OPERAND, that in which `tl.dot` is given its factors; PRECISION, its
`input_precision`.
"""

import triton
import triton.language as tl


@triton.jit
def widen(index, WIDE: tl.constexpr):
    return index.to(tl.int64) if WIDE else index


@triton.jit
def positions_offset(s, n1, n2, s0, s1, s2, FLAT: tl.constexpr):
    """Offset of the positions s of a (n0, n1, n2) grid with strides s0, s1, s2."""
    if FLAT:
        return s * s2
    return s // (n1 * n2) * s0 + s // n2 % n1 * s1 + s % n2 * s2


@triton.jit
def load_tile(base, channels, s, C, S, stride_c, n1, n2, s0, s1, s2, FLAT: tl.constexpr, ACC: tl.constexpr):
    """(BLOCK_C, BLOCK_S), zero outside."""
    inside = (channels < C)[:, None] & (s < S)[None, :]
    offsets = channels[:, None] * stride_c + positions_offset(s, n1, n2, s0, s1, s2, FLAT)[None, :]
    return tl.load(base + offsets, mask=inside, other=0.0).to(ACC)


@triton.jit
def store_tile(base, values, channels, s, C, S, stride_c, n1, n2, s0, s1, s2, FLAT: tl.constexpr):
    inside = (channels < C)[:, None] & (s < S)[None, :]
    offsets = channels[:, None] * stride_c + positions_offset(s, n1, n2, s0, s1, s2, FLAT)[None, :]
    tl.store(base + offsets, values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def load_norm(
    weight, bias, mean, variance, channels, C, NORM: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """centre, scale, shift and deviation of some channels: z = ReLU6((x - centre) scale + shift).

    Digits of the mean that ACC cannot hold are in the shift.
    """
    if NORM:
        inside = channels < C
        exact = tl.load(mean + channels, mask=inside, other=0.0)
        centre = exact.to(ACC)
        deviation = tl.sqrt(tl.load(variance + channels, mask=inside, other=1.0).to(ACC) + EPS)
        scale = tl.load(weight + channels, mask=inside, other=0.0).to(ACC) / deviation
        shift = tl.load(bias + channels, mask=inside, other=0.0).to(ACC)
        return centre, scale, shift - (exact - centre).to(ACC) * scale, deviation
    none = channels.to(ACC) * 0.0
    return none, none, none, none


@triton.jit
def activate(x, centre, scale, shift, inside, NORM: tl.constexpr):
    """z of a tile of x; zero at the positions that are not inside."""
    if NORM:
        y = (x - centre[:, None]) * scale[:, None] + shift[:, None]
        y = tl.maximum(y, 0.0, propagate_nan=tl.PropagateNan.ALL)
        y = tl.minimum(y, 6.0, propagate_nan=tl.PropagateNan.ALL)
        return tl.where(inside[None, :], y, 0.0)
    return x


@triton.jit
def operand(x, ROUNDED: tl.constexpr, OPERAND: tl.constexpr):
    """A factor of a product: rounded to the dtype of the feature maps, held in one that `tl.dot` multiplies."""
    return x.to(ROUNDED).to(OPERAND)
