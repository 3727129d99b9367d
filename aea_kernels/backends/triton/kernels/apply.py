"""The second shape of work: a matrix applied at every position."""

import triton
import triton.language as tl

from ..prologue import activate, load_norm, over_channels
from .tile import (
    image_pointer,
    load_following_tile,
    load_matrix,
    load_tile,
    matmul,
    store_tile,
    tile_positions,
)


@triton.jit(do_not_specialize=["groups", "splits", "steps"])
def apply_kernel(
    x,  # FeatureMap (B, C, S)
    norm,  # prologue of x, or None
    matrix,  # Matrix (groups, A, C), or (groups, A, C + 1) with HOMOGENEOUS
    y,  # FeatureMap (B, A, S)
    heads,
    groups,
    splits,
    steps,
    HOMOGENEOUS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ONE_TILE: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """y = M zh (+ x with RESIDUAL) over one split of an image, whose group is its own number or
    else the last.

    ONE_TILE: a single tile holds all channels; then matrix and norm are loaded once, and x once a
    position. With a norm over channels BLOCK_A holds all of y's, which are as many as x's.
    """
    # programs next to each other in the grid read the same split, for other rows of y
    pid = tl.program_id(0)
    tiles = tl.cdiv(y.channels, BLOCK_A)
    split = pid // tiles % splits
    image = pid // (tiles * splits)

    # rows of M and y; k: channels of x, which the product sums over
    rows = pid % tiles * BLOCK_A + tl.arange(0, BLOCK_A)
    k = tl.arange(0, BLOCK_K)
    known = rows < y.channels
    x_pointer, y_pointer = image_pointer(x, image, heads), image_pointer(y, image, heads)

    # images after the groups of one share the matrix of the last group
    group = tl.minimum(image, groups - 1)

    # the last column of M meets the 1 of zh: the same at every position
    constant = tl.zeros((BLOCK_A,), MATH.ACC)
    if HOMOGENEOUS:
        last = matrix.pointer + group.to(tl.int64) * matrix.group_stride
        last += rows * matrix.row_stride + x.channels * matrix.column_stride
        constant = tl.load(last, mask=known, other=0.0)

    # what does not depend on the position is loaded before the loop
    if ONE_TILE:
        affine = load_norm(norm, image, k, x.channels, MATH)
        m = load_matrix(matrix, group, rows, k, y.channels, x.channels, MATH)

    OVER_CHANNELS: tl.constexpr = norm is not None and norm.over_channels
    # maps that no asynchronous copy takes: each step loads the tile of the next one
    PREFETCH: tl.constexpr = ONE_TILE and MATH.HALF and x.layout.UNIT == 1
    if PREFETCH:
        following = load_tile(x, x_pointer, k, tile_positions(x, split, steps, 0, BLOCK_S))
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)
        result = tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC)

        # x is loaded once for the norm, the product and the residual
        if ONE_TILE:
            if PREFETCH:
                raw = following
                following = load_following_tile(x, x_pointer, k, s, step, steps)
            else:
                raw = load_tile(x, x_pointer, k, s)
            here = over_channels(raw, affine, k, x.channels, norm, MATH)
            result = matmul(m, activate(raw, here, norm, MATH), result, MATH)
        else:
            # the norm asks for all channels at once, the product takes them slice by slice
            if OVER_CHANNELS:
                raw = load_tile(x, x_pointer, rows, s)
                here = over_channels(raw, None, rows, x.channels, norm, MATH)

            for start in range(0, x.channels, BLOCK_K):
                c = start + k
                affine = here if OVER_CHANNELS else load_norm(norm, image, c, x.channels, MATH)
                m = load_matrix(matrix, group, rows, c, y.channels, x.channels, MATH)
                z = activate(load_tile(x, x_pointer, c, s), affine, norm, MATH)
                result = matmul(m, z, result, MATH)

            # the residual is x at the rows of y, which is none of these slices
            if RESIDUAL and not OVER_CHANNELS:
                raw = load_tile(x, x_pointer, rows, s)

        # the residual is added before y is rounded
        if RESIDUAL:
            result += raw.to(MATH.ACC)
        store_tile(y, y_pointer, result + constant[:, None], rows, s)
