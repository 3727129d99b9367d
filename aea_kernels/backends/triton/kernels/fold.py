"""The matrix that a block applies, from the moments of its keys: `block/folding.py`, for up to 128
channels.
"""

import triton
import triton.language as tl

from .homogeneous import (
    columns_of,
    gram_times,
    key_of,
    load_vector,
    matrix_times,
    normaliser,
    query_of,
    times,
    transposed_times,
    value_of,
)


@triton.jit
def fold_kernel(
    gram,  # (groups, C + 1, C + 1)
    weights,  # Projections
    matrix,  # (groups, O, C + 1)
    sizes,  # Channels
    SCALE: tl.constexpr,
    MATH: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """M = (scale / n) sum over heads of Wo Whv Gh Whk^T Whq, + [0 bo].

    A program computes BLOCK columns, and waits for no other program.
    """
    # j: the columns of M of this program; the other channels it holds whole
    C, O, E, D = sizes.C, sizes.O, sizes.E, sizes.D  # noqa: E741
    width = C + 1
    tiles = tl.cdiv(width, BLOCK)
    group = (tl.program_id(0) // tiles).to(tl.int64)
    j = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    c, o = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.O)
    e, d = tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)

    # from the right: each factor is multiplied by BLOCK columns of what follows it
    gram += group * width * width
    result = tl.zeros((o.shape[0], BLOCK), MATH.ACC)
    for head in range(sizes.heads):
        query = columns_of(query_of(weights, head, sizes), e, j, E, C, MATH)
        u = transposed_times(key_of(weights, head, sizes), query, e, c, E, C, MATH)
        u = gram_times(gram, u, c, C, MATH)
        attended = times(value_of(weights, head, sizes), u, d, c, D, C, MATH)
        output = weights.output_weight + head * D
        result += matrix_times(output, sizes.heads * D, 1, o, O, D, attended, MATH)

    # the output bias belongs to the last column of M, which meets the 1 of zh
    result *= normaliser(gram, C, SCALE)
    bias = load_vector(weights.output_bias, o, 1, O, MATH)
    result += tl.where((j == C)[None, :], bias[:, None], 0.0)
    inside = (o < O)[:, None] & (j < width)[None, :]
    tl.store(matrix + group * O * width + o[:, None] * width + j[None, :], result, mask=inside)
