"""The first shape of work: an outer product summed over positions."""

import triton
import triton.language as tl

from ..prologue import activate, load_norm, over_channels
from .tile import (
    image_pointer,
    load_following_tile,
    load_tile,
    matmul,
    tile_positions,
    zero_outside,
)


@triton.jit(do_not_specialize=["splits", "steps"])
def outer_kernel(
    a,  # FeatureMap (B, A, S)
    x,  # FeatureMap (B, C, S)
    norm,  # prologue of x, or None
    partial,  # (B, splits, A, C), or (B, splits, A, C + 1) with HOMOGENEOUS
    heads,
    splits,
    steps,
    GRAM: tl.constexpr,
    HOMOGENEOUS: tl.constexpr,
    ONE_TILE: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_ALL: tl.constexpr,
):
    """partial = the sum over each split of a z^T, and with HOMOGENEOUS that of a in a last column.

    GRAM: a is x, and z stands on both sides. ONE_TILE: a single tile holds all channels and serves
    both sides. A norm over channels needs BLOCK_ALL channels of x, all of them; else it is BLOCK_K.
    """
    # programs next to each other in the grid read the same split, for other parts of the product
    pid = tl.program_id(0)
    tiles_a, tiles_c = tl.cdiv(a.channels, BLOCK_A), tl.cdiv(x.channels, BLOCK_K)
    tile_c = pid % tiles_c
    tile_a = pid // tiles_c % tiles_a
    split = pid // (tiles_c * tiles_a) % splits
    image = pid // (tiles_c * tiles_a * splits)

    # rows: channels of a, columns: channels of z; a norm over channels needs all of them
    rows = tile_a * BLOCK_A + tl.arange(0, BLOCK_A)
    columns = tile_c * BLOCK_K + tl.arange(0, BLOCK_K)
    everything = tl.arange(0, BLOCK_ALL)
    a_pointer, x_pointer = image_pointer(a, image, heads), image_pointer(x, image, heads)

    # with GRAM the left side is z at the rows, which take their own part of the norm
    affine = load_norm(norm, image, columns, x.channels, MATH)
    a_affine = load_norm(norm if GRAM else None, image, rows, a.channels, MATH)

    BOTH_SIDES: tl.constexpr = GRAM and ONE_TILE
    # maps that no asynchronous copy takes: each step loads the tiles of the next one
    PREFETCH: tl.constexpr = MATH.HALF and x.layout.UNIT == 1
    if PREFETCH:
        s = tile_positions(x, split, steps, 0, BLOCK_S)
        next_x, next_a = load_tile(x, x_pointer, columns, s), load_tile(a, a_pointer, rows, s)

    product = tl.zeros((BLOCK_A, BLOCK_K), MATH.ACC)
    # added up over lanes at the end: no exchange between threads in the loop
    total = tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC)
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)

        # one tile for both sides is loaded once
        if PREFETCH:
            raw, raw_a = next_x, next_a
            next_x = load_following_tile(x, x_pointer, columns, s, step, steps)
            if not BOTH_SIDES:
                next_a = load_following_tile(a, a_pointer, rows, s, step, steps)
        else:
            raw = load_tile(x, x_pointer, columns, s)
            if not BOTH_SIDES:
                raw_a = load_tile(a, a_pointer, rows, s)

        # a norm over channels looks at channels that other programs have, too
        whole = raw
        if BLOCK_ALL != BLOCK_K:
            whole = load_tile(x, x_pointer, everything, s)

        # the norm makes something else of the zeros past the last position
        here = over_channels(whole, affine, everything, x.channels, norm, MATH)
        z = zero_outside(activate(raw, here, norm, MATH), x, s, norm)

        # the left side: z itself, a as it is, or z at other channels
        left = z
        if not BOTH_SIDES:
            left = raw_a.to(MATH.ACC)
            if GRAM:
                here = over_channels(whole, a_affine, everything, x.channels, norm, MATH)
                left = zero_outside(activate(raw_a, here, norm, MATH), x, s, norm)

        # the sum of the left side is its product with the 1 of zh
        product = matmul(left, tl.trans(z), product, MATH)
        if HOMOGENEOUS:
            total += left

    # a part for each split of each image; of all programs with these rows one writes their sums
    width = x.channels + 1 if HOMOGENEOUS else x.channels
    partial += (image.to(tl.int64) * splits + split) * a.channels * width
    inside = (rows < a.channels)[:, None] & (columns < x.channels)[None, :]
    tl.store(partial + rows[:, None] * width + columns[None, :], product, mask=inside)
    if HOMOGENEOUS:
        last = (rows < a.channels) & (tile_c == 0)
        tl.store(partial + rows * width + x.channels, tl.sum(total, 1), mask=last)
