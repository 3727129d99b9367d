"""The first shape of work: an outer product summed over positions."""

import triton
import triton.language as tl

from .tile import activate, load_norm, load_tile, operand, widen


@triton.jit
def outer_kernel(
    a, x, weight, bias, mean, variance, partial,
    A, C, S, heads, spans, span, n1, n2,
    a_b, a_h, a_c, a_0, a_1, a_2, x_b, x_h, x_c, x_0, x_1, x_2,
    GRAM: tl.constexpr, HOMOGENEOUS: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    ONE_TILE: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """partial[image, span] = sum over the span of a z^T, and with HOMOGENEOUS of a in a last column: (A, C + 1).

    GRAM: a is x, and z stands on both sides. ONE_TILE: a single tile holds all channels, and serves both sides.
    """
    pid = tl.program_id(0)
    tiles_a, tiles_c = tl.cdiv(A, BLOCK_A), tl.cdiv(C, BLOCK_C)
    tile_c = pid % tiles_c
    tile_a = pid // tiles_c % tiles_a
    part = pid // (tiles_c * tiles_a) % spans
    image = widen(pid // (tiles_c * tiles_a * spans), WIDE)
    rows = widen(tile_a * BLOCK_A + tl.arange(0, BLOCK_A), WIDE)
    columns = widen(tile_c * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
    a += image // heads * a_b + image % heads * a_h
    x += image // heads * x_b + image % heads * x_h
    centre, scale, shift, _ = load_norm(weight, bias, mean, variance, columns, C, NORM, EPS, ACC)
    centre_a, scale_a, shift_a, _ = load_norm(weight, bias, mean, variance, rows, A, NORM and GRAM, EPS, ACC)

    product = tl.zeros((BLOCK_A, BLOCK_C), ACC)
    total = tl.zeros((BLOCK_A,), ACC)
    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        raw = load_tile(x, columns, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
        z = activate(raw, centre, scale, shift, s < S, NORM)
        if GRAM and ONE_TILE:
            left = z
        else:
            left = load_tile(a, rows, s, A, S, a_c, n1, n2, a_0, a_1, a_2, FLAT, ACC)
            left = activate(left, centre_a, scale_a, shift_a, s < S, NORM and GRAM)
        product = tl.dot(
            operand(left, ROUNDED, OPERAND),
            tl.trans(operand(z, ROUNDED, OPERAND)),
            product,
            input_precision=PRECISION,
            out_dtype=ACC,
        )
        if HOMOGENEOUS:
            total += tl.sum(left, 1)

    width = C + 1 if HOMOGENEOUS else C
    partial += (image * spans + part) * A * width
    inside = (rows < A)[:, None] & (columns < C)[None, :]
    tl.store(partial + rows[:, None] * width + columns[None, :], product, mask=inside)
    if HOMOGENEOUS:
        tl.store(partial + rows * width + C, total, mask=(rows < A) & (tile_c == 0))
