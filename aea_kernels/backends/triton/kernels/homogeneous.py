"""Products of homogeneous matrices and vectors, for the C x C algebra between the two passes.

A homogeneous matrix [W b] (R, C + 1) is a tuple: pointer and row stride of W, pointer and stride of
b. A homogeneous vector is one of C entries and one more, which meets b: columns of them are a
matrix (C, BLOCK) and a row (BLOCK,), because `tl.dot` does not take C + 1. Products run from right
to left, so that every factor on the right has BLOCK columns.
"""

import triton
import triton.language as tl


@triton.jit
def load_block(pointer, rows, columns, row_stride, column_stride, R, C, MATH: tl.constexpr):
    """Some rows and columns of a matrix (R, C), zero outside."""
    inside = (rows < R)[:, None] & (columns < C)[None, :]
    pointers = pointer + rows[:, None] * row_stride + columns[None, :] * column_stride
    return tl.load(pointers, mask=inside, other=0.0).to(MATH.ACC)


@triton.jit
def matrix_times(pointer, row_stride, column_stride, rows, R, K, right, MATH: tl.constexpr):
    """Some rows of a matrix (R, K) times `right` (BLOCK_K, BLOCK), zero from row K on.

    Summed over slices of K: a thread that held all of K would spill registers.
    """
    BLOCK: tl.constexpr = right.shape[1]
    result = tl.zeros((rows.shape[0], BLOCK), MATH.ACC)
    for start in range(0, K, 16):
        k = start + tl.arange(0, 16)
        left = load_block(pointer, rows, k, row_stride, column_stride, R, K, MATH)
        # a tensor has no slices in Triton: these rows of it are gathered
        part = tl.gather(right, tl.broadcast_to(k[:, None], (16, BLOCK)), 0)
        result = tl.dot(left, part, result, input_precision=MATH.PRECISION, out_dtype=MATH.ACC)
    return result


@triton.jit
def load_vector(pointer, index, stride, N, MATH: tl.constexpr):
    return tl.load(pointer + index * stride, mask=index < N, other=0.0).to(MATH.ACC)


@triton.jit
def columns_of(matrix, rows, j, R, C, MATH: tl.constexpr):
    """Columns j of a homogeneous matrix, (R, BLOCK)."""
    weight, row_stride, bias, bias_stride = matrix
    values = load_block(weight, rows, j, row_stride, 1, R, C, MATH)
    last = load_vector(bias, rows, bias_stride, R, MATH)
    return tl.where((j == C)[None, :], last[:, None], values)


@triton.jit
def rows_of(matrix, c, j, R, C, MATH: tl.constexpr):
    """Rows j of a homogeneous matrix as homogeneous vectors."""
    weight, row_stride, bias, bias_stride = matrix
    last = load_vector(bias, j, bias_stride, R, MATH)
    return load_block(weight, c, j, 1, row_stride, C, R, MATH), last


@triton.jit
def times(matrix, u, rows, c, R, C, MATH: tl.constexpr):
    """A homogeneous matrix times homogeneous vectors u, (R, BLOCK)."""
    weight, row_stride, bias, bias_stride = matrix
    product = matrix_times(weight, row_stride, 1, rows, R, C, u[0], MATH)
    return product + load_vector(bias, rows, bias_stride, R, MATH)[:, None] * u[1][None, :]


@triton.jit
def transposed_times(matrix, a, rows, c, R, C, MATH: tl.constexpr):
    """The transpose of a homogeneous matrix times a (R, BLOCK): homogeneous vectors."""
    weight, row_stride, bias, bias_stride = matrix
    last = tl.sum(load_vector(bias, rows, bias_stride, R, MATH)[:, None] * a, 0)
    return matrix_times(weight, 1, row_stride, c, C, R, a, MATH), last


@triton.jit
def gram_times(gram, u, c, C, MATH: tl.constexpr):
    """Moments (C + 1, C + 1) times homogeneous vectors u: homogeneous vectors."""
    width = C + 1
    sums = load_vector(gram + C * width, c, 1, C, MATH)
    last = tl.sum(sums[:, None] * u[0], 0) + tl.load(gram + width * width - 1) * u[1]
    return matrix_times(gram, width, 1, c, C, C, u[0], MATH) + sums[:, None] * u[1][None, :], last


@triton.jit
def gram_columns(gram, c, j, C, MATH: tl.constexpr):
    """Columns j of moments (C + 1, C + 1) as homogeneous vectors."""
    width = C + 1
    main = load_block(gram, c, j, width, 1, C, width, MATH)
    return main, load_vector(gram + C * width, j, 1, width, MATH)


@triton.jit
def normaliser(gram, C, scale: tl.constexpr):
    """scale / n; over no keys at all the sum is zero, so its normaliser may be anything finite."""
    return scale / tl.maximum(tl.load(gram + (C + 1) * (C + 1) - 1), 1.0)


@triton.jit
def query_of(weights, head, sizes):
    """The queries' projection of one head, a homogeneous matrix (E, C + 1)."""
    C, E = sizes.C, sizes.E
    return weights.query_weight + head * E * C, C, weights.query_bias + head * E, 1


@triton.jit
def key_of(weights, head, sizes):
    """The keys' projection of one head, a homogeneous matrix (E, C + 1)."""
    C, E = sizes.C, sizes.E
    return weights.key_weight + head * E * C, C, weights.key_bias + head * E, 1


@triton.jit
def value_of(weights, head, sizes):
    """The values' projection of one head, a homogeneous matrix (D, C + 1)."""
    C, D = sizes.C, sizes.D
    return weights.value_weight + head * D * C, C, weights.value_bias + head * D, 1
