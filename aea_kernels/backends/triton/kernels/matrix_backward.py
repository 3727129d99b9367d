"""Both derivatives of a matrix applied at every position, in one pass."""

import triton
import triton.language as tl

from .tile import image_pointer, load_tile, load_transposed, matmul, store_tile, tile_positions


@triton.jit(do_not_specialize=["splits", "steps"])
def matrix_backward_kernel(
    grad_output,  # FeatureMap (B, D, S)
    a,  # FeatureMap (B, A, S)
    matrix,  # Matrix (B, D, A)
    grad_a,  # FeatureMap (B, A, S)
    partial,  # (B, splits, D, A)
    heads,
    splits,
    steps,
    MATH: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """grad_a = M^T dy, and partial = the sum over each split of dy a^T.

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

    # M^T is loaded once, and the sum of dy a^T stays to the end of the split
    m = load_transposed(matrix, image, columns, rows, a.channels, grad_output.channels, MATH)
    product = tl.zeros((BLOCK_A, BLOCK_K), MATH.ACC)

    # each tile of dy and of a is loaded once: dy serves both products
    for step in range(steps):
        s = tile_positions(a, split, steps, step, BLOCK_S)
        dy = load_tile(grad_output, dy_pointer, rows, s)
        product = matmul(dy, tl.trans(load_tile(a, a_pointer, columns, s)), product, MATH)
        da = matmul(m, dy, tl.zeros((BLOCK_K, BLOCK_S), MATH.ACC), MATH)
        store_tile(grad_a, da_pointer, da, columns, s)

    partial += (image.to(tl.int64) * splits + split) * grad_output.channels * a.channels
    inside = (rows < grad_output.channels)[:, None] & (columns < a.channels)[None, :]
    tl.store(partial + rows[:, None] * a.channels + columns[None, :], product, mask=inside)
