"""Linear attention divided by the sum of its scores, queries and keys through ReLU: EfficientViT's
LiteMLA, SANA.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends import backend_name
from ..core.checks import check_key_value, check_query, check_query_key_value, check_summary
from ..summary import Summary
from .autograd import PhiApply, PhiOuterSum


@dataclass(frozen=True)
class ReluSummary(Summary):
    """The keys of `relu_linear_attention`.

    Attributes:
        sums: the sum over positions of relu(k) (v, 1)^T, (B, H, E, D+1).
    """

    sums: Tensor


def relu_linear_attention(
    query: Tensor, key: Tensor, value: Tensor, *, eps: float = 1e-15
) -> Tensor:
    """``relu(q) (relu(k)^T v) / (relu(q) . sum of relu(k) + eps)``: linear attention divided by the
    sum of its scores.

    EfficientViT (Cai et al. 2023, Eq. 2) and SANA (Xie et al. 2024).

    Args:
        query: (B, H, N, E).
        key: (B, H, L, E); value: (B, H, L, D).
        eps: added to the divisor.

    Returns:
        (B, H, N, D) in the inputs' dtype; zeros where there are no keys.

    Raises:
        ValueError: shapes or devices that do not fit together.
        TypeError: not a tensor, a dtype other than float16, bfloat16, float32, float64, or mixed
            dtypes.
    """
    check_query_key_value(query, key, value)
    return attend_relu(query, summarize_relu(key, value), eps=eps)


def summarize_relu(key: Tensor, value: Tensor) -> ReluSummary:
    """What `relu_linear_attention` needs of its keys (B, H, L, E) and values (B, H, L, D).
    Summaries add.

    Raises:
        ValueError, TypeError: as `relu_linear_attention`.
    """
    check_key_value(key, value)
    sums, _ = PhiOuterSum.apply(key, value, "relu", backend_name())
    return ReluSummary(sums)


def attend_relu(query: Tensor, summary: ReluSummary, *, eps: float = 1e-15) -> Tensor:
    """Queries (B, H, N, E) against summarised keys -> (B, H, N, D). A summary of batch 1 serves
    every image.

    Raises:
        ValueError, TypeError: as `relu_linear_attention`.
    """
    check_summary(summary, ReluSummary)
    check_query(query, summary.sums, "sums", "(B, H, E, D + 1)")
    sums = summary.sums.expand(query.shape[0], -1, -1, -1)
    least = max(eps, torch.finfo(sums.dtype).tiny) if eps > 0 else 0.0  # one over it is finite
    return PhiApply.apply(query, sums, "relu", least, backend_name())
