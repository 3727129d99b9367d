"""The public operators: what they accept, who computes, and the call.

Layout of `torch.nn.functional.scaled_dot_product_attention`: query (B, H, N, E), key (B, H, L, E),
value (B, H, L, D). Strides are free, nothing is copied whole. Sums are kept in float32 (float64 for
float64), results in the input's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .backends import backend_name
from .core.autograd import ApplyMatrix, MomentsOf, OuterSum
from .core.checks import (
    check,
    check_features,
    check_key_value,
    check_not_traced,
    check_positions,
    check_query_key_value,
    check_scale,
    check_summary,
    check_summary_tensor,
    is_tensor,
)
from .summary import KeySummary, Moments, count_like

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def linear_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0) -> Tensor:
    """Self-attention ``A_s``: ``scale * Q (K^T V) / L`` (Eqs. 1 and 2) without the (N x L) map.

    Args:
        query: (B, H, N, E).
        key: (B, H, L, E); value: (B, H, L, D).
        scale: multiplies the scores; the paper's network uses E ** -0.5.

    Returns:
        (B, H, N, D) in the inputs' dtype; zeros where there are no keys.

    Raises:
        ValueError: shapes or devices that do not fit together.
        TypeError: not a tensor, a dtype other than float16, bfloat16, float32, float64, or mixed
            dtypes.
    """
    check_query_key_value(query, key, value)
    return attend(query, summarize(key, value), scale=scale)


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    *,
    scale: float = 1.0,
) -> Tensor:
    """Attention augmented with shared references, ``A_R`` (Eq. 4), without concatenation.

    Args:
        query, key, value, scale: as in `linear_attention`.
        reference_key: (H, R, E); reference_value: (H, R, D); keys and values that every image of
            the batch sees.

    Returns:
        (B, H, N, D): ``scale * Q (K^T V + K_R^T V_R) / (L + R)``.

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_query_key_value(query, key, value)

    # R is that of the reference keys: the values must have as many
    heads, references = key.shape[1], reference_key.shape[-2] if is_tensor(reference_key, 3) else 0
    check(
        "reference_key", reference_key, (heads, references, key.shape[3]), "(H, R, E)", like=query
    )
    check(
        "reference_value",
        reference_value,
        (heads, references, value.shape[3]),
        "(H, R, D)",
        like=query,
    )

    # a summary of batch 1, which joins that of every image
    shared = summarize(reference_key[None], reference_value[None])
    return attend(query, summarize(key, value) + shared, scale=scale)


def batch_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float = 1.0,
    group: ProcessGroup | None = None,
) -> Tensor:
    """Batch-aware attention ``A_batch`` (Eq. 5): every query sees the keys of the whole batch.

    Args:
        query, key, value, scale: as in `linear_attention`.
        group: also the batches of every process of this group; D x E numbers a head travel.

    Returns:
        (B, H, N, D).

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_query_key_value(query, key, value)
    summary = summarize(key, value).sum_over_batch()
    return attend(query, summary if group is None else summary.all_reduce(group), scale=scale)


def learned_query_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0
) -> Tensor:
    """Attention with a learned query, ``A_Q`` (Eq. 3): invariant, not equivariant, to permutations
    of the positions.

    Args:
        query: (H, M, E), shared by the batch.
        key: (B, H, L, E); value: (B, H, L, D).
        scale: multiplies the scores.

    Returns:
        (B, H, M, D): ``scale * Q (K^T V) / L``.

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_key_value(key, value)
    rows = query.shape[-2] if is_tensor(query, 3) else 0
    check("query", query, (key.shape[1], rows, key.shape[3]), "(H, M, E)", like=key)
    return attend(query.expand(key.shape[0], *query.shape), summarize(key, value), scale=scale)


def summarize(key: Tensor, value: Tensor) -> KeySummary:
    """All that attention needs of its keys: the sum over positions of v k^T, and their number.
    Summaries add.

    Args:
        key: (B, H, L, E); value: (B, H, L, D).

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_key_value(key, value)
    state = OuterSum.apply(value, key, backend_name())
    return KeySummary(state, count_like(state, key.shape[2]))


def attend(query: Tensor, summary: KeySummary, *, scale: float = 1.0) -> Tensor:
    """``scale / count * Q state^T``: queries (B, H, N, E) against summarised keys -> (B, H, N, D).

    A summary of batch 1 (`KeySummary.sum_over_batch`) serves every image.

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_not_traced()
    check_positions("query", query, "(B, H, N, E)")
    check_summary(summary, KeySummary)

    # a summary of one image serves the whole batch
    state = summary.state
    batch, heads, _, width = query.shape
    fits = state.dim() == 4 and state.shape[0] in (1, batch)
    if not fits or state.shape[1] != heads or state.shape[3] != width:
        raise ValueError(
            f"summary.state has shape {tuple(state.shape)}, expected (B, H, D, E) "
            f"with B = 1 or {batch}, H = {heads}, E = {width} as in query"
        )

    check_summary_tensor(state, "state", query, "query")
    check_scale(scale)

    # scale / n; over no keys at all the sum is zero, so any divisor will do
    weight = scale / summary.count.clamp(min=1)
    return apply_matrix(query, (state * weight[:, None, None, None]).expand(batch, -1, -1, -1))


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    """M a at every position: a (B, H, N, A), M (B, H, O, A) in the accumulation dtype -> (B, H, N,
    O) in a's dtype.
    """
    return ApplyMatrix.apply(a, matrix, backend_name())


def moments(x: Tensor) -> Moments:
    """Sum over positions of xh xh^T, xh = (x, 1): Gram matrix, sums and count of a feature map (B,
    C, *spatial).

    Raises:
        ValueError, TypeError: as `linear_attention`.
    """
    check_features(x)
    return Moments(MomentsOf.apply(x, backend_name()))
