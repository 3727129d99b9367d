"""Partial sums joined in a fixed order, over the splits of an image and the images of a group."""

import triton
import triton.language as tl


@triton.jit(
    do_not_specialize=[
        "references_number",
        "positions",
        "images",
        "reference_images",
        "splits",
        "moments",
    ]
)
def reduce_splits_kernel(
    partial,  # (images, splits, A, W)
    maxima,  # (images, splits, A), or None
    references,  # (references_number, A), of any dtype
    result,  # (groups, A, W); with `moments` (groups, W, W)
    maximum,  # (groups, A), or None
    A,
    W,
    references_number,
    positions,  # of an image
    images,
    reference_images,
    splits,
    moments,
    MATH: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """result[group] = the sum of partial over the images of the group and their splits.

    The first `reference_images` images are groups of one, the others one group. `moments`: partial
    holds the first C rows of moments (C, C + 1); the last row and the moments of the references are
    added, these to every group of one. `maxima`: row r of a part is relative to exp(maxima[part,
    r]), that of the result to exp(maximum[group, r]).
    """
    # a program joins one tile of the result of one group
    tiles_w = tl.cdiv(W, BLOCK)
    tiles = tl.cdiv(A, BLOCK) * tiles_w
    group = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    rows = tile // tiles_w * BLOCK + tl.arange(0, BLOCK)
    columns = tile % tiles_w * BLOCK + tl.arange(0, BLOCK)
    inside = (rows < A)[:, None] & (columns < W)[None, :]

    # the last group: all images after the groups of one, whose parts follow each other in memory
    members = tl.where(group < reference_images, 1, images - reference_images)
    parts = members * splits
    area = tl.cast(A, tl.int64) * W  # A is no tensor where it is 1
    part = tl.arange(0, BLOCK_P)

    # the highest maximum of all parts comes first: their sums are brought to it
    if maxima is not None:
        maxima += tl.minimum(group, reference_images) * splits * A
        highest = tl.full((BLOCK,), float("-inf"), MATH.ACC)
        for start in range(0, parts, BLOCK_P):
            known = (start + part < parts)[:, None] & (rows < A)[None, :]
            found = tl.load(
                maxima + (start + part)[:, None] * A + rows[None, :],
                mask=known,
                other=float("-inf"),
            )
            highest = tl.maximum(highest, tl.max(found, 0))
        tl.store(maximum + group * A + rows, highest, mask=(rows < A) & (tile % tiles_w == 0))
        # no keys at all: exp(-inf - 0) is 0, and exp(-inf + inf) would be NaN
        highest = tl.where(highest == float("-inf"), 0.0, highest)

    # lane p adds up the parts p, p + BLOCK_P, ..., and the lanes follow: always in this order
    pointers = partial + tl.minimum(group, reference_images) * splits * area
    pointers = pointers + part[:, None, None] * area + (rows[:, None] * W + columns[None, :])[None]
    lanes = tl.zeros((BLOCK_P, BLOCK, BLOCK), MATH.ACC)
    for start in range(0, parts, BLOCK_P):
        known = (start + part < parts)[:, None, None] & inside[None]
        values = tl.load(pointers, mask=known, other=0.0)
        # each part comes from its own maximum to the highest
        if maxima is not None:
            known = (start + part < parts)[:, None] & (rows < A)[None, :]
            found = tl.load(
                maxima + (start + part)[:, None] * A + rows[None, :],
                mask=known,
                other=float("-inf"),
            )
            values *= tl.exp(found - highest[None, :])[:, :, None]
        lanes += values
        pointers += BLOCK_P * area
    total = tl.sum(lanes, 0)

    # references join the groups of one: the sum of (r, 1) r^T, a slice of them at a time
    joined = tl.where(group < reference_images, references_number, 0)
    for start in range(0, joined, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        left_inside = (r < joined)[None, :] & (rows < A)[:, None]
        right_inside = (r < joined)[:, None] & (columns < A)[None, :]
        left = tl.load(references + r[None, :] * A + rows[:, None], mask=left_inside, other=0.0)
        right = tl.load(
            references + r[:, None] * A + columns[None, :], mask=right_inside, other=0.0
        )
        right = tl.where((r < joined)[:, None] & (columns == A)[None, :], 1.0, right.to(MATH.ACC))
        left = left.to(MATH.ACC)
        total = tl.dot(left, right, total, input_precision=MATH.PRECISION, out_dtype=MATH.ACC)

    # the last row of moments is their last column, and the corner the number of keys
    result += group * (A + moments) * W
    tl.store(result + rows[:, None] * W + columns[None, :], total, mask=inside)
    if moments:
        last = result + A * W + rows[:, None] + 0 * columns[None, :]
        tl.store(last, total, mask=inside & (columns == A)[None, :])
        if tile == 0:
            tl.store(result + W * W - 1, (members.to(MATH.ACC) * positions + joined).to(MATH.ACC))
