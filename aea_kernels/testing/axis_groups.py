"""Rotations by 90 degrees and flips: axes exchanged and turned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .symmetry import Element, Group, Strides

IN_TWO_DIMENSIONS = {
    ((0, 1), (0,)): "flip of axis 2",
    ((0, 1), (1,)): "flip of axis 3",
    ((0, 1), (0, 1)): "rotation by 180 degrees",
    ((1, 0), (0,)): "rotation by 90 degrees",
    ((1, 0), (1,)): "rotation by 270 degrees",
    ((1, 0), ()): "transposition",
    ((1, 0), (0, 1)): "transposition and rotation by 180 degrees",
}
"""Names of the elements, by `AxisElement.axes` and `flipped`."""


@dataclass(frozen=True)
class AxisElement(Element):
    """A rotation by 90 degrees, a flip, or both: axis i of the result is `axes[i]` of x, then
    `flipped` are turned.
    """

    axes: tuple[int, ...]
    flipped: tuple[int, ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        if len(self.axes) == 2:
            return IN_TWO_DIMENSIONS[self.axes, self.flipped]
        parts = []
        if self.turns:
            parts.append(f"axes in the order {', '.join(str(2 + a) for a in self.axes)}")
        if self.flipped:
            parts.append("flip of " + " and ".join(f"axis {2 + a}" for a in self.flipped))
        return ", then ".join(parts)

    @property
    def turns(self) -> bool:
        """Whether it exchanges axes."""
        return self.axes != tuple(sorted(self.axes))

    @property
    def is_rotation(self) -> bool:
        """Whether its determinant is 1."""
        inversions = sum(a > b for a, b in itertools.combinations(self.axes, 2))
        return (inversions + len(self.flipped)) % 2 == 0

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        return x.permute(0, 1, *(2 + a for a in self.axes)).flip([2 + a for a in self.flipped])

    def matrix(self, axes: int) -> Tensor:
        found = torch.eye(axes, dtype=torch.float64, device="cpu")[list(self.axes)]
        found[list(self.flipped)] *= -1
        return found

    def move(self, points: Tensor, spatial: Sequence[int]) -> Tensor:
        # about the centre of the image, whose sizes are exchanged with its axes
        matrix = self.matrix(points.shape[-1]).to(points)
        centre = (torch.tensor(spatial).to(points) - 1) / 2
        return (points - centre) @ matrix.mT + matrix.abs() @ centre


@dataclass(frozen=True)
class AxisGroup(Group):
    """Rotations by 90 degrees and flips in one, two or three dimensions (at most 1, 7 and 47
    elements).
    """

    name: str
    rotations: bool
    flips: bool

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        axes = range(len(shape) - 2)
        subsets = [s for size in range(len(axes) + 1) for s in itertools.combinations(axes, size)]
        orders = itertools.permutations(axes)
        every = [AxisElement(order, flipped) for order in orders for flipped in subsets]
        found: list[Element] = [element for element in every if self._has(element)]
        if not found:
            raise ValueError(
                f"{self.name} need more axes of positions than an input of shape {tuple(shape)} has"
            )
        return found

    def matrices(self, axes: int) -> list[Tensor]:
        """In two dimensions the rotations by 0, 90, 180 and 270 degrees, then each of them after a
        flip of the last axis, as in e2cnn and escnn.
        """
        identity = torch.eye(axes, dtype=torch.float64, device="cpu")
        if axes != 2 or not self.rotations:
            found = self.elements((1, 1, *[1] * axes), torch.Generator())
            return [identity, *(e.matrix(axes) for e in found if isinstance(e, AxisElement))]
        quarter = AxisElement((1, 0), (0,)).matrix(2)
        turns = [torch.linalg.matrix_power(quarter, k) for k in range(4)]
        mirror = AxisElement((0, 1), (1,)).matrix(2)
        return turns + [turn @ mirror for turn in turns] if self.flips else turns

    def _has(self, element: AxisElement) -> bool:
        """Whether it is one of the group's elements, and not the identity."""
        allowed = element.is_rotation if not self.flips else self.rotations or not element.turns
        return allowed and (element.turns or bool(element.flipped))

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        straight = tuple(range(len(shape) - 2))
        found: list[Element] = []
        if self.rotations:  # by 90 degrees, of each axis into the next
            for a in straight[:-1]:
                turned = (*straight[:a], a + 1, a, *straight[a + 2 :])
                found.append(AxisElement(turned, (a,)))
        if self.flips:  # rotations make one flip into all others
            flipped = straight[-1:] if self.rotations else straight
            found += [AxisElement(straight, (a,)) for a in flipped]
        return found or self.elements(shape, generator)
