"""What all kernels share: a tile of a feature map, (channels, positions), and what is done to it
before a product.

A feature map (images, channels, positions) arrives as one argument, `FeatureMap` of `operands.py`:
pointer, strides, sizes and, known at compile time, its `Layout`. NCHW, channels_last, slices and
expanded gradients are read and written where they lie. A program belongs to one image (and head)
and to one split of its positions, which it walks over tile by tile, in `steps` steps.

`MATH` is the `Math` of `operands.py`: the dtypes of sums and factors, and how products are
computed.
"""

import triton
import triton.language as tl


@triton.jit
def to_int64(index, WIDE: tl.constexpr):
    return tl.cast(index, tl.int64) if WIDE else index


@triton.jit
def in_elements(units, UNIT: tl.constexpr, WIDE: tl.constexpr):
    """A stride or a number of positions in elements; `operands.in_units` says why it does not
    arrive like this.
    """
    # units of less than 2^31 arrive as 32 bits, and may stand for more elements than that
    return to_int64(units >> 1, WIDE) * UNIT


@triton.jit
def stride(units, x):
    """A stride of x in elements."""
    return in_elements(units, x.layout.UNIT, x.layout.WIDE)


@triton.jit
def image_pointer(x, image, heads):
    """The first element of image `image` of x, counted over batch and heads."""
    batch = to_int64(image // heads, x.layout.WIDE)
    head = to_int64(image % heads, x.layout.WIDE)
    return x.pointer + batch * stride(x.batch_stride, x) + head * stride(x.head_stride, x)


@triton.jit
def tile_positions(x, split, steps, step, BLOCK_S: tl.constexpr):
    """The positions (BLOCK_S,) of one step through a split, some of them perhaps past the last."""
    return (to_int64(split, x.layout.WIDE) * steps + step) * BLOCK_S + tl.arange(0, BLOCK_S)


@triton.jit
def tile_offsets(x, channels, s):
    """Offsets (BLOCK_C, BLOCK_S) of some channels at the positions s."""
    # nothing is multiplied by a stride of 1, so the compiler sees neighbours in memory
    channels, s = to_int64(channels, x.layout.WIDE), to_int64(s, x.layout.WIDE)
    if x.layout.INNER != "channel":
        channels *= stride(x.channel_stride, x)

    # positions at equal distances need no division; others have three axes
    if x.layout.FLAT:
        if x.layout.INNER != "position":
            s *= stride(x.stride2, x)
    else:
        row = s // x.extent2
        column = s % x.extent2 * stride(x.stride2, x)
        s = (
            row // x.extent1 * stride(x.stride0, x)
            + row % x.extent1 * stride(x.stride1, x)
            + column
        )
    return channels[:, None] + s[None, :]


@triton.jit
def positions_of(x):
    """The number of positions S of an image."""
    return in_elements(
        x.positions, x.layout.UNIT if x.layout.INNER == "position" else 1, x.layout.WIDE
    )


@triton.jit
def tile_mask(x, channels, s):
    return (channels < x.channels)[:, None] & (s < positions_of(x))[None, :]


@triton.jit
def load_tile(x, pointer, channels, s):
    """(BLOCK_C, BLOCK_S) of the image at `pointer`, zero outside."""
    return tl.load(
        pointer + tile_offsets(x, channels, s), mask=tile_mask(x, channels, s), other=0.0
    )


@triton.jit
def load_following_tile(x, pointer, channels, s, step, steps):
    """The tile after that at the positions s, zero after the last step.

    Where a kernel cannot copy asynchronously, because single numbers of 16 bits are too short for
    it, it asks for the next tile before it works on this one.
    """
    return load_tile(
        x, pointer, channels, tl.where(step + 1 < steps, s + s.shape[0], positions_of(x))
    )


@triton.jit
def store_tile(x, pointer, values, channels, s):
    values = values.to(x.pointer.dtype.element_ty)
    tl.store(pointer + tile_offsets(x, channels, s), values, mask=tile_mask(x, channels, s))


@triton.jit
def zero_outside(z, x, s, norm):
    """z, zero at the positions s that are outside of x; without a norm it is zero there already."""
    if norm is None:
        return z
    else:
        return tl.where((s < positions_of(x))[None, :], z, 0.0)


@triton.jit
def to_dot_dtype(x, MATH: tl.constexpr):
    """A factor of a product: rounded to the dtype of the feature maps, held in one that `tl.dot`
    multiplies unless `matmul` splits it first.
    """
    x = x.to(MATH.ROUNDED)
    return x if MATH.PARTS > 1 else x.to(MATH.FACTOR)


@triton.jit
def round_to_8_bits(x):
    """x (float32) as a bfloat16 has it: Triton's interpreter cuts bits off where it casts to one.

    Some NaN become a zero here.
    """
    bits = x.to(tl.int32, bitcast=True)
    return ((bits + 0x8000) & -0x10000).to(tl.float32, bitcast=True)


@triton.jit
def leading_part(x):
    """x rounded to 8 bits, but the largest bfloat16 in place of infinity."""
    LARGEST: tl.constexpr = 3.3895313892515355e38
    return round_to_8_bits(tl.minimum(tl.maximum(x, -LARGEST), LARGEST))


@triton.jit
def last_part(x, MATH: tl.constexpr):
    """x rounded to 8 bits, where infinity and NaN stay."""
    if tl.float32 == MATH.FACTOR:
        x = tl.where(x == x, round_to_8_bits(x), x)
    return x.to(MATH.FACTOR)


@triton.jit
def split(x, MATH: tl.constexpr):
    """The largest part of x (float32), the middle one or None, and the last.

    Infinity and NaN are in the last part, which meets the largest of the other factor alone: others
    may be zero, or have another sign than the whole.
    """
    large = leading_part(x)
    rest = x - large
    if MATH.PARTS == 2:
        return large.to(MATH.FACTOR), None, last_part(rest, MATH)
    else:
        middle = leading_part(rest)
        return large.to(MATH.FACTOR), middle.to(MATH.FACTOR), last_part(rest - middle, MATH)


@triton.jit
def matmul_in_parts(a, b, MATH: tl.constexpr):
    """a b for float32, of parts in bfloat16: small products first, without the smallest."""
    a_large, a_middle, a_last = split(a, MATH)
    b_large, b_middle, b_last = split(b, MATH)
    result = tl.zeros((a.shape[0], b.shape[1]), MATH.ACC)
    if MATH.PARTS == 3:
        result = tl.dot(a_middle, b_middle, result, input_precision="ieee")
    result = tl.dot(a_last, b_large, result, input_precision="ieee")
    result = tl.dot(a_large, b_last, result, input_precision="ieee")
    if MATH.PARTS == 3:
        result = tl.dot(a_middle, b_large, result, input_precision="ieee")
        result = tl.dot(a_large, b_middle, result, input_precision="ieee")
    return tl.dot(a_large, b_large, result, input_precision="ieee")


@triton.jit
def matmul(a, b, result, MATH: tl.constexpr):
    """result + a b, the factors rounded to the dtype of the feature maps."""
    a, b = to_dot_dtype(a, MATH), to_dot_dtype(b, MATH)
    if MATH.PARTS > 1:
        # added outside of the tensor cores, which cut bits off a long sum
        return result + matmul_in_parts(a, b, MATH)
    else:
        return tl.dot(a, b, result, input_precision=MATH.PRECISION, out_dtype=MATH.ACC)


@triton.jit
def load_matrix(matrix, group, rows, columns, R, C, MATH: tl.constexpr):
    """Some rows and columns of one of the matrices (R, C) of a `Matrix`, as a factor of a product;
    zero outside.
    """
    pointer = matrix.pointer + group.to(tl.int64) * matrix.group_stride
    pointers = pointer + rows[:, None] * matrix.row_stride + columns[None, :] * matrix.column_stride
    inside = (rows < R)[:, None] & (columns < C)[None, :]
    return to_dot_dtype(tl.load(pointers, mask=inside, other=0.0), MATH)


@triton.jit
def load_transposed(matrix, group, rows, columns, R, C, MATH: tl.constexpr):
    """`load_matrix` of the transposed matrices, which are (R, C)."""
    pointer = matrix.pointer + group.to(tl.int64) * matrix.group_stride
    pointers = pointer + rows[:, None] * matrix.column_stride + columns[None, :] * matrix.row_stride
    inside = (rows < R)[:, None] & (columns < C)[None, :]
    return to_dot_dtype(tl.load(pointers, mask=inside, other=0.0), MATH)
