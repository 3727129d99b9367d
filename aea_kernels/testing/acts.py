"""How a tensor transforms where its image turns: `acts=` of assertions and reports.

An image's values go along with their positions. The channels of other maps do something besides:
the two components of a flow rotate, the orientations of a group convolution permute. A class score
has no positions and stays as it is, and coordinates move as the points do that they name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .layouts import (
    Fibre,
    Frame,
    MapLayout,
    by_axes,
    input_layout,
    possible_layouts,
    require_floating,
)
from .symmetry import Element, Group, UndefinedActionError

DIRECTIONS = {
    "right": (-1, 1),
    "left": (-1, -1),
    "down": (-2, 1),
    "up": (-2, -1),
    "back": (-3, 1),
    "front": (-3, -1),
}
"""The axis of positions along which each points, from the last one, and its sign."""


@dataclass(frozen=True)
class Act:
    """How a tensor transforms.

    Attributes:
        name: how messages and tables call it.
        fibre: what its channels do; None: nothing.
        has_positions: whether it is a map, whose positions move.
        function: ``function(t, element)``, which does all of it instead.
    """

    name: str
    fibre: Fibre | None = None
    has_positions: bool = True
    function: Callable[[Tensor, Element], Tensor] | None = None

    def layouts(
        self, shape: Sequence[int], frame: Frame, module: nn.Module | None = None
    ) -> list[MapLayout]:
        """The layouts with this act that a tensor of this shape may have, the likeliest first.

        Args:
            shape: of the tensor.
            frame: of the network's input.
            module: what returned the tensor.
        """
        # without positions, and under a function, all axes but the images' are channels
        if self.function is not None or not self.has_positions:
            images = 0 if shape and shape[0] == frame.images else None
            channels = tuple(range(0 if images is None else 1, len(shape)))
            if self.function is not None:
                return [_ByFunction(images, channels, (), label=self.name, function=self.function)]
            found = [MapLayout(images, channels, (), label=self.name)]
        else:
            found = possible_layouts(shape, frame, module)
            # the channels may have two axes, (N, fields, components, *spatial)
            axes = len(frame.spatial)
            if self.fibre is not None and len(shape) == 3 + axes and shape[0] == frame.images:
                found.append(by_axes(len(shape), range(3, len(shape))))
        if self.fibre is None:
            return found

        # channels that the fibre cannot act on
        fitting = []
        for layout in found:
            channels_here = math.prod(shape[a] for a in layout.channels)
            if self.fibre.fits(channels_here, len(frame.spatial)) and not layout.extra:
                fitting.append(replace(layout, fibre=self.fibre, label=self.name))
        return fitting


@dataclass(frozen=True)
class _ByFunction(MapLayout):
    function: Callable[[Tensor, Element], Tensor] = lambda t, element: t

    def act(self, t: Tensor, element: Element, frame: Frame) -> Tensor:
        return self.function(t, element)


# ---- what channels do ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Vector(Fibre):
    """Channels that are components of vectors, those of one vector side by side."""

    directions: tuple[str, ...]

    def fits(self, channels: int, axes: int) -> bool:
        return len(self.directions) == axes and channels > 0 and channels % axes == 0

    def act(self, channels: Tensor, element: Element, frame: Frame) -> Tensor:
        matrix = element.matrix(len(self.directions))
        if matrix is None:
            return channels
        basis = _basis(self.directions)
        turn = (basis.mT @ matrix @ basis).to(channels)
        vectors = channels.unflatten(1, (-1, len(self.directions)))
        return torch.einsum("ij,nvj...->nvi...", turn, vectors).flatten(1, 2)


@dataclass(frozen=True)
class _Points(_Vector):
    """Channels that are coordinates, those of one point side by side."""

    def act(self, channels: Tensor, element: Element, frame: Frame) -> Tensor:
        basis = _basis(self.directions).to(channels)
        points = channels.unflatten(1, (-1, len(self.directions))) @ basis.mT
        return (element.move(points, frame.spatial) @ basis).flatten(1)


@dataclass(frozen=True)
class _Regular(Fibre):
    """Channels that permute as the elements of the group do when one of them is put before all."""

    group: Group
    apart: bool = False

    def fits(self, channels: int, axes: int) -> bool:
        size = len(self.group.matrices(axes))
        fewest = 2 * size if self.apart else size
        return size > 1 and channels >= fewest and channels % size == 0

    def act(self, channels: Tensor, element: Element, frame: Frame) -> Tensor:
        matrix = element.matrix(len(frame.spatial))
        if matrix is None:
            return channels

        # (rho(g) f)(h) = f(g^-1 h)
        members = torch.stack(self.group.matrices(len(frame.spatial)))
        sources = matrix.mT @ members
        apart = (sources[:, None] - members).abs().amax(dim=(2, 3))
        if float(apart.amin(dim=1).max()) > 1e-6:
            raise UndefinedActionError(f"a {element.name} is no element of {self.group.name}")
        order = apart.argmin(dim=1).to(channels.device)

        # (N, C, ...) -> (N, fields, members, ...), or with `apart` members before fields
        size = len(members)
        split = (size, -1) if self.apart else (-1, size)
        fields = channels.unflatten(1, split)
        return fields.index_select(1 if self.apart else 2, order).flatten(1, 2)


@dataclass(frozen=True)
class _Channels(Fibre):
    """Channels in an order of their own under each element."""

    order: tuple[int, ...] | Callable[[Element], Sequence[int]]

    def fits(self, channels: int, axes: int) -> bool:
        return callable(self.order) or len(self.order) == channels

    def act(self, channels: Tensor, element: Element, frame: Frame) -> Tensor:
        order = self.order(element) if callable(self.order) else self.order
        return channels[:, list(order)]


def _basis(directions: Sequence[str]) -> Tensor:
    """(axes, components): the direction of each component by axis of positions."""
    found = torch.zeros(len(directions), len(directions), dtype=torch.float64, device="cpu")
    for component, direction in enumerate(directions):
        axis, sign = DIRECTIONS[direction]
        found[axis, component] = sign
    return found


# ---- what one writes -----------------------------------------------------------------------------

image = Act("image")
invariant = Act("invariant", has_positions=False)


def vector(*directions: str) -> Act:
    """Components of vectors that rotate, as of a flow or a gradient.

    Args:
        directions: where each component points, in the order of the channels: "right", "left",
            "down", "up", and in three dimensions "back" or "front" along the third axis from the
            last. By default right and down.

    Raises:
        ValueError: a direction is none of these, or two are along one axis.
    """
    directions = _known(directions)
    return Act(f"vector({', '.join(directions)})", _Vector(directions))


def points(*directions: str) -> Act:
    """(N, 2), (N, K, 2) or (N, 2 K): coordinates in pixels of the input, (0, 0) the first pixel; in
    three dimensions 3 in place of 2. An input of points turns about the origin.

    Args:
        directions: as of `vector`.

    Raises:
        ValueError: as `vector`.
    """
    directions = _known(directions)
    name = f"points({', '.join(directions)})"
    return Act(name, _Points(directions), has_positions=False)


def regular(group: Group, *, apart: bool = False) -> Act:
    """Channels that permute, one for each element of the group, as behind a group convolution.

    Args:
        group: `rotations`, `flips`, `d4` or `rotations_by(degrees)`. Rotations come
            counterclockwise from 0 degrees on; those of `d4` come again, after a flip of the last
            axis.
        apart: channels of one element side by side; by default those of one field.
    """
    return Act(f"regular({group.name}{', apart' if apart else ''})", _Regular(group, apart))


def channels(order: Sequence[int] | Callable[[Element], Sequence[int]]) -> Act:
    """A map whose channels change places.

    Args:
        order: of the channels behind every element of the group, or a function of the element that
            says it.
    """
    fixed = order if callable(order) else tuple(order)
    return Act("channels in another order", _Channels(fixed))


def _known(directions: tuple[str, ...]) -> tuple[str, ...]:
    directions = directions or ("right", "down")
    axes = sorted(DIRECTIONS.get(d, (0, 0))[0] for d in directions)
    if axes != list(range(-len(directions), 0)):
        raise ValueError(
            f"directions are {', '.join(map(repr, directions))}, expected one along each axis: "
            f"{', '.join(DIRECTIONS)}"
        )
    return directions


Said = Act | Callable[[Tensor, Element], Tensor] | Mapping[str, Any] | Sequence[Any] | None
"""An act, a function of tensor and element, or a nest of these; None where it is not said."""


def said(acts: Said) -> tuple[dict[str, Act], dict[str, Act]]:
    """The acts of input and output, by the places of their tensors.

    Args:
        acts: of the output; or a pair, of input and output.

    Raises:
        ValueError: something in there is no act, or the input has several.
    """
    given, returned = acts if isinstance(acts, tuple) and len(acts) == 2 else (None, acts)
    of_input = _by_place(given)
    if set(of_input) - {""}:
        raise ValueError(f"acts has {given!r} for the input, expected one act: x is one tensor")
    return of_input, _by_place(returned)


def _by_place(acts: Any, place: str = "") -> dict[str, Act]:
    # one act; `vector` and `points` by themselves stand for their defaults
    if acts is None:
        return {}
    if acts is vector or acts is points:
        acts = acts()
    if isinstance(acts, Act):
        return {place: acts}

    # a call is missing: as functions these two would be taken for acts
    if acts is regular or acts is channels:
        raise ValueError(
            f"acts has the function {acts.__name__}: call it, as regular(d4) or channels([1, 0])"
        )
    if callable(acts):
        return {place: Act(getattr(acts, "__name__", "a function"), function=acts)}
    if not isinstance(acts, Mapping | list | tuple):
        raise ValueError(
            f"acts has {acts!r}, expected image, invariant, vector(), points(), regular(group), "
            "channels(order) or a function of tensor and element"
        )

    # a nest: its places are joined with dots, as those of the tensors
    found: dict[str, Act] = {}
    for key, act in acts.items() if isinstance(acts, Mapping) else enumerate(acts):
        found |= _by_place(act, f"{place}.{key}" if place else str(key))
    return found


def input_frame(
    x: Tensor, act: Act | None = None, positions: Sequence[int] | None = None
) -> tuple[MapLayout, Frame]:
    """The layout of an input and what groups act on.

    Points, and vectors without positions, lie about the origin: in an image of one pixel.

    Raises:
        ValueError: x has not the shape that its act needs.
    """
    # of an image the groups act on its own axes of positions
    if act is None or act == image:
        layout = input_layout(x, positions)
        image_map = layout.map(x)[0]
        return layout, Frame(image_map.shape[0], tuple(image_map.shape[2:]))

    # without positions: as many axes as components, two where the last axis holds several vectors
    require_floating(x)
    spatial = tuple(x.shape[2:])
    if not act.has_positions or not spatial:
        last = x.shape[-1] if x.dim() > 1 else 0
        spatial = (1,) * (last if last in (1, 2, 3) else 2)
    frame = Frame(x.shape[0] if x.dim() else 1, spatial)
    found = act.layouts(x.shape, frame)
    if not found:
        raise ValueError(f"x has shape {tuple(x.shape)} and cannot be {act.name}")
    return found[0], frame


def act_of(place: str, acts: Mapping[str, Act]) -> Act | None:
    """What was said of a tensor, or of the nest that it is in."""
    while place not in acts and place:
        place = place.rpartition(".")[0]
    return acts.get(place)


def to_try(groups: Sequence[Group], axes: int) -> list[Act]:
    """The acts to try where none is said, the likeliest first."""
    turning = [group for group in groups if group.matrices(axes)]
    found = [image]
    for group in turning:
        found += [regular(group), regular(group, apart=True)]
    if turning and axes == 2:
        pairs = (("right", "down"), ("right", "up"), ("down", "right"), ("up", "right"))
        found += [vector(*pair) for pair in pairs]
    return found
