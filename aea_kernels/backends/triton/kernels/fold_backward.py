"""The adjoint of the fold and of joining the references: `folding.fold_backward`, for up to 128
channels.

With T = (scale / n) Whv Gh Whk^T and dT = (scale / n) Wo^T dM Whq^T of every group and head, which
`scores_kernel` computes first:

    dG + dG^T = sum over heads of Whv^T dT Whk and its transpose, and this applied to the references
    dWhq = sum over groups of T^T Wo^T dM          dWo = sum over groups of dM Whq^T T^T
    dWhk = sum over groups of dT^T Whv Gh          dWhv = sum over groups of dT Whk Gh

One function for each of these six results; a program of `fold_backward_kernel` computes BLOCK
columns of one of them, and waits for no other program.
"""

import triton
import triton.language as tl

from .homogeneous import (
    columns_of,
    gram_columns,
    gram_times,
    key_of,
    load_block,
    load_vector,
    matrix_times,
    normaliser,
    query_of,
    rows_of,
    times,
    transposed_times,
    value_of,
)


@triton.jit(do_not_specialize=["groups"])
def scores_kernel(
    gram,  # (groups, C + 1, C + 1)
    matrix_grad,  # dM (groups, O, C + 1)
    weights,  # Projections
    scores,  # (2, groups, heads, D, E)
    groups,
    sizes,  # Channels
    SCALE: tl.constexpr,
    MATH: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """scores[0] = T and scores[1] = dT of every group and head.

    The derivative of T by the chain rule is dT without its factor; every gradient needs both.
    """
    # e: the columns of this program; the other channels it holds whole
    C, O, E, D, heads = sizes.C, sizes.O, sizes.E, sizes.D, sizes.heads  # noqa: E741
    width = C + 1
    tiles = tl.cdiv(E, BLOCK)
    part = tl.program_id(0) // tiles
    group = (part // heads % groups).to(tl.int64)
    head = part % heads
    e = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    c, o, d = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.O), tl.arange(0, BLOCKS.D)

    # the first programs compute T from keys and values, the others dT from queries and dM
    gram += group * width * width
    if part < groups * heads:
        keys = rows_of(key_of(weights, head, sizes), c, e, E, C, MATH)
        keys = gram_times(gram, keys, c, C, MATH)
        result = times(value_of(weights, head, sizes), keys, d, c, D, C, MATH)
    else:
        queries = rows_of(query_of(weights, head, sizes), c, e, E, C, MATH)
        matrix_grad += group * O * width
        applied = times((matrix_grad, width, matrix_grad + C, width), queries, o, c, O, C, MATH)
        output = weights.output_weight + head * D
        result = matrix_times(output, 1, heads * D, d, D, O, applied, MATH)

    # both have the factor scale / n: T by definition, dT by the derivative of M
    result *= normaliser(gram, C, SCALE)
    inside = (d < D)[:, None] & (e < E)[None, :]
    tl.store(scores + part.to(tl.int64) * D * E + d[:, None] * E + e[None, :], result, mask=inside)


# ---- the moments and the references --------------------------------------------------------------


@triton.jit
def _moments_columns(
    keys,
    values,
    derivatives,
    members,
    head,
    weights,
    sizes,
    MATH: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Whv^T dT keys + Whk^T dT^T values of one head, dT summed over `members` groups: homogeneous
    vectors.
    """
    C, E, D = sizes.C, sizes.E, sizes.D
    c, e, d = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)
    left = tl.zeros((d.shape[0], keys.shape[1]), MATH.ACC)
    right = tl.zeros((e.shape[0], keys.shape[1]), MATH.ACC)

    # the groups that share these vectors add up
    for _ in range(members):
        left += matrix_times(derivatives, E, 1, d, D, E, keys, MATH)
        right += matrix_times(derivatives, 1, E, e, E, D, values, MATH)
        derivatives += sizes.heads * D * E
    of_values = transposed_times(value_of(weights, head, sizes), left, d, c, D, C, MATH)
    of_keys = transposed_times(key_of(weights, head, sizes), right, e, c, E, C, MATH)
    return of_values[0] + of_keys[0], of_values[1] + of_keys[1]


@triton.jit
def _gram_grad(
    gram_grad, derivatives, group, j, weights, sizes, MATH: tl.constexpr, BLOCKS: tl.constexpr
):
    """Columns j of dG + dG^T of one group."""
    C, E, D = sizes.C, sizes.E, sizes.D
    width = C + 1
    c, e, d = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)

    # columns j of Whk and Whv are what the other factors apply to; heads add up
    main = tl.zeros((c.shape[0], j.shape[0]), MATH.ACC)
    last = tl.zeros((j.shape[0],), MATH.ACC)
    for head in range(sizes.heads):
        keys = columns_of(key_of(weights, head, sizes), e, j, E, C, MATH)
        values = columns_of(value_of(weights, head, sizes), d, j, D, C, MATH)
        here = derivatives + (group * sizes.heads + head) * D * E
        more = _moments_columns(keys, values, here, 1, head, weights, sizes, MATH, BLOCKS)
        main += more[0]
        last += more[1]

    # the rows of C channels, then the last row, that of the sums
    gram_grad += group * width * width
    inside = (j < width)[None, :] & (c < C)[:, None]
    tl.store(gram_grad + c[:, None] * width + j[None, :], main, mask=inside)
    tl.store(gram_grad + C * width + j, last, mask=j < width)


@triton.jit
def _references_grad(
    references_grad, references, number, derivatives, members, j, weights, sizes,
    MATH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Rows j of the gradient of the references: dG + dG^T, summed over the groups of one image,
    applied to them.
    """
    C, E, D = sizes.C, sizes.E, sizes.D
    c, e, d = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)

    # references are keys like positions: homogeneous vectors, whose last entry is 1
    rows = load_block(references, c, j, 1, C, C, number, MATH)
    rows = rows, tl.full((j.shape[0],), 1.0, MATH.ACC)

    # the last entry is a constant, so its gradient is left
    main = tl.zeros((c.shape[0], j.shape[0]), MATH.ACC)
    for head in range(sizes.heads):
        keys = times(key_of(weights, head, sizes), rows, e, c, E, C, MATH)
        values = times(value_of(weights, head, sizes), rows, d, c, D, C, MATH)
        here = derivatives + head * D * E
        more = _moments_columns(keys, values, here, members, head, weights, sizes, MATH, BLOCKS)
        main += more[0]
    inside = (j < number)[None, :] & (c < C)[:, None]
    tl.store(references_grad + j[None, :] * C + c[:, None], main, mask=inside)


# ---- the projections -----------------------------------------------------------------------------


@triton.jit
def _store_columns(weight, bias, values, head, rows, j, R, C):
    """Columns j of the gradient (R, C + 1) of one head of a projection into those of weight and
    bias.
    """
    known = rows < R
    weight += head * R * C + rows[:, None] * C + j[None, :]
    bias += head * R + rows[:, None] + 0 * j[None, :]
    tl.store(weight, values, mask=known[:, None] & (j < C)[None, :])
    tl.store(bias, values, mask=known[:, None] & (j == C)[None, :])


@triton.jit
def _query_grad(
    weights_grad, matrix_grad, scores, groups, head, j, weights, sizes,
    MATH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Columns j of dWhq of one head."""
    C, O, E, D = sizes.C, sizes.O, sizes.E, sizes.D  # noqa: E741
    width = C + 1
    o, e, d = tl.arange(0, BLOCKS.O), tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)
    output = weights.output_weight + head * D
    result = tl.zeros((e.shape[0], j.shape[0]), MATH.ACC)
    for _ in range(groups):
        u = load_block(matrix_grad, o, j, width, 1, O, width, MATH)
        u = matrix_times(output, 1, sizes.heads * D, d, D, O, u, MATH)
        result += matrix_times(scores, 1, E, e, E, D, u, MATH)
        matrix_grad += O * width
        scores += sizes.heads * D * E
    _store_columns(weights_grad.query_weight, weights_grad.query_bias, result, head, e, j, E, C)


@triton.jit
def _key_grad(
    weights_grad, gram, derivatives, groups, head, j, weights, sizes,
    MATH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Columns j of dWhk of one head."""
    C, E, D = sizes.C, sizes.E, sizes.D
    c, e, d = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)
    value = value_of(weights, head, sizes)
    result = tl.zeros((e.shape[0], j.shape[0]), MATH.ACC)
    for _ in range(groups):
        values = times(value, gram_columns(gram, c, j, C, MATH), d, c, D, C, MATH)
        result += matrix_times(derivatives, 1, E, e, E, D, values, MATH)
        gram += (C + 1) * (C + 1)
        derivatives += sizes.heads * D * E
    _store_columns(weights_grad.key_weight, weights_grad.key_bias, result, head, e, j, E, C)


@triton.jit
def _value_grad(
    weights_grad, gram, derivatives, groups, head, j, weights, sizes,
    MATH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Columns j of dWhv of one head."""
    C, E, D = sizes.C, sizes.E, sizes.D
    c, e, d = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.E), tl.arange(0, BLOCKS.D)
    key = key_of(weights, head, sizes)
    result = tl.zeros((d.shape[0], j.shape[0]), MATH.ACC)
    for _ in range(groups):
        keys = times(key, gram_columns(gram, c, j, C, MATH), e, c, E, C, MATH)
        result += matrix_times(derivatives, E, 1, d, D, E, keys, MATH)
        gram += (C + 1) * (C + 1)
        derivatives += sizes.heads * D * E
    _store_columns(weights_grad.value_weight, weights_grad.value_bias, result, head, d, j, D, C)


@triton.jit
def _output_grad(
    weights_grad, matrix_grad, scores, groups, head, j, first, weights, sizes,
    MATH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Columns j of dWo of one head; the `first` program writes the gradient of the bias."""
    C, O, E, D, heads = sizes.C, sizes.O, sizes.E, sizes.D, sizes.heads  # noqa: E741
    width = C + 1
    c, o, e = tl.arange(0, BLOCKS.C), tl.arange(0, BLOCKS.O), tl.arange(0, BLOCKS.E)
    query = query_of(weights, head, sizes)

    # dM times Whq^T T^T for the weight, and the last column of dM for the bias
    result = tl.zeros((o.shape[0], j.shape[0]), MATH.ACC)
    bias = tl.zeros((o.shape[0],), MATH.ACC)
    for _ in range(groups):
        t = load_block(scores, e, j, 1, E, E, D, MATH)
        attended = transposed_times(query, t, e, c, E, C, MATH)
        applied = (matrix_grad, width, matrix_grad + C, width)
        result += times(applied, attended, o, c, O, C, MATH)
        bias += load_vector(matrix_grad + C, o, width, O, MATH)
        matrix_grad += O * width
        scores += heads * D * E

    # a head has D of the columns of Wo
    inside = (o < O)[:, None] & (j < D)[None, :]
    pointers = weights_grad.output_weight + o[:, None] * heads * D + head * D + j[None, :]
    tl.store(pointers, result, mask=inside)
    tl.store(weights_grad.output_bias + o, bias, mask=(o < O) & first)


@triton.jit(do_not_specialize=["groups", "reference_images", "references_number"])
def fold_backward_kernel(
    gram,  # (groups, C + 1, C + 1)
    matrix_grad,  # dM (groups, O, C + 1)
    weights,  # Projections
    scores,  # (2, groups, heads, D, E), of `scores_kernel`
    references,  # (references_number, C)
    gram_grad,  # dG + dG^T (groups, C + 1, C + 1)
    references_grad,  # (references_number, C)
    weights_grad,  # Projections
    groups,
    reference_images,
    references_number,
    sizes,  # Channels
    MATH: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every gradient, by which program: the columns of every dG + dG^T; the references; for every
    head the columns of dWhq, dWhk, dWhv, dWo.
    """
    # the scores are T of all groups and heads, and then dT
    heads, area = sizes.heads, sizes.D * sizes.E
    tiles = tl.cdiv(sizes.C + 1, BLOCK)
    reference_tiles = tl.cdiv(references_number, BLOCK)
    # dWhq, dWhk and dWhv have C + 1 columns, dWo has D for a head
    weight_tiles = tl.cdiv(tl.maximum(sizes.C + 1, sizes.D), BLOCK)
    derivatives = scores + groups.to(tl.int64) * heads * area

    # dG + dG^T of each group, then the references, then the projections of each head
    program = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    if program < groups * tiles:
        group = (program // tiles).to(tl.int64)
        j = program % tiles * BLOCK + lane
        _gram_grad(gram_grad, derivatives, group, j, weights, sizes, MATH, BLOCKS)
    elif program < groups * tiles + reference_tiles:
        j = (program - groups * tiles) * BLOCK + lane
        _references_grad(
            references_grad, references, references_number, derivatives, reference_images, j,
            weights, sizes, MATH, BLOCKS,
        )  # fmt: skip
    else:
        # four results of as many programs each, by head and tile of columns
        program -= groups * tiles + reference_tiles
        result = program // (heads * weight_tiles)
        head = program // weight_tiles % heads
        j = program % weight_tiles * BLOCK + lane
        t, dt = scores + head * area, derivatives + head * area
        if result == 0:
            _query_grad(weights_grad, matrix_grad, t, groups, head, j, weights, sizes, MATH, BLOCKS)
        elif result == 1:
            _key_grad(weights_grad, gram, dt, groups, head, j, weights, sizes, MATH, BLOCKS)
        elif result == 2:
            _value_grad(weights_grad, gram, dt, groups, head, j, weights, sizes, MATH, BLOCKS)
        else:
            # the bias has no heads: one program writes it
            first = program == 3 * heads * weight_tiles
            _output_grad(
                weights_grad, matrix_grad, t, groups, head, j, first, weights, sizes, MATH,
                BLOCKS,
            )  # fmt: skip
