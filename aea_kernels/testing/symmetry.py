"""What a symmetry is made of: elements, which act on feature maps, and groups, which are sets of
them.

For a symmetry of your own, derive from both: `act` is all that an element needs, `elements` all
that a group needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

Strides = tuple[Fraction, ...]
"""Positions of the network's input per position of a map, by axis: 2 after a stride of 2, 1/2 after
upsampling.
"""


class UndefinedActionError(Exception):
    """An element has no action on a map of this size; the message says why, as the end of a
    sentence.
    """


class Element(ABC):
    """One transformation, not the identity.

    Attributes:
        name: how messages and tables call it.
        moves: what it acts on: "positions"; "images", the first axis; or "values". A tensor without
            positions, such as the (N, C) behind a global pooling, stays as it is under the first.
        spill: by axis, how many positions at each border of the input hold something else than the
            moved image.
        interpolates: whether it computes values between positions.
        round_trip: then, the element and its inverse one after the other: nothing but
            interpolation, twice.
    """

    name: str
    moves: str = "positions"
    spill: tuple[int, ...] = ()
    interpolates: bool = False
    round_trip: Element | None = None

    @abstractmethod
    def act(self, x: Tensor, strides: Strides) -> Tensor:
        """x (N, C, *spatial), a map inside the network or its input, and its strides -> the
        transformed map.

        Raises:
            UndefinedActionError: the element does not act on a map of this size.
        """

    def matrix(self, axes: int) -> Tensor | None:
        """What becomes of directions, (axes, axes) float64 by axis of positions; None: nothing."""
        return None

    def move(self, points: Tensor, spatial: Sequence[int]) -> Tensor:
        """Points (..., axes) of an image of these sizes, coordinates by axis -> where they go.

        Raises:
            UndefinedActionError: the element moves positions, and no points between them.
        """
        if self.moves == "positions":
            raise UndefinedActionError(f"a {self.name} does not act on coordinates")
        return points

    def local(self, spatial: tuple[int, ...], strides: Strides) -> Element | None:
        """The element to test a single layer with whose input has these sizes and strides; None
        where there is none.
        """
        return self


class Group(ABC):
    """A set of transformations; `name` is how messages and tables call it."""

    name: str

    @abstractmethod
    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        """Its elements without the identity, or a random sample of them, for an input (N, C,
        *spatial) of this shape.

        Raises:
            ValueError: no element but the identity acts on this shape.
        """

    def prepared(self, x: Tensor) -> Tensor:
        """The input on which it is measured: x, smoothed where elements interpolate."""
        return x

    def matrices(self, axes: int) -> list[Tensor]:
        """What each element, the identity first, does to directions; empty where channels cannot
        permute under the group.
        """
        return []

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        """A few elements that show a broken symmetry; for rotations and flips, those that make up
        all others.
        """
        return self.elements(shape, generator)
