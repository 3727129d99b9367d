"""The first shape of work: an outer product summed over positions."""

import triton
import triton.language as tl

from .phi import relu
from .tile import (
    activate,
    image_pointer,
    load_following_tile,
    load_norm,
    load_tile,
    matmul,
    over_channels,
    positions_of,
    tile_positions,
)


@triton.jit(do_not_specialize=["splits", "steps"])
def outer_kernel(
    a,  # FeatureMap (B, A, S)
    x,  # FeatureMap (B, C, S)
    norm,  # Norm of x, or None
    partial,  # (B, splits, A, C), or (B, splits, A, C + 1) with HOMOGENEOUS, or with PHI "squares" (.., A + 1, C + 1)
    maxima,  # (B, splits, A), with PHI "exp"
    heads,
    splits,
    steps,
    GRAM: tl.constexpr,
    HOMOGENEOUS: tl.constexpr,
    PHI: tl.constexpr,
    ONE_TILE: tl.constexpr,
    NUMBERS: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_ALL: tl.constexpr,
):
    """partial = the sum over each split of a z^T, and with HOMOGENEOUS that of a in a last column.

    GRAM: a is x, and z stands on both sides. ONE_TILE: a single tile holds all channels and serves
    both sides.
    A norm over channels needs BLOCK_ALL channels of x, all of them; else it is BLOCK_K.
    PHI: "none"; or a is "relu" of itself; or "exp", exp(a - maximum) with the maximum over the
    split, found on the way, for which sums are rescaled; or "squares", and the last column is the
    sum of a^2, the last row that of x^2.
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
    affine = load_norm(norm, image, columns, x.channels, NUMBERS)
    a_affine = load_norm(norm if GRAM else None, image, rows, a.channels, NUMBERS)

    PREFETCH: tl.constexpr = NUMBERS.HALF and x.layout.UNIT == 1
    if PREFETCH:
        s = tile_positions(x, split, steps, 0, BLOCK_S)
        next_x, next_a = load_tile(x, x_pointer, columns, s), load_tile(a, a_pointer, rows, s)
    product = tl.zeros((BLOCK_A, BLOCK_K), NUMBERS.ACC)
    total = tl.zeros(
        (BLOCK_A, BLOCK_S), NUMBERS.ACC
    )  # added up over lanes at the end: no exchange in the loop
    if PHI == "squares":
        squares = tl.zeros((BLOCK_K, BLOCK_S), NUMBERS.ACC)
    if PHI == "exp":
        highest = tl.full((BLOCK_A,), float("-inf"), NUMBERS.ACC)
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)
        if PREFETCH:
            raw, raw_a = next_x, next_a
            next_x = load_following_tile(x, x_pointer, columns, s, step, steps)
            if not (GRAM and ONE_TILE):
                next_a = load_following_tile(a, a_pointer, rows, s, step, steps)
        else:
            raw = load_tile(x, x_pointer, columns, s)
            if not (GRAM and ONE_TILE):
                raw_a = load_tile(a, a_pointer, rows, s)
        whole = raw
        if BLOCK_ALL != BLOCK_K:
            whole = load_tile(x, x_pointer, everything, s)
        z = activate(
            raw, over_channels(whole, affine, everything, x.channels, norm, NUMBERS), norm, NUMBERS
        )
        if norm is not None:
            z = tl.where((s < positions_of(x))[None, :], z, 0.0)
        left = z
        if not (GRAM and ONE_TILE):
            left = raw_a.to(NUMBERS.ACC)
            if GRAM and norm is not None:
                left_affine = over_channels(whole, a_affine, everything, x.channels, norm, NUMBERS)
                left = activate(raw_a, left_affine, norm, NUMBERS)
                left = tl.where((s < positions_of(x))[None, :], left, 0.0)
        if PHI == "relu":
            left = relu(left)
        if PHI == "exp":
            left = tl.where((s < positions_of(a))[None, :], left, float("-inf"))
            higher = tl.maximum(highest, tl.max(left, 1))
            centre = tl.where(higher == float("-inf"), 0.0, higher)
            rescale = tl.exp(highest - centre)
            product *= rescale[:, None]
            total *= rescale[:, None]
            left = tl.exp(left - centre[:, None])
            highest = higher
        product = matmul(left, tl.trans(z), product, NUMBERS)
        if PHI == "squares":
            total += left * left
            squares += z * z
        elif HOMOGENEOUS:
            total += left

    width = x.channels + 1 if HOMOGENEOUS else x.channels
    height = a.channels + 1 if PHI == "squares" else a.channels
    partial += (image.to(tl.int64) * splits + split) * height * width
    inside = (rows < a.channels)[:, None] & (columns < x.channels)[None, :]
    tl.store(partial + rows[:, None] * width + columns[None, :], product, mask=inside)
    if HOMOGENEOUS:
        last = (rows < a.channels) & (tile_c == 0)
        tl.store(partial + rows * width + x.channels, tl.sum(total, 1), mask=last)
    if PHI == "squares":
        last = (columns < x.channels) & (tile_a == 0)
        tl.store(partial + a.channels * width + columns, tl.sum(squares, 1), mask=last)
        if pid % (tiles_a * tiles_c) == 0:
            tl.store(partial + a.channels * width + x.channels, 0.0)
    if PHI == "exp":
        maxima += (image.to(tl.int64) * splits + split) * a.channels
        tl.store(maxima + rows, highest, mask=(rows < a.channels) & (tile_c == 0))
