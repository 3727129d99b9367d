"""Between the two passes: partial sums joined in a fixed order, and the C x C algebra of `folding.py` in one launch."""

import triton
import triton.language as tl


@triton.jit
def gather_kernel(
    partial, references, result,
    A, W, S, R, images, own, spans,
    MOMENTS: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """result[group] = sum of partial (images, spans, A, W) over the group's images and their spans, (A, W).

    The first `own` images are groups of one, the others one group. MOMENTS: partial is the upper part of moments,
    (C, C + 1), and result whole, (C + 1, C + 1), with the references (R, C) joined to every group of one.
    """
    pid = tl.program_id(0)
    tiles_w = tl.cdiv(W, BLOCK)
    tiles = tl.cdiv(A, BLOCK) * tiles_w
    group = pid // tiles
    rows = pid % tiles // tiles_w * BLOCK + tl.arange(0, BLOCK)
    columns = pid % tiles_w * BLOCK + tl.arange(0, BLOCK)
    inside = (rows < A)[:, None] & (columns < W)[None, :]
    members = tl.where(group < own, 1, images - own)
    partial += tl.minimum(group, own).to(tl.int64) * spans * A * W
    total = tl.zeros((BLOCK, BLOCK), ACC)
    for start in range(0, members * spans, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        pointers = partial + part[:, None, None].to(tl.int64) * A * W + (rows[:, None] * W + columns[None, :])[None]
        known = (part < members * spans)[:, None, None] & inside[None]
        total += tl.sum(tl.load(pointers, mask=known, other=0.0), 0)

    joined = tl.where(group < own, R, 0)
    for start in range(0, joined, BLOCK):
        r = start + tl.arange(0, BLOCK)
        known = (r < R)[:, None] & (columns < A)[None, :]
        left = tl.load(
            references + r[None, :] * A + rows[:, None], mask=(r < R)[None, :] & (rows < A)[:, None], other=0.0
        )
        right = tl.load(references + r[:, None] * A + columns[None, :], mask=known, other=0.0).to(ACC)
        right = tl.where((r < R)[:, None] & (columns == A)[None, :], 1.0, right)
        total = tl.dot(left.to(ACC), right, total, input_precision=PRECISION, out_dtype=ACC)

    if MOMENTS:
        result += group.to(tl.int64) * W * W
        tl.store(result + A * W + rows[:, None] + 0 * columns[None, :], total, mask=inside & (columns == A)[None, :])
        if pid % tiles == 0:
            tl.store(result + W * W - 1, (members.to(ACC) * S + joined).to(ACC))
    else:
        result += group.to(tl.int64) * A * W
    tl.store(result + rows[:, None] * W + columns[None, :], total, mask=inside)


@triton.jit
def fold_kernel(
    gram, wq, bq, wk, bk, wv, bv, wo, bo, matrix,
    C, OUT, E, D, heads,
    SCALE: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Some columns of M = (SCALE / n) Wo per_head((Whv Gh) (Whk^T Whq)) + [0 bo].

    A program takes BLOCK of the C + 1 columns of one group: no program waits for another. gram (groups, C + 1, C + 1)
    is split into the Gram matrix, the sums and the count, so that the last, odd row and column need no padding.
    """
    tiles = tl.cdiv(C + 1, BLOCK)
    group = (tl.program_id(0) // tiles).to(tl.int64)
    j = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    o, e, d = tl.arange(0, BLOCK_O), tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_D)
    width = C + 1
    gram += group * width * width
    n = tl.load(gram + width * width - 1)
    result = tl.zeros((BLOCK_O, BLOCK), ACC)
    for head in range(heads):
        rows_e, rows_d = head * E + e, head * D + d
        q = tl.load(wq + rows_e[:, None] * C + j[None, :], mask=(e < E)[:, None] & (j < C)[None, :], other=0.0).to(ACC)
        q_bias = tl.load(bq + rows_e, mask=e < E, other=0.0).to(ACC)
        q = tl.where((j == C)[None, :], q_bias[:, None], q)  # Whq, (E, BLOCK)
        k_bias = tl.load(bk + rows_e, mask=e < E, other=0.0).to(ACC)
        v_bias = tl.load(bv + rows_d, mask=d < D, other=0.0).to(ACC)
        last = tl.sum(k_bias[:, None] * q, 0)  # the last row of Whk^T Whq
        values_last = v_bias * n  # the last column of Whv Gh
        attended = tl.zeros((BLOCK_D, BLOCK), ACC)
        for start in range(0, C, CHUNK):
            r = start + tl.arange(0, CHUNK)
            sums = tl.load(gram + r * width + C, mask=r < C, other=0.0)
            values = v_bias[:, None] * sums[None, :]  # Whv Gh, (D, CHUNK)
            for inner in range(0, C, CHUNK):
                c = inner + tl.arange(0, CHUNK)
                v = tl.load(wv + rows_d[:, None] * C + c[None, :], mask=(d < D)[:, None] & (c < C)[None, :], other=0.0)
                g = tl.load(gram + c[:, None] * width + r[None, :], mask=(c < C)[:, None] & (r < C)[None, :], other=0.0)
                values = tl.dot(v.to(ACC), g, values, input_precision=PRECISION, out_dtype=ACC)
            k = tl.load(wk + rows_e[None, :] * C + r[:, None], mask=(e < E)[None, :] & (r < C)[:, None], other=0.0)
            scores = tl.dot(k.to(ACC), q, input_precision=PRECISION, out_dtype=ACC)  # Whk^T Whq, (CHUNK, BLOCK)
            attended = tl.dot(values, scores, attended, input_precision=PRECISION, out_dtype=ACC)
            v = tl.load(wv + rows_d[:, None] * C + r[None, :], mask=(d < D)[:, None] & (r < C)[None, :], other=0.0)
            values_last += tl.sum(v.to(ACC) * sums[None, :], 1)
        attended += values_last[:, None] * last[None, :]
        w = tl.load(
            wo + o[:, None] * heads * D + rows_d[None, :], mask=(o < OUT)[:, None] & (d < D)[None, :], other=0.0
        )
        result = tl.dot(w.to(ACC), attended, result, input_precision=PRECISION, out_dtype=ACC)
    # over no keys at all the sum is zero, so its normaliser may be anything finite
    result *= SCALE / tl.maximum(n, 1.0)
    o_bias = tl.load(bo + o, mask=o < OUT, other=0.0).to(ACC)
    result += tl.where((j == C)[None, :], o_bias[:, None], 0.0)
    matrix += group * OUT * width
    tl.store(matrix + o[:, None] * width + j[None, :], result, mask=(o < OUT)[:, None] & (j < width)[None, :])
