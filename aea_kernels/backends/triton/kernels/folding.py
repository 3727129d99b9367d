"""The C x C algebra between the two passes, that of `aea_kernels/folding.py`, for up to 128
channels.

A homogeneous matrix [W b] (R, C + 1) is a tuple: pointer and row stride of W, pointer and stride of
b. A homogeneous vector is one of C entries and one more, which meets b: columns of them are a
matrix (C, BLOCK) and a row (BLOCK,), because `tl.dot` does not take C + 1. Products run from right
to left, so that every factor on the right has BLOCK columns. A program computes BLOCK columns of
one result and waits for no other program.
"""

import triton
import triton.language as tl


@triton.jit
def _load(pointer, rows, columns, row_stride, column_stride, R, C, NUMBERS: tl.constexpr):
    """Some rows and columns of a matrix (R, C), zero outside."""
    inside = (rows < R)[:, None] & (columns < C)[None, :]
    values = tl.load(
        pointer + rows[:, None] * row_stride + columns[None, :] * column_stride,
        mask=inside,
        other=0.0,
    )
    return values.to(NUMBERS.ACC)


@triton.jit
def _product(pointer, row_stride, column_stride, rows, R, K, right, NUMBERS: tl.constexpr):
    """Some rows of a matrix (R, K) times `right` (BLOCK_K, BLOCK), zero from row K on.

    Summed over slices of K: a thread that held all of K would spill registers.
    """
    BLOCK: tl.constexpr = right.shape[1]
    result = tl.zeros((rows.shape[0], BLOCK), NUMBERS.ACC)
    for start in range(0, K, 16):
        k = start + tl.arange(0, 16)
        left = _load(pointer, rows, k, row_stride, column_stride, R, K, NUMBERS)
        part = tl.gather(right, tl.broadcast_to(k[:, None], (16, BLOCK)), 0)
        result = tl.dot(
            left, part, result, input_precision=NUMBERS.PRECISION, out_dtype=NUMBERS.ACC
        )
    return result


@triton.jit
def _load_vector(pointer, index, stride, N, NUMBERS: tl.constexpr):
    return tl.load(pointer + index * stride, mask=index < N, other=0.0).to(NUMBERS.ACC)


@triton.jit
def _columns(matrix, rows, j, R, C, NUMBERS: tl.constexpr):
    """Columns j of a homogeneous matrix, (R, BLOCK)."""
    weight, row_stride, bias, bias_stride = matrix
    values = _load(weight, rows, j, row_stride, 1, R, C, NUMBERS)
    return tl.where(
        (j == C)[None, :], _load_vector(bias, rows, bias_stride, R, NUMBERS)[:, None], values
    )


@triton.jit
def _rows(matrix, c, j, R, C, NUMBERS: tl.constexpr):
    """Rows j of a homogeneous matrix as homogeneous vectors."""
    weight, row_stride, bias, bias_stride = matrix
    return _load(weight, c, j, 1, row_stride, C, R, NUMBERS), _load_vector(
        bias, j, bias_stride, R, NUMBERS
    )


@triton.jit
def _times(matrix, u, rows, c, R, C, NUMBERS: tl.constexpr):
    """A homogeneous matrix times homogeneous vectors u, (R, BLOCK)."""
    weight, row_stride, bias, bias_stride = matrix
    product = _product(weight, row_stride, 1, rows, R, C, u[0], NUMBERS)
    return product + _load_vector(bias, rows, bias_stride, R, NUMBERS)[:, None] * u[1][None, :]


@triton.jit
def _transposed_times(matrix, a, rows, c, R, C, NUMBERS: tl.constexpr):
    """The transpose of a homogeneous matrix times a (R, BLOCK): homogeneous vectors."""
    weight, row_stride, bias, bias_stride = matrix
    last = tl.sum(_load_vector(bias, rows, bias_stride, R, NUMBERS)[:, None] * a, 0)
    return _product(weight, 1, row_stride, c, C, R, a, NUMBERS), last


@triton.jit
def _gram_times(gram, u, c, C, NUMBERS: tl.constexpr):
    """Moments (C + 1, C + 1) times homogeneous vectors u: homogeneous vectors."""
    width = C + 1
    sums = _load_vector(gram + C * width, c, 1, C, NUMBERS)
    last = tl.sum(sums[:, None] * u[0], 0) + tl.load(gram + width * width - 1) * u[1]
    return _product(gram, width, 1, c, C, C, u[0], NUMBERS) + sums[:, None] * u[1][None, :], last


@triton.jit
def _gram_columns(gram, c, j, C, NUMBERS: tl.constexpr):
    """Columns j of moments (C + 1, C + 1) as homogeneous vectors."""
    width = C + 1
    main = _load(gram, c, j, width, 1, C, width, NUMBERS)
    return main, _load_vector(gram + C * width, j, 1, width, NUMBERS)


@triton.jit
def _normaliser(gram, C, scale: tl.constexpr):
    """scale / n; over no keys at all the sum is zero, so its normaliser may be anything finite."""
    return scale / tl.maximum(tl.load(gram + (C + 1) * (C + 1) - 1), 1.0)


@triton.jit
def _head(weight, bias, head, rows, C):
    """The rows of one head of a projection as a homogeneous matrix (rows, C + 1)."""
    return weight + head * rows * C, C, bias + head * rows, 1


@triton.jit
def fold_kernel(
    gram,  # (groups, C + 1, C + 1)
    weights,  # Projections
    matrix,  # (groups, O, C + 1)
    C,
    O,  # noqa: E741
    E,
    D,
    heads,
    SCALE: tl.constexpr,
    NUMBERS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """M = (scale / n) sum over heads of Wo Whv Gh Whk^T Whq, + [0 bo]."""
    width = C + 1
    tiles = tl.cdiv(width, BLOCK)
    group = (tl.program_id(0) // tiles).to(tl.int64)
    j = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    c, o, e, d = (
        tl.arange(0, BLOCK_C),
        tl.arange(0, BLOCK_O),
        tl.arange(0, BLOCK_E),
        tl.arange(0, BLOCK_D),
    )
    gram += group * width * width
    result = tl.zeros((BLOCK_O, BLOCK), NUMBERS.ACC)
    for head in range(heads):
        query = _columns(
            _head(weights.query_weight, weights.query_bias, head, E, C), e, j, E, C, NUMBERS
        )
        key = _head(weights.key_weight, weights.key_bias, head, E, C)
        value = _head(weights.value_weight, weights.value_bias, head, D, C)
        u = _transposed_times(key, query, e, c, E, C, NUMBERS)
        u = _gram_times(gram, u, c, C, NUMBERS)
        attended = _times(value, u, d, c, D, C, NUMBERS)
        result += _product(
            weights.output_weight + head * D, heads * D, 1, o, O, D, attended, NUMBERS
        )
    result *= _normaliser(gram, C, SCALE)
    bias = _load_vector(weights.output_bias, o, 1, O, NUMBERS)
    result += tl.where((j == C)[None, :], bias[:, None], 0.0)
    inside = (o < O)[:, None] & (j < width)[None, :]
    tl.store(matrix + group * O * width + o[:, None] * width + j[None, :], result, mask=inside)


@triton.jit(do_not_specialize=["groups"])
def scores_kernel(
    gram,  # (groups, C + 1, C + 1)
    matrix_grad,  # dM (groups, O, C + 1)
    weights,  # Projections
    scores,  # (2, groups, heads, D, E)
    groups,
    C,
    O,  # noqa: E741
    E,
    D,
    heads,
    SCALE: tl.constexpr,
    NUMBERS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """scores[0] = (scale / n) Whv Gh Whk^T and scores[1] = (scale / n) Wo^T dM Whq^T, of every
    group and head.

    The derivative of scores[0] by the chain rule is scores[1] without its factor; every gradient
    needs both.
    """
    width = C + 1
    tiles = tl.cdiv(E, BLOCK)
    part = tl.program_id(0) // tiles
    group = (part // heads % groups).to(tl.int64)
    head = part % heads
    e = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    c, o, d = tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_O), tl.arange(0, BLOCK_D)
    gram += group * width * width
    if part < groups * heads:
        key = _head(weights.key_weight, weights.key_bias, head, E, C)
        value = _head(weights.value_weight, weights.value_bias, head, D, C)
        keys = _gram_times(gram, _rows(key, c, e, E, C, NUMBERS), c, C, NUMBERS)
        result = _times(value, keys, d, c, D, C, NUMBERS)
    else:
        query = _head(weights.query_weight, weights.query_bias, head, E, C)
        matrix_grad += group * O * width
        rows = _rows(query, c, e, E, C, NUMBERS)
        product = _times((matrix_grad, width, matrix_grad + C, width), rows, o, c, O, C, NUMBERS)
        result = _product(weights.output_weight + head * D, 1, heads * D, d, D, O, product, NUMBERS)
    result *= _normaliser(gram, C, SCALE)
    inside = (d < D)[:, None] & (e < E)[None, :]
    tl.store(scores + part.to(tl.int64) * D * E + d[:, None] * E + e[None, :], result, mask=inside)


@triton.jit
def _store_columns(weight, bias, values, head, rows, j, R, C):
    """Columns j of the gradient (R, C + 1) of one head of a projection into those of weight and
    bias.
    """
    known = rows < R
    weight += head * R * C
    bias += head * R
    tl.store(
        weight + rows[:, None] * C + j[None, :], values, mask=known[:, None] & (j < C)[None, :]
    )
    tl.store(bias + rows[:, None] + 0 * j[None, :], values, mask=known[:, None] & (j == C)[None, :])


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
    C,
    O,  # noqa: E741
    E,
    D,
    heads,
    NUMBERS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The adjoint of `fold_kernel` and of joining the references, with T = scores[0] and dT =
    scores[1]:

        dG + dG^T = sum over heads of Whv^T dT Whk and its transpose, and this applied to the
        references
        dWhq = sum over groups of T^T Wo^T dM          dWo = sum over groups of dM Whq^T T^T
        dWhk = sum over groups of dT^T Whv Gh          dWhv = sum over groups of dT Whk Gh

    Programs: the columns of every dG + dG^T; the references; for every head the columns of dWhq,
    dWhk, dWhv, dWo.
    """
    width = C + 1
    tiles = tl.cdiv(width, BLOCK)
    reference_tiles = tl.cdiv(references_number, BLOCK)
    program = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    c, o, e, d = (
        tl.arange(0, BLOCK_C),
        tl.arange(0, BLOCK_O),
        tl.arange(0, BLOCK_E),
        tl.arange(0, BLOCK_D),
    )
    derivatives = scores + groups.to(tl.int64) * heads * D * E
    if program < groups * tiles + reference_tiles:
        of_references = program >= groups * tiles
        group = tl.where(of_references, 0, program // tiles).to(tl.int64)
        members = tl.where(of_references, reference_images, 1)
        j = tl.where(of_references, program - groups * tiles, program % tiles) * BLOCK + lane
        ones = tl.full((BLOCK,), 1.0, NUMBERS.ACC)
        r = (
            _load(
                references, c, j, 1, C, C, tl.where(of_references, references_number, 0), NUMBERS
            ),
            ones,
        )
        main = tl.zeros((BLOCK_C, BLOCK), NUMBERS.ACC)
        last = tl.zeros((BLOCK,), NUMBERS.ACC)
        for head in range(heads):
            key = _head(weights.key_weight, weights.key_bias, head, E, C)
            value = _head(weights.value_weight, weights.value_bias, head, D, C)
            if of_references:
                keys, values = (
                    _times(key, r, e, c, E, C, NUMBERS),
                    _times(value, r, d, c, D, C, NUMBERS),
                )
            else:
                keys, values = (
                    _columns(key, e, j, E, C, NUMBERS),
                    _columns(value, d, j, D, C, NUMBERS),
                )
            pointer = derivatives + (group * heads + head) * D * E
            left = tl.zeros((BLOCK_D, BLOCK), NUMBERS.ACC)
            right = tl.zeros((BLOCK_E, BLOCK), NUMBERS.ACC)
            for _ in range(members):
                left += _product(pointer, E, 1, d, D, E, keys, NUMBERS)
                right += _product(pointer, 1, E, e, E, D, values, NUMBERS)
                pointer += heads * D * E
            of_values = _transposed_times(value, left, d, c, D, C, NUMBERS)
            of_keys = _transposed_times(key, right, e, c, E, C, NUMBERS)
            main += of_values[0] + of_keys[0]
            last += of_values[1] + of_keys[1]
        if of_references:
            inside = (j < references_number)[None, :] & (c < C)[:, None]
            tl.store(references_grad + j[None, :] * C + c[:, None], main, mask=inside)
        else:
            gram_grad += group * width * width
            inside = (j < width)[None, :] & (c < C)[:, None]
            tl.store(gram_grad + c[:, None] * width + j[None, :], main, mask=inside)
            tl.store(gram_grad + C * width + j, last, mask=j < width)
    else:
        program -= groups * tiles + reference_tiles
        role = program // (heads * tiles)  # 0: query, 1: key, 2: value, 3: output
        head = program // tiles % heads
        j = program % tiles * BLOCK + lane
        key = _head(weights.key_weight, weights.key_bias, head, E, C)
        value = _head(weights.value_weight, weights.value_bias, head, D, C)
        scores += head * D * E
        derivatives += head * D * E
        if role == 0:
            query = tl.zeros((BLOCK_E, BLOCK), NUMBERS.ACC)
            for _ in range(groups):
                u = _load(matrix_grad, o, j, width, 1, O, width, NUMBERS)
                u = _product(weights.output_weight + head * D, 1, heads * D, d, D, O, u, NUMBERS)
                query += _product(scores, 1, E, e, E, D, u, NUMBERS)
                matrix_grad += O * width
                scores += heads * D * E
            _store_columns(
                weights_grad.query_weight, weights_grad.query_bias, query, head, e, j, E, C
            )
        elif role == 1:
            key_grad = tl.zeros((BLOCK_E, BLOCK), NUMBERS.ACC)
            for _ in range(groups):
                values = _times(value, _gram_columns(gram, c, j, C, NUMBERS), d, c, D, C, NUMBERS)
                key_grad += _product(derivatives, 1, E, e, E, D, values, NUMBERS)
                gram += width * width
                derivatives += heads * D * E
            _store_columns(
                weights_grad.key_weight, weights_grad.key_bias, key_grad, head, e, j, E, C
            )
        elif role == 2:
            value_grad = tl.zeros((BLOCK_D, BLOCK), NUMBERS.ACC)
            for _ in range(groups):
                keys = _times(key, _gram_columns(gram, c, j, C, NUMBERS), e, c, E, C, NUMBERS)
                value_grad += _product(derivatives, E, 1, d, D, E, keys, NUMBERS)
                gram += width * width
                derivatives += heads * D * E
            _store_columns(
                weights_grad.value_weight, weights_grad.value_bias, value_grad, head, d, j, D, C
            )
        else:
            output_grad = tl.zeros((BLOCK_O, BLOCK), NUMBERS.ACC)
            bias_grad = tl.zeros((BLOCK_O,), NUMBERS.ACC)
            of_query = _head(weights.query_weight, weights.query_bias, head, E, C)
            for _ in range(groups):
                t = _load(scores, e, j, 1, E, E, D, NUMBERS)
                attended = _transposed_times(of_query, t, e, c, E, C, NUMBERS)
                output_grad += _times(
                    (matrix_grad, width, matrix_grad + C, width), attended, o, c, O, C, NUMBERS
                )
                bias_grad += _load_vector(matrix_grad + C, o, width, O, NUMBERS)
                matrix_grad += O * width
                scores += heads * D * E
            inside = (o < O)[:, None] & (j < D)[None, :]
            pointers = weights_grad.output_weight + o[:, None] * heads * D + head * D + j[None, :]
            tl.store(pointers, output_grad, mask=inside)
            tl.store(
                weights_grad.output_bias + o,
                bias_grad,
                mask=(o < O) & (program == 3 * heads * tiles),
            )
