"""Efficient attention: softmax of the keys over positions, of the queries over channels, with
memory keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import reference
from ..backends import backend_name
from ..core.checks import (
    check,
    check_key_value,
    check_query,
    check_query_key_value,
    check_summary,
    is_tensor,
)
from ..core.dtypes import acc_dtype, without_autocast
from ..summary import Summary, check_addable, sum_over_processes
from .autograd import PhiApply, PhiOuterSum

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class SoftmaxSummary(Summary):
    """``sums`` = sum over positions of exp(k - maximum) (v, 1)^T, (B, H, E, D+1), and ``maximum``
    (B, H, E) of k.

    The maximum is -inf where there are no keys. It is no function of the keys for autograd: nothing
    that divides the sums by their last column depends on it.
    """

    sums: Tensor
    maximum: Tensor

    def __add__(self, other: SoftmaxSummary) -> SoftmaxSummary:
        """The summary of both sets of keys, whatever their magnitudes; a batch of 1 joins every
        image.

        Raises:
            ValueError: summaries of different heads, widths or dtypes.
        """
        if not isinstance(other, SoftmaxSummary):
            return NotImplemented
        check_addable(self.sums, other.sums)
        maximum = torch.maximum(self.maximum, other.maximum)
        return SoftmaxSummary(self._relative_to(maximum) + other._relative_to(maximum), maximum)

    def sum_over_batch(self) -> SoftmaxSummary:
        """The keys of the whole batch as those of one image, B = 1."""
        if len(self.sums) == 0:
            return SoftmaxSummary(
                self.sums.sum(0, keepdim=True),
                self.maximum.new_full((1, *self.maximum.shape[1:]), -torch.inf),
            )
        maximum = self.maximum.amax(0, keepdim=True)
        return SoftmaxSummary(self._relative_to(maximum).sum(0, keepdim=True), maximum)

    def all_reduce(self, group: ProcessGroup | None = None) -> SoftmaxSummary:
        """The keys of every process of `group`: E x (D+2) numbers a head travel, whatever the image
        size.
        """
        maximum = self.maximum.detach().clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(maximum, torch.distributed.ReduceOp.MAX, group=group)
        return SoftmaxSummary(sum_over_processes(self._relative_to(maximum), group), maximum)

    def _relative_to(self, maximum: Tensor) -> Tensor:
        """The sums relative to a maximum that is nowhere below this one."""
        finite = maximum.masked_fill(maximum == -torch.inf, 0)  # no keys: exp(-inf - 0)
        return self.sums * (self.maximum - finite).exp()[..., None]


def efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    memory_key: Tensor | None = None,
    memory_value: Tensor | None = None,
    *,
    scale: float = 1.0,
) -> Tensor:
    """``scale * softmax(q) (softmax(k)^T v)``: softmax of q over channels, of k over positions.

    Efficient attention (Shen et al. 2021, Eq. 2); with memory keys the linear attention of
    denoising-diffusion U-Nets.

    Args:
        query: (B, H, N, E).
        key: (B, H, L, E); value: (B, H, L, D).
        memory_key: (H, R, E); memory_value: (H, R, D): joined to the keys and values of every
            image. Both or neither.
        scale: multiplies the output.

    Returns:
        (B, H, N, D) in the inputs' dtype; zeros where there are no keys.

    Raises:
        ValueError: shapes or devices that do not fit together, or one of memory_key and
            memory_value without the other.
        TypeError: not a tensor, a dtype other than float16, bfloat16, float32, float64, or mixed
            dtypes.
    """
    check_query_key_value(query, key, value)
    if (memory_key is None) != (memory_value is None):
        given, missing = (
            ("memory_value", "memory_key") if memory_key is None else ("memory_key", "memory_value")
        )
        raise ValueError(f"{missing} is None while {given} is given, expected both or neither")
    if memory_key is not None and memory_value is not None:
        heads, memories = key.shape[1], memory_key.shape[-2] if is_tensor(memory_key, 3) else 0
        check("memory_key", memory_key, (heads, memories, key.shape[3]), "(H, R, E)", like=query)
        check(
            "memory_value", memory_value, (heads, memories, value.shape[3]), "(H, R, D)", like=query
        )
    if backend_name() == "naive":
        with without_autocast(query.device):
            return reference.efficient_attention(
                query, key, value, memory_key, memory_value, scale=scale
            )
    summary = summarize_softmax(key, value)
    if memory_key is not None and memory_value is not None:
        summary = summary + summarize_softmax(memory_key[None], memory_value[None])
    return attend_softmax(query, summary, scale=scale)


def summarize_softmax(key: Tensor, value: Tensor) -> SoftmaxSummary:
    """What `efficient_attention` needs of its keys (B, H, L, E) and values (B, H, L, D). Summaries
    join exactly.

    Raises:
        ValueError, TypeError: as `efficient_attention`.
    """
    check_key_value(key, value)
    if backend_name() == "naive":
        with without_autocast(key.device):
            wide = acc_dtype(key.dtype)
            k, v = key.to(wide), value.to(wide)
            lowest = k.new_full((*k.shape[:2], 1, k.shape[3]), -torch.inf)
            maximum = torch.cat([lowest, k.detach()], 2).amax(2)
            return SoftmaxSummary(
                (k - maximum[:, :, None]).exp().mT
                @ torch.cat([v, torch.ones_like(v[..., :1])], -1),
                maximum,
            )
    return SoftmaxSummary(*PhiOuterSum.apply(key, value, "exp", backend_name()))


def attend_softmax(query: Tensor, summary: SoftmaxSummary, *, scale: float = 1.0) -> Tensor:
    """Queries (B, H, N, E) against summarised keys -> (B, H, N, D). A summary of batch 1 serves
    every image.

    Raises:
        ValueError, TypeError: as `efficient_attention`.
    """
    check_summary(summary, SoftmaxSummary)
    check_query(query, summary.sums, "sums", "(B, H, E, D + 1)")
    sums, normaliser = summary.sums[..., :-1], summary.sums[..., -1:]
    # the greatest key adds 1 to its normaliser, which is thus less only where there are no keys
    matrix = sums * (scale / normaliser.clamp(min=0.5))
    matrix = matrix.expand(query.shape[0], -1, -1, -1)  # (B, H, E, D)
    if backend_name() == "naive":
        with without_autocast(query.device):
            return (query.to(matrix.dtype).softmax(-1) @ matrix).to(query.dtype)
    return PhiApply.apply(query, matrix, "exp", 0.0, backend_name())
