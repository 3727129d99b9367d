"""The gradient of the feature map in a whole block."""

import triton
import triton.language as tl

from ..prologue import activate, activation_backward, load_norm, norm_backward, over_channels
from .tile import (
    image_pointer,
    load_following_tile,
    load_tile,
    matmul,
    positions_of,
    store_tile,
    tile_positions,
    to_dot_dtype,
)


@triton.jit
def _norm_gradients(partial, parts, rows, C, ACC: tl.constexpr, BLOCK_P: tl.constexpr):
    """Sums of partial (parts, 2, C), in a fixed order: the gradients of weight and bias of some
    channels.
    """
    weight = tl.zeros((BLOCK_P, rows.shape[0]), ACC)
    bias = tl.zeros((BLOCK_P, rows.shape[0]), ACC)
    for start in range(0, parts, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        pointers = partial + part[:, None] * 2 * C + rows[None, :]
        inside = (part < parts)[:, None] & (rows < C)[None, :]
        weight += tl.load(pointers, mask=inside, other=0.0)
        bias += tl.load(pointers + C, mask=inside, other=0.0)
    return tl.sum(weight, 0), tl.sum(bias, 0)


@triton.jit(do_not_specialize=["groups", "splits", "steps", "parts", "total"])
def features_backward_kernel(
    grad_output,  # FeatureMap (B, C, S)
    x,  # FeatureMap (B, C, S)
    norm,  # prologue of x, or None
    matrix,  # (groups, C, C + 1)
    gram_grad,  # (groups, C + 1, C + 1), dG + dG^T
    partial,  # (parts, 2, C): of the gradients of norm's weight and bias
    norm_grad,  # (2, C)
    grad_x,  # FeatureMap (B, C, S)
    groups,
    splits,
    steps,
    parts,
    total,  # positions of all images
    SUMS: tl.constexpr,
    WRITE: tl.constexpr,
    STATISTICS: tl.constexpr,
    ONE_TILE: tl.constexpr,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """dz = M^T dy + (dG + dG^T) zh over one split of an image, where z is what the prologue makes
    of x; with "batch" only where ReLU6 has slope. With a norm over channels BLOCK_A holds all.

    SUMS: partial[image, split] = sums of dz (x - mean) / deviation and of dz.
    WRITE: grad_x = dy + what dz is through norm. STATISTICS: the mean and variance of norm are
    those of x, so the sums of all parts flow back through them; the first programs write them to
    norm_grad.
    """
    # programs next to each other in the grid read the same split, for other rows of dz
    pid = tl.program_id(0)
    tiles = tl.cdiv(x.channels, BLOCK_A)
    split = pid // tiles % splits
    image = pid // (tiles * splits)

    # rows of dz and dx; k: channels of dy and x, which the products sum over
    rows = pid % tiles * BLOCK_A + tl.arange(0, BLOCK_A)
    k = tl.arange(0, BLOCK_K)
    C = x.channels
    width = C + 1
    known = rows < C

    # this image's M^T and dG + dG^T, whose last column meets the 1 of zh
    group = tl.minimum(image, groups - 1).to(tl.int64)
    m_rows = matrix + group * C * width + rows[:, None]  # of M^T
    g_rows = gram_grad + group * width * width + rows[:, None] * width
    dy_pointer, x_pointer = image_pointer(grad_output, image, 1), image_pointer(x, image, 1)
    dx_pointer = image_pointer(grad_x, image, 1)
    constant = tl.load(gram_grad + group * width * width + rows * width + C, mask=known, other=0.0)

    # what does not depend on the position is loaded before the loop
    affine = load_norm(norm, image, rows, C, MATH)
    centre, scale, _, deviation = affine
    if ONE_TILE:
        square = known[:, None] & known[None, :]
        m = to_dot_dtype(tl.load(m_rows + rows[None, :] * width, mask=square, other=0.0), MATH)
        g = to_dot_dtype(tl.load(g_rows + rows[None, :], mask=square, other=0.0), MATH)

    # back through BN's mean and variance: slope (x - mean) + offset, from the sums of all parts
    if STATISTICS:
        weight_grad, bias_grad = _norm_gradients(partial, parts, rows, C, MATH.ACC, 32)
        number = tl.cast(total, MATH.ACC)
        slope = -weight_grad / number * scale / deviation
        offset = -bias_grad / number * scale
        if MATH.HALF:
            # the loop takes x for x - mean
            offset -= centre * slope
        # each channel is written once, by the first split of the first image
        first = known & (pid < tiles)
        tl.store(norm_grad + rows, weight_grad, mask=first)
        tl.store(norm_grad + C + rows, bias_grad, mask=first)

    if SUMS:
        weight_sum = tl.zeros((BLOCK_A,), MATH.ACC)
        bias_sum = tl.zeros((BLOCK_A,), MATH.ACC)

    OVER_CHANNELS: tl.constexpr = norm is not None and norm.over_channels
    # maps that no asynchronous copy takes: each step loads dy of the next one
    PREFETCH: tl.constexpr = ONE_TILE and MATH.HALF and x.layout.UNIT == 1
    if PREFETCH:
        s = tile_positions(x, split, steps, 0, BLOCK_S)
        next_dy = load_tile(grad_output, dy_pointer, rows, s)
    for step in range(steps):
        s = tile_positions(x, split, steps, step, BLOCK_S)
        dz = tl.zeros((BLOCK_A, BLOCK_S), MATH.ACC)

        # dz in slices of channels: first M^T dy, then (dG + dG^T) z
        if not ONE_TILE:
            # the norm asks for all channels at once
            if OVER_CHANNELS:
                here = over_channels(load_tile(x, x_pointer, rows, s), affine, rows, C, norm, MATH)
            for start in range(0, C, BLOCK_K):
                c = start + k
                square = known[:, None] & (c < C)[None, :]
                m = tl.load(m_rows + c[None, :] * width, mask=square, other=0.0)
                dz = matmul(m, load_tile(grad_output, dy_pointer, c, s), dz, MATH)
            for start in range(0, C, BLOCK_K):
                c = start + k
                square = known[:, None] & (c < C)[None, :]
                g = tl.load(g_rows + c[None, :], mask=square, other=0.0)
                raw = load_tile(x, x_pointer, c, s)
                part = here if OVER_CHANNELS else load_norm(norm, image, c, C, MATH)
                dz = matmul(g, activate(raw, part, norm, MATH), dz, MATH)

        # dy and x at the rows of dz: for the residual, the activation and the norm
        if PREFETCH:
            dy = next_dy
            next_dy = load_following_tile(grad_output, dy_pointer, rows, s, step, steps)
        else:
            dy = load_tile(grad_output, dy_pointer, rows, s)
        raw = load_tile(x, x_pointer, rows, s).to(MATH.ACC)
        # from the mean; with 16 bits the mean is taken into account later
        away = raw if MATH.HALF else raw - centre[:, None]

        # z at these rows; past the last position the norm makes something else of zero
        now = over_channels(raw, affine, rows, C, norm, MATH)
        z = activate(raw, now, norm, MATH)
        if SUMS:
            z = tl.where((s < positions_of(x))[None, :], z, 0.0)  # so that dz is zero there too

        # the same products where a tile has all channels
        if ONE_TILE:
            dz = matmul(m, dy, dz, MATH)
            dz = matmul(g, z, dz, MATH)

        # now dz is that before the activation
        dz += constant[:, None]
        dz = activation_backward(dz, z, norm)
        if SUMS:
            # divided by the deviation after the loop
            weight_sum += tl.sum(dz * away, 1)
            bias_sum += tl.sum(dz, 1)

        # dx: dy past the block, dz through the norm, and what comes through its statistics
        if WRITE:
            dz = norm_backward(dz, z, now, C, norm)
            if STATISTICS:
                dz += away * slope[:, None] + offset[:, None]
            store_tile(grad_x, dx_pointer, dy.to(MATH.ACC) + dz, rows, s)

    # a part of the gradients of weight and bias, for each split of each image
    if SUMS:
        if MATH.HALF:
            # the loop took x for x - mean
            weight_sum -= centre * bias_sum
        partial += (image.to(tl.int64) * splits + split) * 2 * C
        tl.store(partial + rows, weight_sum / deviation, mask=known)
        tl.store(partial + C + rows, bias_sum, mask=known)
