"""The two shapes of work as Triton kernels, and the statistics of BN.

Notation as in `eager.py`: z = ReLU6(scale x + shift) or x, zh = (z, 1). A program belongs to one image (and head) and
one span of positions, and walks over it in tiles of (channels, positions); spans are summed outside, in a fixed order.
TILES is the number of channel tiles: where it is 1, a tile read once serves every use of it.

Every feature map is addressed by six strides: batch, head, channel and up to three spatial axes (``geometry``), so that
NCHW, channels_last, slices and expanded gradients are read and written where they lie.
"""

import triton
import triton.language as tl


@triton.jit
def positions_offset(s, n1, n2, s0, s1, s2, FLAT: tl.constexpr):
    """Offset of the positions s of a (n0, n1, n2) grid with strides s0, s1, s2; FLAT: they are equally spaced by s2."""
    if FLAT:
        return s * s2
    return s // (n1 * n2) * s0 + s // n2 % n1 * s1 + s % n2 * s2


@triton.jit
def load_tile(base, channels, s, C, S, stride_c, n1, n2, s0, s1, s2, FLAT: tl.constexpr, ACC: tl.constexpr):
    """(BLOCK_C, BLOCK_S) of a feature map in the accumulation dtype, zero outside."""
    inside = (channels < C)[:, None] & (s < S)[None, :]
    offsets = channels[:, None] * stride_c + positions_offset(s, n1, n2, s0, s1, s2, FLAT)[None, :]
    return tl.load(base + offsets, mask=inside, other=0.0).to(ACC)


@triton.jit
def activate(x, scale, shift, channels, s, C, S, NORM: tl.constexpr):
    """z of a tile of x, zero outside."""
    if NORM:
        a = tl.load(scale + channels, mask=channels < C, other=0.0)
        b = tl.load(shift + channels, mask=channels < C, other=0.0)
        z = tl.minimum(tl.maximum(x * a[:, None] + b[:, None], 0.0), 6.0)
        return tl.where((channels < C)[:, None] & (s < S)[None, :], z, 0.0)
    return x


@triton.jit
def operand(x, ROUNDED: tl.constexpr, OPERAND: tl.constexpr):
    """A factor of a product: rounded to the input's dtype, held in one that `tl.dot` multiplies."""
    return x.to(ROUNDED).to(OPERAND)


@triton.jit
def widen(index, WIDE: tl.constexpr):
    return index.to(tl.int64) if WIDE else index


@triton.jit
def outer_kernel(
    a, x, scale, shift, partial,
    A, C, S, heads, spans, span, n1, n2,
    a_b, a_h, a_c, a_0, a_1, a_2, x_b, x_h, x_c, x_0, x_1, x_2,
    NORM: tl.constexpr, GRAM: tl.constexpr, HOMOGENEOUS: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    TILES: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """partial[image, span] = sum over the span of a z^T, and with HOMOGENEOUS of a in a last column: (A, C + 1).

    GRAM: a is x, and z stands on both sides.
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

    product = tl.zeros((BLOCK_A, BLOCK_C), ACC)
    total = tl.zeros((BLOCK_A,), ACC)
    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        z = activate(load_tile(x, columns, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC),
                     scale, shift, columns, s, C, S, NORM)  # fmt: skip
        if GRAM and TILES == 1:
            left = z
        else:
            left = load_tile(a, rows, s, A, S, a_c, n1, n2, a_0, a_1, a_2, FLAT, ACC)
            left = activate(left, scale, shift, rows, s, A, S, NORM and GRAM)
        product = tl.dot(
            operand(left, ROUNDED, OPERAND),
            tl.trans(operand(z, ROUNDED, OPERAND)),
            product,
            input_precision=PRECISION,
            out_dtype=ACC,
        )
        total += tl.sum(left, 1)

    width = C + 1 if HOMOGENEOUS else C
    partial += (image * spans + part) * A * width
    inside = (rows < A)[:, None] & (columns < C)[None, :]
    tl.store(partial + rows[:, None] * width + columns[None, :], product, mask=inside)
    if HOMOGENEOUS:
        tl.store(partial + rows * width + C, total, mask=(rows < A) & (tile_c == 0))


@triton.jit
def apply_kernel(
    x, scale, shift, matrix, y,
    A, C, S, heads, spans, span, n1, n2,
    x_b, x_h, x_c, x_0, x_1, x_2, y_b, y_h, y_c, y_0, y_1, y_2, m_image, m_a, m_c,
    NORM: tl.constexpr, HOMOGENEOUS: tl.constexpr, RESIDUAL: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    TILES: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """y = M zh (+ x) over one span: matrix (images, A, C + 1), or (images, A, C) without HOMOGENEOUS."""
    pid = tl.program_id(0)
    tiles = tl.cdiv(A, BLOCK_A)
    part = pid // tiles % spans
    image = widen(pid // (tiles * spans), WIDE)
    rows = widen(pid % tiles * BLOCK_A + tl.arange(0, BLOCK_A), WIDE)
    x += image // heads * x_b + image % heads * x_h
    y += image // heads * y_b + image % heads * y_h
    matrix += image * m_image

    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        result = tl.zeros((BLOCK_A, BLOCK_S), ACC)
        for tile in tl.static_range(TILES):
            channels = widen(tile * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
            raw = load_tile(x, channels, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            z = activate(raw, scale, shift, channels, s, C, S, NORM)
            inside = (rows < A)[:, None] & (channels < C)[None, :]
            m = tl.load(matrix + rows[:, None] * m_a + channels[None, :] * m_c, mask=inside, other=0.0)
            result = tl.dot(
                operand(m, ROUNDED, OPERAND),
                operand(z, ROUNDED, OPERAND),
                result,
                input_precision=PRECISION,
                out_dtype=ACC,
            )
            if RESIDUAL and TILES == 1:
                result += raw
        if RESIDUAL and TILES > 1:
            result += load_tile(x, rows, s, A, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
        if HOMOGENEOUS:
            result += tl.load(matrix + rows * m_a + C * m_c, mask=rows < A, other=0.0)[:, None]
        offsets = rows[:, None] * y_c + positions_offset(s, n1, n2, y_0, y_1, y_2, FLAT)[None, :]
        tl.store(y + offsets, result.to(y.dtype.element_ty), mask=(rows < A)[:, None] & (s < S)[None, :])


@triton.jit
def backward_kernel(
    dy, x, scale, shift, matrix, pull, centre, slope, constant, dx, partial,
    C, S, spans, span, n1, n2,
    g_b, g_c, g_0, g_1, g_2, x_b, x_c, x_0, x_1, x_2, d_b, d_c, d_0, d_1, d_2,
    NORM: tl.constexpr, SUMS: tl.constexpr, WRITE: tl.constexpr, CENTRED: tl.constexpr, AFFINE: tl.constexpr,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ROUNDED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
    TILES: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """dz = M^T dy + pull zh over one span; WRITE: dx = dy + scale * dz where ReLU6 has slope (+ slope x + constant).

    SUMS: partial[image, span] = sums of dz * (x - centre) and of dz, (2, C).
    matrix (B, C, C + 1), pull (B, C + 1, C + 1).
    """
    pid = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    part = pid // tiles % spans
    image = widen(pid // (tiles * spans), WIDE)
    rows = widen(pid % tiles * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
    width = C + 1
    dy += image * g_b
    x += image * x_b
    dx += image * d_b
    matrix += image * C * width
    pull += image * width * width
    known = rows < C
    offset = tl.load(pull + rows * width + C, mask=known, other=0.0)
    dscale = tl.zeros((BLOCK_C,), ACC)
    dshift = tl.zeros((BLOCK_C,), ACC)

    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        dz = tl.zeros((BLOCK_C, BLOCK_S), ACC) + offset[:, None]
        for tile in tl.static_range(TILES):
            k = widen(tile * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
            inside = known[:, None] & (k < C)[None, :]
            above = load_tile(dy, k, s, C, S, g_c, n1, n2, g_0, g_1, g_2, FLAT, ACC)
            raw = load_tile(x, k, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            z = activate(raw, scale, shift, k, s, C, S, NORM)
            m = tl.load(matrix + k[None, :] * width + rows[:, None], mask=inside, other=0.0)  # M^T
            p = tl.load(pull + rows[:, None] * width + k[None, :], mask=inside, other=0.0)
            dz = tl.dot(
                operand(m, ROUNDED, OPERAND),
                operand(above, ROUNDED, OPERAND),
                dz,
                input_precision=PRECISION,
                out_dtype=ACC,
            )
            dz = tl.dot(
                operand(p, ROUNDED, OPERAND), operand(z, ROUNDED, OPERAND), dz, input_precision=PRECISION, out_dtype=ACC
            )
        if TILES > 1:
            above = load_tile(dy, rows, s, C, S, g_c, n1, n2, g_0, g_1, g_2, FLAT, ACC)
            raw = load_tile(x, rows, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            z = activate(raw, scale, shift, rows, s, C, S, NORM)
        if NORM:
            # z sits on the bounds exactly where ReLU6 has no slope
            dz = tl.where((z > 0.0) & (z < 6.0), dz, 0.0)
        if SUMS:
            values = raw
            if CENTRED:
                values = raw - tl.load(centre + rows, mask=known, other=0.0)[:, None]
            dscale += tl.sum(dz * values, 1)
            dshift += tl.sum(dz, 1)
        if WRITE:
            if NORM:
                dz = dz * tl.load(scale + rows, mask=known, other=0.0)[:, None]
            result = above + dz
            if AFFINE:
                result += raw * tl.load(slope + rows, mask=known, other=0.0)[:, None]
                result += tl.load(constant + rows, mask=known, other=0.0)[:, None]
            offsets = rows[:, None] * d_c + positions_offset(s, n1, n2, d_0, d_1, d_2, FLAT)[None, :]
            tl.store(dx + offsets, result.to(dx.dtype.element_ty), mask=known[:, None] & (s < S)[None, :])
    if SUMS:
        partial += (image * spans + part) * 2 * C
        tl.store(partial + rows, dscale, mask=known)
        tl.store(partial + C + rows, dshift, mask=known)


@triton.jit
def statistics_kernel(
    x, partial,
    C, S, spans, span, n1, n2, x_b, x_c, x_0, x_1, x_2,
    FLAT: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """partial[image, span] = mean and sum of squared deviations of every channel over the span, (2, C).

    Tiles are centred on their own mean and combined as by Chan, Golub & LeVeque (1979).
    """
    pid = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    part = pid // tiles % spans
    image = widen(pid // (tiles * spans), WIDE)
    channels = widen(pid % tiles * BLOCK_C + tl.arange(0, BLOCK_C), WIDE)
    x += image * x_b
    mean = tl.zeros((BLOCK_C,), ACC)
    squares = tl.zeros((BLOCK_C,), ACC)
    first = widen(part, WIDE) * span
    for start in range(0, span, BLOCK_S):
        s = first + start + tl.arange(0, BLOCK_S)
        number = tl.minimum(tl.maximum(S - first - start, 0), BLOCK_S).to(ACC)
        if number > 0:
            values = load_tile(x, channels, s, C, S, x_c, n1, n2, x_0, x_1, x_2, FLAT, ACC)
            centre = tl.sum(values, 1) / number
            deviation = tl.where((s < S)[None, :], values - centre[:, None], 0.0)
            before = start + 0.0
            delta = centre - mean
            mean += delta * (number / (before + number))
            squares += tl.sum(deviation * deviation, 1) + delta * delta * (before * number / (before + number))
    partial += (image * spans + part) * 2 * C
    tl.store(partial + channels, mean, mask=channels < C)
    tl.store(partial + C + channels, squares, mask=channels < C)
