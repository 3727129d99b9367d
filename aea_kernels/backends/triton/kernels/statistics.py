"""Mean and variance of every channel, for BN: one pass over x, then one over the partial
results.
"""

import triton
import triton.language as tl

from .tile import image_pointer, load_tile, positions_of, tile_positions


@triton.jit(do_not_specialize=["splits", "steps"])
def statistics_kernel(
    x,  # FeatureMap (B, C, S)
    partial,  # (B, splits, 2, C)
    splits,
    steps,
    MATH: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    STAGES: tl.constexpr,
):
    """partial = mean and sum of squared deviations of every channel over each split.

    Every lane follows Welford (1962); the lanes are combined at the end as by Chan, Golub & LeVeque
    (1979).
    """
    # programs next to each other in the grid read the same split, of other channels
    pid = tl.program_id(0)
    tiles = tl.cdiv(x.channels, BLOCK_C)
    split = pid // tiles % splits
    image = pid // (tiles * splits)
    channels = pid % tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    pointer = image_pointer(x, image, 1)

    # each lane keeps mean and squares of the positions that it meets
    mean = tl.zeros((BLOCK_C, BLOCK_S), MATH.ACC)
    squares = tl.zeros((BLOCK_C, BLOCK_S), MATH.ACC)
    count = tl.zeros((BLOCK_S,), MATH.ACC)
    for step in tl.range(0, steps, num_stages=STAGES):
        s = tile_positions(x, split, steps, step, BLOCK_S)
        inside = s < positions_of(x)
        count += tl.where(inside, 1.0, 0.0)
        share = 1.0 / tl.maximum(count, 1.0)
        values = load_tile(x, pointer, channels, s).to(MATH.ACC)
        # a position past the last changes neither mean nor squares
        delta = tl.where(inside[None, :], values - mean, 0.0)
        mean += delta * share[None, :]
        squares += delta * (values - mean)

    # the lanes together: squares grow by those of the distances between their means
    number = tl.maximum(tl.sum(count, 0), 1.0)
    centre = tl.sum(mean * count[None, :], 1) / number
    away = mean - centre[:, None]

    # a part for each split of each image
    partial += (image.to(tl.int64) * splits + split) * 2 * x.channels
    tl.store(partial + channels, centre, mask=channels < x.channels)
    squares = tl.sum(squares + away * away * count[None, :], 1)
    tl.store(partial + x.channels + channels, squares, mask=channels < x.channels)


@triton.jit(do_not_specialize=["positions", "total", "parts", "splits", "span"])
def join_statistics_kernel(
    partial,  # (parts, 2, C), parts = images * splits
    mean,  # (C,)
    variance,  # (C,)
    C,
    positions,  # of an image
    total,  # positions of all images
    parts,
    splits,
    span,  # positions of a split; the last of an image may have fewer
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Mean and biased variance of every channel, in float64, from those of all splits.

    Means are taken from that of the first part, which keeps the digits where they are large beside
    the deviation.
    """
    # the pivot is the mean of the first part: it is near those of the others
    channels = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    known = channels < C
    pivot = tl.load(partial + channels, mask=known, other=0.0).to(tl.float64)
    first = tl.zeros((BLOCK_P, BLOCK_C), tl.float64)
    second = tl.zeros((BLOCK_P, BLOCK_C), tl.float64)

    # sums of deviations from the pivot, and of their squares, over all parts
    for start in range(0, parts, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        before = (part % splits).to(tl.int64) * span
        number = tl.minimum(tl.maximum(positions - before, 0), span).to(tl.float64)
        pointers = partial + part[:, None].to(tl.int64) * 2 * C + channels[None, :]
        inside = (part < parts)[:, None] & known[None, :]
        delta = tl.load(pointers, mask=inside, other=0.0).to(tl.float64) - pivot[None, :]
        within = tl.load(pointers + C, mask=inside, other=0.0).to(tl.float64)
        weighted = tl.where(inside, number[:, None] * delta, 0.0)
        first += weighted
        second += within + weighted * delta

    # back from the pivot to the mean
    shift = tl.sum(first, 0) / total
    tl.store(mean + channels, pivot + shift, mask=known)
    tl.store(
        variance + channels, tl.maximum(tl.sum(second, 0) / total - shift * shift, 0.0), mask=known
    )
