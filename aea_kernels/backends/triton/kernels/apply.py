"""The second shape of work: a matrix applied at every position."""

import triton
import triton.language as tl

from .tile import activate, load_norm, load_tile, operand, store_tile, widen


@triton.jit
def apply_kernel(
    x, weight, bias, mean, variance, matrix, y,
    A, C, S, heads, groups, spans, span, n1, n2,
    x_b, x_h, x_c, x_0, x_1, x_2, y_b, y_h, y_c, y_0, y_1, y_2, m_g, m_a, m_c,
    HOMOGENEOUS: tl.constexpr, RESIDUAL: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    TILES: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """y = M zh (+ x) over one span: matrix (groups, A, C + 1), or (groups, A, C) without HOMOGENEOUS.

    TILES is the number of channel tiles; where it is 1, matrix and BN are loaded once, and x once a position.
    """
    pid = tl.program_id(0)
    tiles = tl.cdiv(A, BLOCK_A)
    part = pid // tiles % spans
    image = widen(pid // (tiles * spans), WIDE)
    rows = widen(pid % tiles * BLOCK_A + tl.arange(0, BLOCK_A), WIDE)
    x += image // heads * x_b + image % heads * x_h
    y += image // heads * y_b + image % heads * y_h
    matrix += tl.minimum(image, groups - 1) * m_g
    known = rows < A
    constant = tl.zeros((BLOCK_A,), ACC)
    if HOMOGENEOUS:
        constant = tl.load(matrix + rows * m_a + C * m_c, mask=known, other=0.0)
    if TILES == 1:
        k = tl.arange(0, BLOCK_C)
        centre, scale, shift, _ = load_norm(weight, bias, mean, variance, k, C, NORM, EPS, ACC)
        m = tl.load(matrix + rows[:, None] * m_a + k[None, :] * m_c, mask=known[:, None] & (k < C)[None, :], other=0.0)
        m = operand(m, ROUNDED, OPERAND)

    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        result = tl.zeros((BLOCK_A, BLOCK_S), ACC)
        for tile in tl.static_range(TILES):
            channels = widen(tile * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
            raw = load_tile(x, channels, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            if TILES > 1:
                centre, scale, shift, _ = load_norm(weight, bias, mean, variance, channels, C, NORM, EPS, ACC)
                inside = known[:, None] & (channels < C)[None, :]
                m = tl.load(matrix + rows[:, None] * m_a + channels[None, :] * m_c, mask=inside, other=0.0)
                m = operand(m, ROUNDED, OPERAND)
            z = activate(raw, centre, scale, shift, s < S, NORM)
            result = tl.dot(m, operand(z, ROUNDED, OPERAND), result, input_precision=PRECISION, out_dtype=ACC)
        if RESIDUAL:
            if TILES > 1:
                raw = load_tile(x, rows, s, A, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            result += raw
        result += constant[:, None]
        store_tile(y, result, rows, s, A, S, y_c, n1, n2, y_0, y_1, y_2, FLAT)
