"""The other families: an outer product with phi on one side, summed over positions, and its
derivative.
"""

import triton
import triton.language as tl

from .phi import relu
from .tile import (
    image_pointer,
    load_following_tile,
    load_matrix,
    load_tile,
    load_transposed,
    matmul,
    positions_of,
    store_tile,
    tile_positions,
)


@triton.jit(do_not_specialize=["splits", "steps"])
def phi_outer_kernel(
    a,  # FeatureMap (B, A, S)
    x,  # FeatureMap (B, C, S)
    partial,  # (B, splits, A, C + 1), or with PHI "squares" (B, splits, A + 1, C + 1)
    maxima,  # (B, splits, A), with PHI "exp"
    heads,
    splits,
    steps,
    PHI: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """partial = the sum over each split of phi(a) x^T, and of phi(a) in a last column.

    PHI: "relu"; or "exp", exp(a - maximum) with the maximum over the split, found on the way, for
    which sums are rescaled; or "squares": phi(a) = a, the last column is the sum of a^2, the last
    row that of x^2.
    """
    # programs next to each other in the grid read the same split, for other parts of the product
    pid = tl.program_id(0)
    tiles_a, tiles_c = tl.cdiv(a.channels, BLOCK_A), tl.cdiv(x.channels, BLOCK_K)
    tile_c = pid % tiles_c
    tile_a = pid // tiles_c % tiles_a
    split = pid // (tiles_c * tiles_a) % splits
    image = pid // (tiles_c * tiles_a * splits)

    # rows: channels of a, columns: channels of x
    rows = tile_a * BLOCK_A + tl.arange(0, BLOCK_A)
    columns = tile_c * BLOCK_K + tl.arange(0, BLOCK_K)
    a_pointer, x_pointer = image_pointer(a, image, heads), image_pointer(x, image, heads)

    # maps that no asynchronous copy takes: each step loads the tiles of the next one
    PREFETCH: tl.constexpr = MATH.HALF and x.layout.UNIT == 1
    if PREFETCH:
        s = tile_positions(x, split, steps, 0, BLOCK_S)
        next_x, next_a = load_tile(x, x_pointer, columns, s), load_tile(a, a_pointer, rows, s)

    product = tl.zeros((BLOCK_A, BLOCK_K), MATH.ACC)
    # added up over lanes at the end: no exchange between threads in the loop
    total = tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC)
    if PHI == "squares":
        squares = tl.zeros((BLOCK_K, BLOCK_S), MATH.ACC)
    if PHI == "exp":
        highest = tl.full((BLOCK_A,), float("-inf"), MATH.ACC)
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)

        # no mask is needed where phi(0) = 0: past the last position both tiles are zero
        if PREFETCH:
            raw, raw_a = next_x, next_a
            next_x = load_following_tile(x, x_pointer, columns, s, step, steps)
            next_a = load_following_tile(a, a_pointer, rows, s, step, steps)
        else:
            raw, raw_a = load_tile(x, x_pointer, columns, s), load_tile(a, a_pointer, rows, s)
        right, left = raw.to(MATH.ACC), raw_a.to(MATH.ACC)
        if PHI == "relu":
            left = relu(left)

        # a higher maximum on the way: the sums until here are brought to it
        if PHI == "exp":
            left = tl.where((s < positions_of(a))[None, :], left, float("-inf"))
            higher = tl.maximum(highest, tl.max(left, 1))
            # where all keys are -inf: exp(-inf - 0) is 0, and exp(-inf + inf) would be NaN
            centre = tl.where(higher == float("-inf"), 0.0, higher)
            rescale = tl.exp(highest - centre)
            product *= rescale[:, None]
            total *= rescale[:, None]
            left = tl.exp(left - centre[:, None])
            highest = higher

        # sums of one side alone are kept by lanes
        product = matmul(left, tl.trans(right), product, MATH)
        if PHI == "squares":
            total += left * left
            squares += right * right
        else:
            total += left

    # a part for each split of each image; sums of one side are written by one program of many
    width = x.channels + 1
    height = a.channels + 1 if PHI == "squares" else a.channels
    partial += (image.to(tl.int64) * splits + split) * height * width
    inside = (rows < a.channels)[:, None] & (columns < x.channels)[None, :]
    tl.store(partial + rows[:, None] * width + columns[None, :], product, mask=inside)
    last = (rows < a.channels) & (tile_c == 0)
    tl.store(partial + rows * width + x.channels, tl.sum(total, 1), mask=last)
    if PHI == "squares":
        below = (columns < x.channels) & (tile_a == 0)
        tl.store(partial + a.channels * width + columns, tl.sum(squares, 1), mask=below)
        # the corner means nothing, but is read with the rest
        if pid % (tiles_a * tiles_c) == 0:
            tl.store(partial + a.channels * width + x.channels, 0.0)

    # what the sums of this split are relative to
    if PHI == "exp":
        maxima += (image.to(tl.int64) * splits + split) * a.channels
        tl.store(maxima + rows, highest, mask=last)


@triton.jit(do_not_specialize=["splits", "steps"])
def phi_outer_backward_kernel(
    a,  # FeatureMap (B, A, S)
    b,  # FeatureMap (B, C, S)
    matrix,  # Matrix (B, A, C)
    maximum,  # (B, A), with PHI "exp"
    a_constant,  # (B, A)
    b_constant,  # (B, C), with PHI "squares"
    grad_a,  # FeatureMap (B, A, S)
    grad_b,  # FeatureMap (B, C, S)
    heads,
    splits,
    steps,
    PHI: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """The derivative of `phi_outer_kernel`: grad_a = phi'(a) (M b + a_constant) and grad_b = M^T
    phi(a).

    PHI "squares": grad_a = M b + a_constant a, and grad_b = M^T a + b_constant b. One tile holds
    all channels of a, and one those of b.
    """
    # a program has one split of an image; rows: channels of a, columns: channels of b
    pid = tl.program_id(0)
    split = pid % splits
    image = pid // splits
    rows = tl.arange(0, BLOCK_A)
    columns = tl.arange(0, BLOCK_K)
    known_a, known_b = rows < a.channels, columns < b.channels
    a_pointer, b_pointer = image_pointer(a, image, heads), image_pointer(b, image, heads)
    da_pointer = image_pointer(grad_a, image, heads)
    db_pointer = image_pointer(grad_b, image, heads)
    wide = image.to(tl.int64)

    # M for grad_a, M^T for grad_b, and the gradients of the sums of one side
    m = load_matrix(matrix, image, rows, columns, a.channels, b.channels, MATH)
    m_transposed = load_transposed(matrix, image, columns, rows, b.channels, a.channels, MATH)
    constant = tl.load(a_constant + wide * a.channels + rows, mask=known_a, other=0.0)
    if PHI == "squares":
        other_constant = tl.load(b_constant + wide * b.channels + columns, mask=known_b, other=0.0)
    if PHI == "exp":
        centre = tl.load(maximum + wide * a.channels + rows, mask=known_a, other=0.0)
        centre = tl.where(centre == float("-inf"), 0.0, centre)

    # phi(a) is computed again, as forward
    for step in range(steps):
        s = tile_positions(a, split, steps, step, BLOCK_S)
        raw = load_tile(b, b_pointer, columns, s)
        phi = load_tile(a, a_pointer, rows, s).to(MATH.ACC)
        if PHI == "relu":
            phi = relu(phi)
        if PHI == "exp":
            phi = tl.exp(phi - centre[:, None])

        # both gradients through the product
        da = matmul(m, raw, tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC), MATH)
        db = matmul(m_transposed, phi, tl.zeros((BLOCK_K, BLOCK_S), MATH.ACC), MATH)

        # and through the sums of one side; the derivative of phi follows from phi itself
        if PHI == "squares":
            da += constant[:, None] * phi
            db += other_constant[:, None] * raw.to(MATH.ACC)
        elif PHI == "relu":
            da = tl.where(phi > 0.0, da + constant[:, None], 0.0)
        else:
            da = phi * (da + constant[:, None])
        store_tile(grad_a, da_pointer, da, rows, s)
        store_tile(grad_b, db_pointer, db, columns, s)
