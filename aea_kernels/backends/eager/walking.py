"""Walking over positions in boxes: what every primitive of this backend does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...layout import acc_dtype

BOX_BYTES = 1 << 21
"""Bytes of one box in the accumulation dtype: with its result it fits in the second- and third-level caches."""


def _boxes(extents: tuple[int, ...], positions: int) -> Iterator[tuple[slice, ...]]:
    """Boxes of at most `positions` elements that tile `extents`, each contiguous in row-major order, in that order."""
    if 0 in extents:
        return
    axis, inner = len(extents), 1
    while axis > 0 and inner * extents[axis - 1] <= positions:
        axis -= 1
        inner *= extents[axis]
    whole = tuple(slice(0, extent) for extent in extents)
    if axis == 0:
        yield whole
        return
    axis -= 1
    step = max(1, positions // inner)
    for outer in range(math.prod(extents[:axis])):
        singles, rest = [], outer
        for extent in reversed(extents[:axis]):
            rest, i = divmod(rest, extent)
            singles.append(slice(i, i + 1))
        for start in range(0, extents[axis], step):
            stop = min(start + step, extents[axis])
            yield (*reversed(singles), slice(start, stop), *whole[axis + 1 :])


def _merge_spatial(x: Tensor, batch_axes: int) -> Tensor:
    """(*batch, C, S) as a view where the strides allow it, else x as it is."""
    if x.dim() == batch_axes + 2:
        return x
    try:
        return x.view(*x.shape[: batch_axes + 1], math.prod(x.shape[batch_axes + 1 :]))
    except RuntimeError:
        return x


class Walk:
    """The boxes of feature maps of equal batch and spatial shape, and workspaces of one box each to compute in."""

    def __init__(self, *maps: Tensor, batch_axes: int = 1) -> None:
        merged = [_merge_spatial(x, batch_axes) for x in maps]
        self.maps = merged if all(x.dim() == batch_axes + 2 for x in merged) else list(maps)
        self.batch_axes = batch_axes
        self.dtype = acc_dtype(maps[0].dtype)
        self.extents = (*self.maps[0].shape[:batch_axes], *self.maps[0].shape[batch_axes + 1 :])
        channels = max(1, *(x.shape[batch_axes] for x in maps))
        self.positions = max(64, BOX_BYTES // (channels * self.dtype.itemsize))
        self._workspaces: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[tuple[slice, ...]]:
        return _boxes(self.extents, self.positions)

    def groups(self, matrices: Tensor, box: tuple[slice, ...]) -> Tensor:
        """What belongs to the box, (G, O, C), of one matrix an image, (*batch, O, C): a view."""
        return matrices[box[: self.batch_axes]].flatten(0, self.batch_axes - 1)

    def _part(self, i: int, box: tuple[slice, ...]) -> Tensor:
        return self.maps[i][(*box[: self.batch_axes], slice(None), *box[self.batch_axes :])]

    def _flat(self, i: int, box: tuple[slice, ...]) -> Tensor:
        """Map `i` inside `box` as (G, C, N): a view, or a copy of this box where the strides allow none."""
        part, axes = self._part(i, box), self.batch_axes
        return part.reshape(math.prod(part.shape[:axes]), part.shape[axes], math.prod(part.shape[axes + 1 :]))

    def workspace(self, i: int, like: Tensor) -> Tensor:
        """Workspace `i` in the shape of `like`, (G, C, N), with the same axis innermost."""
        if i not in self._workspaces or self._workspaces[i].numel() < like.numel():
            self._workspaces[i] = torch.empty(like.numel(), dtype=self.dtype, device=like.device)
        groups, channels, positions = like.shape
        flat = self._workspaces[i][: like.numel()]
        if like.stride(1) == 1 and like.stride(2) != 1:
            return flat.view(groups, positions, channels).mT
        return flat.view(groups, channels, positions)

    def read(self, i: int, box: tuple[slice, ...]) -> Tensor:
        """Map `i` inside `box`, (G, C, N), in the accumulation dtype."""
        flat = self._flat(i, box)
        return flat if flat.dtype == self.dtype else self.workspace(i, flat).copy_(flat)

    def result(self, i: int, box: tuple[slice, ...]) -> Tensor:
        """Where to compute the result that `store` puts into map `i`, (G, C, N): in place if the map allows it."""
        flat = self._flat(i, box)
        in_place = flat.dtype == self.dtype and flat.data_ptr() == self._part(i, box).data_ptr()
        return flat if in_place else self.workspace(i, flat)

    def store(self, i: int, box: tuple[slice, ...], values: Tensor) -> None:
        part = self._part(i, box)
        if values.data_ptr() != part.data_ptr():
            part.copy_(values.reshape(part.shape))
