"""Where a tensor inside a network holds its images, channels and positions, so that a group can act
on it.

Known forms: (N, C, *spatial); channels last, (N, *spatial, C); tokens, (N, L, C) or (L, N, C) or
(N, C, L), with or without a class token in front; and (N, C), which has no positions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from .symmetry import Element, Strides

CHANNELS_LAST = (
    nn.Linear,
    nn.LayerNorm,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.Embedding,
    nn.RMSNorm,
)
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


@dataclass(frozen=True)
class Frame:
    """The input that groups act on: its number of images and its sizes along the axes of
    positions.
    """

    images: int
    spatial: tuple[int, ...]


class Fibre(ABC):
    """What the channels at a position do, besides going where the position goes."""

    @abstractmethod
    def fits(self, channels: int, axes: int) -> bool:
        """Whether it acts on that many channels of maps with that many axes of positions."""

    @abstractmethod
    def act(self, channels: Tensor, element: Element, frame: Frame) -> Tensor:
        """(N, C, *spatial) -> the same with changed channels, positions where they were.

        Raises:
            UndefinedActionError: the element has no action on these channels.
        """


@dataclass(frozen=True)
class MapLayout:
    """Which axes of a tensor hold a feature map.

    Attributes:
        images, channels, positions: its axes; `images` is None where a tensor has no such axis.
        grid: the sizes of the map where `positions` is one axis of tokens.
        extra: tokens in front that stand at no position.
        fibre: what its channels do; None: nothing.
        label: the name of the act that it was made for.
    """

    images: int | None
    channels: tuple[int, ...]
    positions: tuple[int, ...]
    grid: tuple[int, ...] | None = None
    extra: int = 0
    fibre: Fibre | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """How the tensor transforms."""
        return self.label or ("image" if self.positions else "invariant")

    def spatial(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the map in a tensor of this shape."""
        return tuple(shape[a] for a in self.positions) if self.grid is None else self.grid

    def map(self, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """t -> the map (N, C, *spatial), and the tokens at no position, (N, C, extra), or None."""
        moved = t.permute(self._order())
        if self.images is None:
            moved = moved.unsqueeze(0)
        moved = moved.flatten(1, len(self.channels)) if self.channels else moved.unsqueeze(1)
        if self.grid is None:
            return moved, None
        extra, tokens = moved[..., : self.extra], moved[..., self.extra :]
        return tokens.unflatten(2, self.grid), extra if self.extra else None

    def _order(self) -> list[int]:
        """The tensor's axes in the order of a map."""
        images = [] if self.images is None else [self.images]
        return [*images, *self.channels, *self.positions]

    def act(self, t: Tensor, element: Element, frame: Frame) -> Tensor:
        """The element's action on t. Raises UndefinedActionError."""
        # as a map: its channels change where they are, then go along with their positions
        moved, extra = self.map(t)
        spatial = moved.shape[2:]
        if self.fibre is not None:
            moved = self.fibre.act(moved, element, frame)
        if element.moves != "positions" or any(n != 1 for n in spatial):
            moved = element.act(moved, strides_of(frame, spatial) if spatial else ())

        # tokens again; those at no position stay, unless images or values change
        if self.grid is not None:
            moved = moved.flatten(2)
        if extra is not None:
            extra = extra if element.moves == "positions" else element.act(extra, (Fraction(1),))
            moved = torch.cat([extra, moved], dim=2)

        # back to the axes of t; a rotation may have exchanged the sizes of positions
        order = self._order()
        images = [] if self.images is None else [moved.shape[0]]
        channels = [t.shape[axis] for axis in self.channels]
        moved = moved.reshape([*images, *channels, *moved.shape[2:]])
        return moved.permute(sorted(range(len(order)), key=order.__getitem__))


@dataclass(frozen=True)
class PairLayout(MapLayout):
    """Attention scores (N, heads, L, L): tokens along both last axes."""

    def act(self, t: Tensor, element: Element, frame: Frame) -> Tensor:
        for axis in (2, 3):
            tokens = MapLayout(0, (1, 5 - axis), (axis,), self.grid, self.extra)
            t = tokens.act(t, element, frame)
        return t


def stride(source: int, size: int) -> Fraction:
    """Positions of an axis of `source` per position of one of `size`, to the nearest whole number
    or its inverse.

    Rounding takes up the few positions that a convolution without padding, or a crop, leaves out at
    the border.
    """
    if size == 0 or source == 0:
        return Fraction(1)
    if source < size:
        return 1 / stride(size, source)
    return Fraction(round(source / size))


def strides_of(frame: Frame, spatial: Sequence[int]) -> Strides:
    """Of a map of these sizes."""
    return tuple(stride(a, b) for a, b in zip(frame.spatial, spatial, strict=True))


def by_axes(dim: int, positions: Sequence[int]) -> MapLayout:
    """The layout of a tensor of `dim` axes whose positions are those named; the first of the others
    is the images.
    """
    named = tuple(a % dim for a in positions)
    others = [a for a in range(dim) if a not in named]
    return MapLayout(others[0] if others else None, tuple(others[1:]), named)


def input_layout(x: Tensor, positions: Sequence[int] | None) -> MapLayout:
    """The layout of an input. Raises ValueError where x is no feature map."""
    require_floating(x)
    if positions is None and not 3 <= x.dim() <= 5:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (N, C, *spatial) with 1, 2 or 3 spatial axes"
        )
    return by_axes(x.dim(), range(2, x.dim()) if positions is None else positions)


def require_floating(x: Tensor) -> None:
    """Raise ValueError where x is no tensor of floating-point numbers."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x is {got}, expected a floating-point tensor (N, C, *spatial)")


def possible_layouts(
    shape: Sequence[int], frame: Frame, module: nn.Module | None = None
) -> list[MapLayout]:
    """Every layout a tensor of this shape may have in a network whose input has that frame, the
    likeliest first; `module` is what returned the tensor.
    """
    # without positions, as behind a global pooling
    axes, dim = len(frame.spatial), len(shape)
    if dim == 2:
        return [MapLayout(0, (1,), ())] if shape[0] == frame.images else []

    # a map; channels are last behind some modules, or where only then all axes have one stride
    found: list[MapLayout] = []
    if dim == 2 + axes and shape[0] == frame.images:
        first, last = (
            by_axes(dim, range(2, dim)),
            MapLayout(0, (dim - 1,), tuple(range(1, dim - 1))),
        )
        found.append(first)
        if _even(frame.spatial, last.spatial(shape)):
            found.append(last)
        if isinstance(module, CHANNELS_LAST) or not _even(frame.spatial, first.spatial(shape)):
            found.reverse()
        elif isinstance(module, CHANNELS_FIRST):
            found = [first]

    # attention by heads: its tokens and scores have four axes, as maps of images have
    if dim == 4 and axes > 1 and shape[0] == frame.images:
        found = _heads(shape, frame, found, module)

    # tokens: (N, L, C), (L, N, C), (N, C, L)
    if dim == 3 and axes > 1:
        for images, channels, tokens in ((0, 2, 1), (1, 2, 0), (0, 1, 2)):
            if shape[images] == frame.images:
                for grid, extra in _grids(shape[tokens], frame.spatial):
                    found.append(MapLayout(images, (channels,), (tokens,), grid, extra))
    return found


def _heads(
    shape: Sequence[int], frame: Frame, maps: list[MapLayout], module: nn.Module | None
) -> list[MapLayout]:
    """With those of attention by heads: tokens (N, heads, L, channels), which come first where no
    map would have one stride, and scores (N, heads, L, L).
    """
    tokens: list[MapLayout] = []
    pairs: list[MapLayout] = []
    for grid, extra in _grids(shape[2], frame.spatial):
        tokens.append(MapLayout(0, (1, 3), (2,), grid, extra))
        # nothing moves on a single position: it would fit any layer with a map of 2 x 2
        if shape[2] == shape[3] and math.prod(grid) > 1:
            pairs.append(PairLayout(0, (1, 3), (2,), grid, extra, label="pairs of tokens"))
    is_map = any(_even(frame.spatial, layout.spatial(shape)) for layout in maps)
    if is_map or isinstance(module, CHANNELS_FIRST):
        return maps + pairs
    return tokens + maps + pairs


def _even(source: tuple[int, ...], spatial: tuple[int, ...]) -> bool:
    """Whether a map has the same whole stride along every axis."""
    return all(
        n > 0 and s % n == 0 and s // n == source[0] // spatial[0]
        for s, n in zip(source, spatial, strict=True)
    )


def _grids(tokens: int, source: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    """Sizes of a map with as many positions, a class token aside, whose sides are the input's over
    a whole stride; and how many class tokens there are, none or one.
    """
    found = []
    for step in range(1, max(source) + 1):
        grid = tuple(n // step for n in source)
        extra = tokens - math.prod(grid)
        if extra in (0, 1) and not any(n % step for n in source):
            found.append((grid, extra))
    return sorted(found, key=lambda g: g[1])
