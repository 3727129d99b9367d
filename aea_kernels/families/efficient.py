"""Efficient attention: softmax of the keys over positions, of the queries over channels, with
memory keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from ..backends import backend_name
from ..core.checks import (
    check,
    check_key_value,
    check_query,
    check_query_key_value,
    check_scale,
    check_summary,
    is_tensor,
)
from ..summary import Summary, check_addable
from .autograd import PhiApply, PhiOuterSum

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class SoftmaxSummary(Summary):
    """The keys of `efficient_attention`.

    Attributes:
        sums: the sum over positions of exp(k - maximum) (v, 1)^T, (B, H, E, D+1).
        maximum: that of k over the positions, (B, H, E); -inf where there are no keys. It is a
            constant for autograd: nothing that divides the sums by their last column depends on it.
    """

    sums: Tensor
    maximum: Tensor

    # Summaries are brought to one maximum before their sums are added.

    def __add__(self, other: Self) -> Self:
        """The summary of both sets of keys, whatever their magnitudes; a batch of 1 joins every
        image.

        Raises:
            ValueError: summaries of different heads, widths or dtypes.
        """
        if type(other) is not type(self):
            return NotImplemented
        check_addable(self.sums, other.sums)
        maximum = torch.maximum(self.maximum, other.maximum)
        joined = Summary.__add__(self._relative_to(maximum), other._relative_to(maximum))
        return replace(joined, maximum=maximum)

    def sum_over_batch(self) -> Self:
        """The keys of the whole batch as those of one image, B = 1."""
        lowest = self.maximum.new_full((1, *self.maximum.shape[1:]), -torch.inf)  # of no images
        maximum = torch.cat([lowest, self.maximum]).amax(0, keepdim=True)
        return replace(Summary.sum_over_batch(self._relative_to(maximum)), maximum=maximum)

    def all_reduce(self, group: ProcessGroup | None = None) -> Self:
        """The keys of every process of `group`, as `Summary.all_reduce`."""
        maximum = self.maximum.detach().clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(maximum, torch.distributed.ReduceOp.MAX, group=group)
        return replace(Summary.all_reduce(self._relative_to(maximum), group), maximum=maximum)

    def _relative_to(self, maximum: Tensor) -> Self:
        """The same summary with its sums relative to a maximum that is nowhere below this one."""
        finite = maximum.masked_fill(maximum == -torch.inf, 0)  # no keys: exp(-inf - 0)
        return replace(self, sums=self.sums * (self.maximum - finite).exp()[..., None])


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

    # R is that of the memory keys: the values must have as many
    if memory_key is not None and memory_value is not None:
        heads, memories = key.shape[1], memory_key.shape[-2] if is_tensor(memory_key, 3) else 0
        check("memory_key", memory_key, (heads, memories, key.shape[3]), "(H, R, E)", like=query)
        check(
            "memory_value", memory_value, (heads, memories, value.shape[3]), "(H, R, D)", like=query
        )

    # the memory keys join those of every image
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
    return SoftmaxSummary(*PhiOuterSum.apply(key, value, "exp", backend_name()))


def attend_softmax(query: Tensor, summary: SoftmaxSummary, *, scale: float = 1.0) -> Tensor:
    """Queries (B, H, N, E) against summarised keys -> (B, H, N, D). A summary of batch 1 serves
    every image.

    Raises:
        ValueError, TypeError: as `efficient_attention`.
    """
    check_summary(summary, SoftmaxSummary)
    check_query(query, summary.sums, "sums", "(B, H, E, D + 1)")
    check_scale(scale)
    sums, normaliser = summary.sums[..., :-1], summary.sums[..., -1:]
    # the greatest key adds 1 to its normaliser, which is thus less only where there are no keys
    matrix = sums * (scale / normaliser.clamp(min=0.5))
    matrix = matrix.expand(query.shape[0], -1, -1, -1)  # (B, H, E, D)
    return PhiApply.apply(query, matrix, "exp", 0.0, backend_name())
