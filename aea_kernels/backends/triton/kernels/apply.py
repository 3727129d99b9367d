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
    ONE_TILE: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """y = M zh (+ x) over one span: matrix (groups, A, C + 1), or (groups, A, C) without HOMOGENEOUS.

    ONE_TILE: a single tile holds all channels; then matrix and BN are loaded once, and x once a position.
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
    if ONE_TILE:
        k = tl.arange(0, BLOCK_C)
        centre, scale, shift, _ = load_norm(weight, bias, mean, variance, k, C, NORM, EPS, ACC)
        inside = known[:, None] & (k < C)[None, :]
        m = tl.load(matrix + rows[:, None] * m_a + k[None, :] * m_c, mask=inside, other=0.0)
        m = operand(m, ROUNDED, OPERAND)

    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        result = tl.zeros((BLOCK_A, BLOCK_S), ACC)
        if ONE_TILE:
            raw = load_tile(x, widen(k, WIDE), s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            z = operand(activate(raw, centre, scale, shift, s < S, NORM), ROUNDED, OPERAND)
            result = tl.dot(m, z, result, input_precision=PRECISION, out_dtype=ACC)
        else:
            for tile in range(0, C, BLOCK_C):
                k = tile + tl.arange(0, BLOCK_C)
                centre, scale, shift, _ = load_norm(weight, bias, mean, variance, k, C, NORM, EPS, ACC)
                inside = known[:, None] & (k < C)[None, :]
                m = tl.load(matrix + rows[:, None] * m_a + k[None, :] * m_c, mask=inside, other=0.0)
                raw = load_tile(x, widen(k, WIDE), s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
                z = operand(activate(raw, centre, scale, shift, s < S, NORM), ROUNDED, OPERAND)
                m = operand(m, ROUNDED, OPERAND)
                result = tl.dot(m, z, result, input_precision=PRECISION, out_dtype=ACC)
            if RESIDUAL:
                raw = load_tile(x, rows, s, A, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
        if RESIDUAL:
            result += raw
        result += constant[:, None]
        store_tile(y, result, rows, s, A, S, y_c, n1, n2, y_0, y_1, y_2, FLAT)
