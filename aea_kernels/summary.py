"""What attention needs to know of its keys: sums over positions. They add, and every variant is one
addition.

`KeySummary` is the state of the operators on given keys and values, `Moments` that of a feature map
whose queries, keys and values are 1x1 projections of it. Both are linear in the set of positions:
of images, of tiles, of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from .core.transforms import Function

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

if torch.distributed.is_available():
    # Its functions take the group of all processes as a default argument. Imported after that group
    # has begun, as torch.compile's machinery does, it keeps the group's threads beyond
    # `destroy_process_group` and into Python's end, which they can turn into an abort.
    import torch.distributed.nn.functional


class _SumOverProcesses(Function):
    """Its own adjoint: what every process gains by a change of one of its terms is the sum of what
    each gains.
    """

    @staticmethod
    def forward(state: Tensor, group: ProcessGroup | None) -> Tensor:
        total = state.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, dtotal: Tensor) -> tuple[Tensor, None]:
        return sum_over_processes(dtotal, ctx.group), None

    @staticmethod
    def tangent(inputs: tuple[Any, ...], tangents: tuple[Any, ...]) -> Tensor:
        return sum_over_processes(tangents[0], inputs[1])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], state: Tensor, group: ProcessGroup | None
    ) -> tuple[Tensor, int | None]:
        return sum_over_processes(state, group), in_dims[0]


def sum_over_processes(state: Tensor, group: ProcessGroup | None) -> Tensor:
    """The sum of `state` over `group` (None: the default group), differentiable any number of
    times.
    """
    total: Tensor = _SumOverProcesses.apply(state, group)
    return total


class Summary:
    """What `sum` adds up."""

    def __radd__(self, other: object) -> Self:
        """`sum` starts with the number 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented


@dataclass(frozen=True)
class KeySummary(Summary):
    """``state`` = sum over positions of v k^T, (B, H, D, E), and how many positions, ``count``
    (B,).

    Both in the accumulation dtype: float32, float64 for float64.
    """

    state: Tensor
    count: Tensor

    def __add__(self, other: KeySummary) -> KeySummary:
        """The summary of both sets of keys; a batch of 1 (shared references, a pooled batch) joins
        every image.

        Raises:
            ValueError: summaries of different heads, widths or dtypes.
        """
        if not isinstance(other, KeySummary):
            return NotImplemented
        check_addable(self.state, other.state)
        return KeySummary(self.state + other.state, self.count + other.count)

    def sum_over_batch(self) -> KeySummary:
        """The keys of the whole batch as those of one image, B = 1 (Eq. 5)."""
        return KeySummary(self.state.sum(0, keepdim=True), self.count.sum(0, keepdim=True))

    def all_reduce(self, group: ProcessGroup | None = None) -> KeySummary:
        """The keys of every process of `group`: D x E numbers a head travel, whatever the image
        size.
        """
        return KeySummary(
            sum_over_processes(self.state, group), sum_over_processes(self.count, group)
        )


@dataclass(frozen=True)
class Moments(Summary):
    """``gram`` = sum over positions of zh zh^T, (B, C+1, C+1), zh = (z, 1): Gram matrix, sums and
    count together.
    """

    gram: Tensor

    @property
    def count(self) -> Tensor:
        """How many positions, (B,)."""
        return self.gram[:, -1, -1]

    @property
    def mean(self) -> Tensor:
        """Mean of z, (B, C)."""
        return self.gram[:, :-1, -1] / self.count.clamp(min=1)[:, None]

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of positions; a batch of 1 joins every image.

        Raises:
            ValueError: moments of different channels or dtypes.
        """
        if not isinstance(other, Moments):
            return NotImplemented
        check_addable(self.gram, other.gram)
        return Moments(self.gram + other.gram)

    def sum_over_batch(self) -> Moments:
        """The positions of the whole batch as those of one image, B = 1."""
        return Moments(self.gram.sum(0, keepdim=True))

    def all_reduce(self, group: ProcessGroup | None = None) -> Moments:
        """The positions of every process of `group`: C x C numbers travel, whatever the image
        size.
        """
        return Moments(sum_over_processes(self.gram, group))


def check_addable(a: Tensor, b: Tensor) -> None:
    """One sentence if the sums (1 or B, ...) of two summaries do not add."""
    if a.device != b.device:
        raise ValueError(
            f"summaries on {a.device} and {b.device} do not add: bring them to one device"
        )
    if a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0]):
        raise ValueError(
            f"summaries of {a.shape[0]} and {b.shape[0]} images do not add: expected as many, or 1"
        )
    if a.dtype != b.dtype or a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"{tuple(a.shape)} in {a.dtype} and {tuple(b.shape)} in {b.dtype} are of different keys: no sum"
        )


def count_like(state: Tensor, positions: int) -> Tensor:
    """`positions` for every image of `state`, (B,)."""
    return torch.full((state.shape[0],), positions, dtype=state.dtype, device=state.device)
