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
    pid = tl.program_id(0)
    tiles_a, tiles_c = tl.cdiv(a.channels, BLOCK_A), tl.cdiv(x.channels, BLOCK_K)
    tile_c = pid % tiles_c
    tile_a = pid // tiles_c % tiles_a
    split = pid // (tiles_c * tiles_a) % splits
    image = pid // (tiles_c * tiles_a * splits)
    rows = tile_a * BLOCK_A + tl.arange(0, BLOCK_A)
    columns = tile_c * BLOCK_K + tl.arange(0, BLOCK_K)
    everything = tl.arange(0, BLOCK_ALL)
    a_pointer, x_pointer = image_pointer(a, image, heads), image_pointer(x, image, heads)
    affine = load_norm(norm, image, columns, x.channels, MATH)
    a_affine = load_norm(norm if GRAM else None, image, rows, a.channels, MATH)

    BOTH_SIDES: tl.constexpr = GRAM and ONE_TILE
    PREFETCH: tl.constexpr = MATH.HALF and x.layout.UNIT == 1
    if PREFETCH:
        s = tile_positions(x, split, steps, 0, BLOCK_S)
        next_x, next_a = load_tile(x, x_pointer, columns, s), load_tile(a, a_pointer, rows, s)
    product = tl.zeros((BLOCK_A, BLOCK_K), MATH.ACC)
    # added up over lanes at the end: no exchange between threads in the loop
    total = tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC)
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)
        if PREFETCH:
            raw, raw_a = next_x, next_a
            next_x = load_following_tile(x, x_pointer, columns, s, step, steps)
            if not BOTH_SIDES:
                next_a = load_following_tile(a, a_pointer, rows, s, step, steps)
        else:
            raw = load_tile(x, x_pointer, columns, s)
            if not BOTH_SIDES:
                raw_a = load_tile(a, a_pointer, rows, s)
        whole = raw
        if BLOCK_ALL != BLOCK_K:
            whole = load_tile(x, x_pointer, everything, s)

        here = over_channels(whole, affine, everything, x.channels, norm, MATH)
        z = zero_outside(activate(raw, here, norm, MATH), x, s, norm)
        left = z
        if not BOTH_SIDES:
            left = raw_a.to(MATH.ACC)
            if GRAM:
                here = over_channels(whole, a_affine, everything, x.channels, norm, MATH)
                left = zero_outside(activate(raw_a, here, norm, MATH), x, s, norm)
        product = matmul(left, tl.trans(z), product, MATH)
        if HOMOGENEOUS:
            total += left

    width = x.channels + 1 if HOMOGENEOUS else x.channels
    partial += (image.to(tl.int64) * splits + split) * a.channels * width
    inside = (rows < a.channels)[:, None] & (columns < x.channels)[None, :]
    tl.store(partial + rows[:, None] * width + columns[None, :], product, mask=inside)
    if HOMOGENEOUS:
        last = (rows < a.channels) & (tile_c == 0)
        tl.store(partial + rows * width + x.channels, tl.sum(total, 1), mask=last)
