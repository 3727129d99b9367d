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
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some columns of M = (SCALE / n) Wo per_head(Whv Gh Whk^T) Whq + [0 bo], from right to left.

    A program takes BLOCK of the C + 1 columns of one group: no program waits for another. gram (groups, C + 1, C + 1)
    is split into the Gram matrix, the sums and the count, so that the last, odd row and column need no padding.
    """
    tiles = tl.cdiv(C + 1, BLOCK)
    group = (tl.program_id(0) // tiles).to(tl.int64)
    j = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    c, o = tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_O)
    e, d = tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_D)
    width = C + 1
    gram += group * width * width
    g = tl.load(gram + c[:, None] * width + c[None, :], mask=(c < C)[:, None] & (c < C)[None, :], other=0.0)
    sums = tl.load(gram + c * width + C, mask=c < C, other=0.0)
    n = tl.load(gram + width * width - 1)
    result = tl.zeros((BLOCK_O, BLOCK), ACC)
    for head in range(heads):
        rows_e, rows_d = head * E + e, head * D + d
        q = tl.load(wq + rows_e[:, None] * C + j[None, :], mask=(e < E)[:, None] & (j < C)[None, :], other=0.0).to(ACC)
        q_bias = tl.load(bq + rows_e, mask=e < E, other=0.0).to(ACC)
        q = tl.where((j == C)[None, :], q_bias[:, None], q)  # (E, BLOCK) of Whq
        k = tl.load(wk + rows_e[None, :] * C + c[:, None], mask=(e < E)[None, :] & (c < C)[:, None], other=0.0).to(ACC)
        k_bias = tl.load(bk + rows_e, mask=e < E, other=0.0).to(ACC)
        scores = tl.dot(k, q, input_precision=PRECISION, out_dtype=ACC)  # (C, BLOCK) of Whk^T Whq
        scores_last = tl.sum(k_bias[:, None] * q, 0)
        keys = tl.dot(g, scores, input_precision=PRECISION, out_dtype=ACC)  # (C, BLOCK) of Gh Whk^T Whq
        keys += sums[:, None] * scores_last[None, :]
        keys_last = tl.sum(sums[:, None] * scores, 0) + n * scores_last
        v = tl.load(wv + rows_d[:, None] * C + c[None, :], mask=(d < D)[:, None] & (c < C)[None, :], other=0.0).to(ACC)
        v_bias = tl.load(bv + rows_d, mask=d < D, other=0.0).to(ACC)
        attended = tl.dot(v, keys, input_precision=PRECISION, out_dtype=ACC)  # (D, BLOCK)
        attended += v_bias[:, None] * keys_last[None, :]
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
