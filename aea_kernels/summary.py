"""What attention needs to know of its keys: sums over positions. They add, and every variant is one
addition.

`KeySummary` is the state of the operators on given keys and values, `Moments` that of a feature map
whose queries, keys and values are 1x1 projections of it. Both are linear in the set of positions:
of images, of tiles, of processes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
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


@dataclass(frozen=True)
class Summary:
    """Sums over positions: each field of a summary is a tensor (1 or B, ...) of sums.

    All are in the accumulation dtype: float32, float64 for float64.
    """

    def __add__(self, other: Self) -> Self:
        """The summary of both sets of positions.

        A batch of 1, such as shared references or a pooled batch, joins every image.

        Raises:
            ValueError: summaries of different heads, widths or dtypes.
        """
        if type(other) is not type(self):
            return NotImplemented
        check_addable(self._sums()[0], other._sums()[0])
        return type(self)(*map(torch.add, self._sums(), other._sums()))

    def __radd__(self, other: object) -> Self:
        """`sum` starts with the number 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def sum_over_batch(self) -> Self:
        """The positions of the whole batch as those of one image, B = 1 (Eq. 5)."""
        return type(self)(*(sums.sum(0, keepdim=True) for sums in self._sums()))

    def all_reduce(self, group: ProcessGroup | None = None) -> Self:
        """The positions of every process of `group`.

        The numbers that the summary holds travel, whatever the image size.
        """
        sums = self._sums()
        # one message for all fields: its time is that of the waiting, not of the few numbers
        message = torch.cat([part.flatten() for part in sums])
        totals = sum_over_processes(message, group).split([part.numel() for part in sums])
        return type(self)(*(total.view_as(part) for total, part in zip(totals, sums, strict=True)))

    def to(self, dtype: torch.dtype) -> Self:
        """The same sums in another dtype."""
        return type(self)(*(sums.to(dtype) for sums in self._sums()))

    def _sums(self) -> list[Tensor]:
        return [getattr(self, part.name) for part in fields(self)]


@dataclass(frozen=True)
class KeySummary(Summary):
    """The keys of linear attention.

    Attributes:
        state: the sum over positions of v k^T, (B, H, D, E).
        count: how many positions, (B,).
    """

    state: Tensor
    count: Tensor


@dataclass(frozen=True)
class Moments(Summary):
    """The moments of a feature map z, with zh = (z, 1): Gram matrix, sums and count together.

    Attributes:
        gram: the sum over positions of zh zh^T, (B, C+1, C+1).
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


def check_addable(a: Tensor, b: Tensor) -> None:
    """One sentence if the sums (1 or B, ...) of two summaries do not add."""
    if a.device != b.device:
        raise ValueError(
            f"summaries on {a.device} and {b.device} do not add: bring them to one device"
        )

    # one image, such as shared references or a pooled batch, joins any number of images
    if a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0]):
        raise ValueError(
            f"summaries of {a.shape[0]} and {b.shape[0]} images do not add: expected as many, or 1"
        )

    # the axes after the batch are heads and channels
    if a.dtype != b.dtype or a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"{tuple(a.shape)} in {a.dtype} and {tuple(b.shape)} in {b.dtype} are of different "
            "keys: no sum"
        )


def count_like(state: Tensor, positions: int) -> Tensor:
    """`positions` for every image of `state`, (B,)."""
    return torch.full((state.shape[0],), positions, dtype=state.dtype, device=state.device)
