"""The other families: a matrix applied to phi of every position and divided there, and its
derivative.
"""

import triton
import triton.language as tl

from .phi import divided_by, highest_channel, load_divisor, phi_of_queries
from .tile import (
    image_pointer,
    load_following_tile,
    load_matrix,
    load_tile,
    matmul,
    positions_of,
    store_tile,
    tile_positions,
)


@triton.jit(do_not_specialize=["splits", "steps"])
def phi_apply_kernel(
    x,  # FeatureMap (B, C, S)
    matrix,  # Matrix (B, A, C)
    y,  # FeatureMap (B, A, S)
    divisor,  # (B, C), with PHI "relu"
    eps,  # (B,), with PHI "relu"
    heads,
    splits,
    steps,
    PHI: tl.constexpr,
    ONE_TILE: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """y = M phi(x) over one split of an image, divided at every position.

    PHI: "relu", divided by divisor . phi(x) + eps; or "exp", divided by the sum of phi(x) over the
    channels, which makes it the softmax. ONE_TILE: a single tile holds all channels; then the
    matrix is loaded once, and x once a position.
    """
    # programs next to each other in the grid read the same split, for other rows of y
    pid = tl.program_id(0)
    tiles = tl.cdiv(y.channels, BLOCK_A)
    split = pid // tiles % splits
    image = pid // (tiles * splits)

    # rows of M and y; k: channels of x, which product and divisor sum over
    rows = pid % tiles * BLOCK_A + tl.arange(0, BLOCK_A)
    k = tl.arange(0, BLOCK_K)
    x_pointer, y_pointer = image_pointer(x, image, heads), image_pointer(y, image, heads)

    # what does not depend on the position is loaded before the loop
    weights, least = load_divisor(divisor, eps, image, k, x.channels, PHI)
    if ONE_TILE:
        m = load_matrix(matrix, image, rows, k, y.channels, x.channels, MATH)

    # maps that no asynchronous copy takes: each step loads the tile of the next one
    PREFETCH: tl.constexpr = ONE_TILE and MATH.HALF and x.layout.UNIT == 1
    if PREFETCH:
        following = load_tile(x, x_pointer, k, tile_positions(x, split, steps, 0, BLOCK_S))
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)
        result = tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC)

        # x is loaded once for phi, divisor and product
        if ONE_TILE:
            if PREFETCH:
                raw = following
                following = load_following_tile(x, x_pointer, k, s, step, steps)
            else:
                raw = load_tile(x, x_pointer, k, s)
            phi = phi_of_queries(raw.to(MATH.ACC), None, k, x.channels, PHI)
            total = divided_by(phi, weights, PHI)
            result = matmul(m, phi, result, MATH)
        else:
            # a softmax needs the maximum over all channels first: x is read a second time
            total = tl.zeros((BLOCK_S,), MATH.ACC)
            highest = total
            if PHI == "exp":
                highest = highest_channel(x, x_pointer, s, MATH, BLOCK_K)

            # product and divisor, slice by slice
            for start in range(0, x.channels, BLOCK_K):
                c = start + k
                m = load_matrix(matrix, image, rows, c, y.channels, x.channels, MATH)
                raw = load_tile(x, x_pointer, c, s).to(MATH.ACC)
                phi = phi_of_queries(raw, highest, c, x.channels, PHI)
                weights, _ = load_divisor(divisor, eps, image, c, x.channels, PHI)
                total += divided_by(phi, weights, PHI)
                result = matmul(m, phi, result, MATH)

        # the division comes last: one for each number of y, none for each of the matrix
        if PHI == "relu":
            total += least
        store_tile(y, y_pointer, result / total[None, :], rows, s)


@triton.jit(do_not_specialize=["splits", "steps"])
def phi_matrix_backward_kernel(
    grad_output,  # FeatureMap (B, D, S)
    a,  # FeatureMap (B, A, S)
    matrix,  # Matrix (B, D, A)
    grad_a,  # FeatureMap (B, A, S)
    partial,  # (B, splits, D, A), or with PHI "relu" (B, splits, D + 1, A)
    divisor,  # (B, A), with PHI "relu"
    eps,  # (B,), with PHI "relu"
    heads,
    splits,
    steps,
    PHI: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """The derivative of `phi_apply_kernel`, with u = dy / (what is divided by):

        grad_a = phi'(a) (M^T u + c * derivative of what is divided by)
        c = -phi(a) . M^T u / (what is divided by), its gradient
        partial = the sum over each split of u phi(a)^T; its last row is the sum of c phi(a)

    One tile holds all channels of dy, and one those of a.
    """
    # a program has one split of an image; rows: channels of dy, columns: channels of a
    pid = tl.program_id(0)
    split = pid % splits
    image = pid // splits
    rows = tl.arange(0, BLOCK_A)
    columns = tl.arange(0, BLOCK_K)
    dy_pointer, a_pointer = image_pointer(grad_output, image, heads), image_pointer(a, image, heads)
    da_pointer = image_pointer(grad_a, image, heads)

    # of M^T, rounded in the loop: held as factors it spills on sm_100
    m_pointer = matrix.pointer + image.to(tl.int64) * matrix.group_stride
    m_pointers = m_pointer + rows[None, :] * matrix.row_stride
    m_pointers += columns[:, None] * matrix.column_stride
    inside = (rows < grad_output.channels)[None, :] & (columns < a.channels)[:, None]
    m = tl.load(m_pointers, mask=inside, other=0.0)
    weights, least = load_divisor(divisor, eps, image, columns, a.channels, PHI)

    # what stays to the end of the split; sums are added up over lanes after the loop
    product = tl.zeros((BLOCK_A, BLOCK_K), MATH.ACC)
    if PHI == "relu":
        sums = tl.zeros((BLOCK_K, BLOCK_S), MATH.ACC)

    # phi and divisor are computed again, as forward
    for step in range(steps):
        s = tile_positions(a, split, steps, step, BLOCK_S)
        dy = load_tile(grad_output, dy_pointer, rows, s)
        raw = load_tile(a, a_pointer, columns, s).to(MATH.ACC)
        phi = phi_of_queries(raw, None, columns, a.channels, PHI)
        total = divided_by(phi, weights, PHI)
        if PHI == "relu":
            total += least

        # zero past the last position, so that nothing of it enters the sums
        inverse = tl.where(s < positions_of(a), 1.0 / total, 0.0)
        product = matmul(dy, tl.trans(phi * inverse[None, :]), product, MATH)
        da = matmul(m, dy, tl.zeros((BLOCK_K, BLOCK_S), MATH.ACC), MATH)
        da *= inverse[None, :]

        # c is the gradient of the divisor, which depends on phi too
        common = -tl.sum(phi * da, 0) * inverse
        if PHI == "relu":
            sums += phi * common[None, :]
            da = tl.where(phi > 0.0, da + weights[:, None] * common[None, :], 0.0)
        else:
            da = phi * (da + common[None, :])
        store_tile(grad_a, da_pointer, da, columns, s)

    # with "relu" a row more: what the divisor's weights are given
    height = grad_output.channels + 1 if PHI == "relu" else grad_output.channels
    partial += (image.to(tl.int64) * splits + split) * height * a.channels
    inside = (rows < grad_output.channels)[:, None] & (columns < a.channels)[None, :]
    tl.store(partial + rows[:, None] * a.channels + columns[None, :], product, mask=inside)
    if PHI == "relu":
        last = partial + grad_output.channels * a.channels + columns
        tl.store(last, tl.sum(sums, 1), mask=columns < a.channels)
