"""The derivatives of a matrix applied at every position, with BN, ReLU6 and residual, or alone."""

import triton
import triton.language as tl

from .tile import activate, load_norm, load_tile, operand, store_tile, widen


@triton.jit
def features_backward_kernel(
    dy, x, weight, bias, mean, variance, matrix, pull, dweight, dbias, dx, partial,
    C, S, total, groups, spans, span, n1, n2,
    g_b, g_c, g_0, g_1, g_2, x_b, x_c, x_0, x_1, x_2, d_b, d_c, d_0, d_1, d_2,
    SUMS: tl.constexpr, WRITE: tl.constexpr, STATISTICS: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    ONE_TILE: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """dz = (M^T dy + pull zh) where ReLU6 has slope, over one span; WRITE: dx = dy + what dz is through BN.

    SUMS: partial[image, span] = sums of dz (x - mean) / deviation and of dz, the gradients of weight and bias, (2, C).
    STATISTICS: these sums over all `total` positions, dweight and dbias, flow back through BN's mean and variance.
    matrix (groups, C, C + 1), pull (groups, C + 1, C + 1).
    """
    pid = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_A)
    part = pid // tiles % spans
    image = widen(pid // (tiles * spans), WIDE)
    rows = widen(pid % tiles * BLOCK_A + tl.arange(0, BLOCK_A), WIDE)
    width = C + 1
    group = tl.minimum(image, groups - 1)
    dy += image * g_b
    x += image * x_b
    dx += image * d_b
    matrix += group * C * width
    pull += group * width * width
    known = rows < C
    constant = tl.load(pull + rows * width + C, mask=known, other=0.0)
    centre, scale, shift, deviation = load_norm(weight, bias, mean, variance, rows, C, NORM, EPS, ACC)
    slope = tl.zeros((BLOCK_A,), ACC)
    offset = tl.zeros((BLOCK_A,), ACC)
    if STATISTICS:
        number = tl.cast(total, ACC)
        slope = -tl.load(dweight + rows, mask=known, other=0.0) / number * scale / deviation
        offset = -tl.load(dbias + rows, mask=known, other=0.0) / number * scale
    if ONE_TILE:
        square = known[:, None] & known[None, :]
        m = operand(tl.load(matrix + rows[None, :] * width + rows[:, None], mask=square, other=0.0), ROUNDED, OPERAND)
        p = operand(tl.load(pull + rows[:, None] * width + rows[None, :], mask=square, other=0.0), ROUNDED, OPERAND)
    sum_weight = tl.zeros((BLOCK_A,), ACC)
    sum_bias = tl.zeros((BLOCK_A,), ACC)

    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        dz = tl.zeros((BLOCK_A, BLOCK_S), ACC)
        if ONE_TILE:
            above = load_tile(dy, rows, s, C, S, g_c, n1, n2, g_0, g_1, g_2, FLAT, ACC)
            raw = load_tile(x, rows, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            z = activate(raw, centre, scale, shift, s < S, NORM)
            dz = tl.dot(m, operand(above, ROUNDED, OPERAND), dz, input_precision=PRECISION, out_dtype=ACC)
            dz = tl.dot(p, operand(z, ROUNDED, OPERAND), dz, input_precision=PRECISION, out_dtype=ACC)
        else:
            for tile in range(0, C, BLOCK_C):
                k = tile + tl.arange(0, BLOCK_C)
                inside = known[:, None] & (k < C)[None, :]
                m = tl.load(matrix + k[None, :] * width + rows[:, None], mask=inside, other=0.0)  # M^T
                above = load_tile(dy, widen(k, WIDE), s, C, S, g_c, n1, n2, g_0, g_1, g_2, FLAT, ACC)
                m, above = operand(m, ROUNDED, OPERAND), operand(above, ROUNDED, OPERAND)
                dz = tl.dot(m, above, dz, input_precision=PRECISION, out_dtype=ACC)
            for tile in range(0, C, BLOCK_C):
                k = tile + tl.arange(0, BLOCK_C)
                inside = known[:, None] & (k < C)[None, :]
                p = tl.load(pull + rows[:, None] * width + k[None, :], mask=inside, other=0.0)
                centre_k, scale_k, shift_k, _ = load_norm(weight, bias, mean, variance, k, C, NORM, EPS, ACC)
                raw = load_tile(x, widen(k, WIDE), s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
                z = activate(raw, centre_k, scale_k, shift_k, s < S, NORM)
                p, z = operand(p, ROUNDED, OPERAND), operand(z, ROUNDED, OPERAND)
                dz = tl.dot(p, z, dz, input_precision=PRECISION, out_dtype=ACC)
            above = load_tile(dy, rows, s, C, S, g_c, n1, n2, g_0, g_1, g_2, FLAT, ACC)
            raw = load_tile(x, rows, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            z = activate(raw, centre, scale, shift, s < S, NORM)
        dz += constant[:, None]
        if NORM:
            # z sits on the bounds exactly where ReLU6 has no slope
            dz = tl.where((z <= 0.0) | (z >= 6.0), 0.0, dz)
        if SUMS:
            sum_weight += tl.sum(dz * (raw - centre[:, None]), 1)
            sum_bias += tl.sum(dz, 1)
        if WRITE:
            if NORM:
                dz *= scale[:, None]
            if STATISTICS:
                dz += (raw - centre[:, None]) * slope[:, None] + offset[:, None]
            store_tile(dx, above + dz, rows, s, C, S, d_c, n1, n2, d_0, d_1, d_2, FLAT)
    if SUMS:
        partial += (image * spans + part) * 2 * C
        tl.store(partial + rows, sum_weight / deviation, mask=known)
        tl.store(partial + C + rows, sum_bias, mask=known)


@triton.jit
def matrix_backward_kernel(
    dy, a, matrix, da, partial,
    D, A, S, heads, spans, span,
    g_b, g_h, g_c, g_s, a_b, a_h, a_c, a_s, d_b, d_h, d_c, d_s, m_g, m_d, m_a,
    WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """da = M^T dy, and partial[image, span] = sum over the span of dy a^T, (D, A), for matrix (images, D, A).

    One tile holds all channels of dy, and one those of a.
    """
    pid = tl.program_id(0)
    part = pid % spans
    image = widen(pid // spans, WIDE)
    rows = tl.arange(0, BLOCK_D)
    columns = tl.arange(0, BLOCK_A)
    rows, columns = widen(rows, WIDE), widen(columns, WIDE)
    batch, head = image // heads, image % heads
    dy += batch * g_b + head * g_h
    a += batch * a_b + head * a_h
    da += batch * d_b + head * d_h
    inside = (rows < D)[None, :] & (columns < A)[:, None]
    m = tl.load(matrix + image * m_g + rows[None, :] * m_d + columns[:, None] * m_a, mask=inside, other=0.0)  # M^T
    m = operand(m, ROUNDED, OPERAND)
    product = tl.zeros((BLOCK_D, BLOCK_A), ACC)
    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        above = operand(load_tile(dy, rows, s, D, S, g_c, 1, 1, 0, 0, g_s, True, ACC), ROUNDED, OPERAND)
        right = operand(load_tile(a, columns, s, A, S, a_c, 1, 1, 0, 0, a_s, True, ACC), ROUNDED, OPERAND)
        product = tl.dot(above, tl.trans(right), product, input_precision=PRECISION, out_dtype=ACC)
        below = tl.dot(m, above, input_precision=PRECISION, out_dtype=ACC)
        store_tile(da, below, columns, s, A, S, d_c, 1, 1, 0, 0, d_s, True)
    partial += (image * spans + part) * D * A
    inside = (rows < D)[:, None] & (columns < A)[None, :]
    tl.store(partial + rows[:, None] * A + columns[None, :], product, mask=inside)
