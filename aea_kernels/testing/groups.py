"""The symmetries that come with the package: of positions, of the batch, of intensities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from .symmetry import Element, Group, Strides, UndefinedActionError


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
            named = {
                ((0, 1), (0,)): "flip of axis 2",
                ((0, 1), (1,)): "flip of axis 3",
                ((0, 1), (0, 1)): "rotation by 180 degrees",
                ((1, 0), (0,)): "rotation by 90 degrees",
                ((1, 0), (1,)): "rotation by 270 degrees",
                ((1, 0), ()): "transposition",
                ((1, 0), (0, 1)): "transposition and rotation by 180 degrees",
            }
            return named[self.axes, self.flipped]
        flip = (
            "flip of " + " and ".join(f"axis {2 + a}" for a in self.flipped) if self.flipped else ""
        )
        order = (
            f"axes in the order {', '.join(str(2 + a) for a in self.axes)}" if self.turns else ""
        )
        return ", then ".join(part for part in (order, flip) if part)

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


@dataclass(frozen=True)
class AxisGroup(Group):
    """Rotations by 90 degrees and flips in one, two or three dimensions (at most 1, 7 and 47
    elements).
    """

    name: str
    rotations: bool
    flips: bool

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        number = len(shape) - 2
        subsets = [
            s for size in range(number + 1) for s in itertools.combinations(range(number), size)
        ]
        every = [
            AxisElement(axes, s) for axes in itertools.permutations(range(number)) for s in subsets
        ]
        wanted = [
            e
            for e in every
            if (e.turns or e.flipped)
            and (self.flips or e.is_rotation)
            and (self.rotations or not e.turns)
        ]
        if not wanted:
            raise ValueError(
                f"{self.name} need more axes of positions than an input of shape {tuple(shape)} has"
            )
        return list(wanted)

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        number = len(shape) - 2
        straight = tuple(range(number))
        found: list[Element] = []
        for a in range(number - 1) if self.rotations else ():
            axes = list(straight)
            axes[a], axes[a + 1] = a + 1, a
            found.append(AxisElement(tuple(axes), (a,)))
        if self.flips:
            found += [
                AxisElement(straight, (a,))
                for a in (straight if not self.rotations else straight[-1:])
            ]
        return found or self.elements(shape, generator)


@dataclass(frozen=True)
class Permutation(Element):
    """Blocks of positions in another order; `order` is of the blocks of the input."""

    name: str
    order: tuple[int, ...]
    blocks: tuple[int, ...]
    size: int

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        spatial = x.shape[2:]
        sides = [Fraction(self.size) / s for s in strides]
        if any(
            s.denominator > 1 or n != b * s
            for n, b, s in zip(spatial, self.blocks, sides, strict=True)
        ):
            places = math.prod(b * self.size for b in self.blocks)
            raise UndefinedActionError(
                f"a permutation of {places:,} positions does not act on the {math.prod(spatial):,} positions here"
            )
        number = len(spatial)
        split = [n for b, s in zip(self.blocks, sides, strict=True) for n in (b, int(s))]
        blocks_first = [2 + 2 * i for i in range(number)] + [3 + 2 * i for i in range(number)]
        y = x.reshape(*x.shape[:2], *split).permute(*blocks_first, 0, 1)
        y = y.flatten(0, number - 1)[torch.tensor(self.order, device=x.device)].unflatten(
            0, self.blocks
        )
        back = [n for i in range(number) for n in (i, number + i)]
        return y.permute(2 * number, 2 * number + 1, *back).reshape(x.shape)

    def local(self, spatial: tuple[int, ...], strides: Strides) -> Element | None:
        side = Fraction(self.size) / strides[0]
        size = int(side) if side.denominator == 1 and side > 1 else 1
        if any(n % size for n in spatial) or math.prod(spatial) == size ** len(spatial):
            return None
        blocks = tuple(n // size for n in spatial)
        return Permutation(self.name, _random_order(math.prod(blocks), self.order[0]), blocks, size)


@dataclass(frozen=True)
class Permutations(Group):
    """Random permutations of the positions, or of the blocks of `size` positions a side that tile
    the image.
    """

    size: int = 1
    trials: int = 3

    @property
    def name(self) -> str:  # type: ignore[override]
        what = "positions" if self.size == 1 else f"patches of {self.size} positions a side"
        return f"permutations of the {what}"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        spatial = tuple(shape[2:])
        if self.size < 1 or any(n % self.size for n in spatial):
            raise ValueError(
                f"an input of shape {tuple(shape)} does not split into patches of {self.size} positions a side"
            )
        blocks = tuple(n // self.size for n in spatial)
        number = math.prod(blocks)
        drawn = [
            int(torch.randint(2**31, (), generator=generator, device="cpu"))
            for _ in range(self.trials)
        ]
        return [
            Permutation(
                f"permutation {i + 1} of {number:,} places",
                _random_order(number, seed),
                blocks,
                self.size,
            )
            for i, seed in enumerate(drawn)
        ]

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        return self.elements(shape, generator)[:1]


def _random_order(number: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randperm(number, generator=generator, device="cpu").tolist())


@dataclass(frozen=True)
class Translation(Element):
    """A shift of the image; what leaves it on one side comes in on the other."""

    shift: tuple[int, ...]
    circular: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"shift by ({', '.join(str(s) for s in self.shift)})"

    @property
    def spill(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(0 if self.circular else abs(s) for s in self.shift)

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        shifts = [Fraction(s) / stride for s, stride in zip(self.shift, strides, strict=True)]
        for shift, stride in zip(shifts, strides, strict=True):
            if shift.denominator > 1:
                raise UndefinedActionError(
                    f"a {self.name} is no whole number of positions after a stride of {stride}; shift by its multiples"
                )
        return x.roll([int(s) for s in shifts], dims=list(range(2, x.dim())))

    def local(self, spatial: tuple[int, ...], strides: Strides) -> Element | None:
        shifts = [Fraction(s) / stride for s, stride in zip(self.shift, strides, strict=True)]
        if any(s.denominator > 1 for s in shifts):
            return None
        return Translation(tuple(int(s) for s in shifts), self.circular)


@dataclass(frozen=True)
class Translations(Group):
    """Shifts by `step` positions along each axis, and against all of them at once."""

    step: int
    circular: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{'circular ' if self.circular else ''}translations by {self.step}"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        number = len(shape) - 2
        if self.step < 1 or all(n <= self.step for n in shape[2:]):
            raise ValueError(
                f"a shift by {self.step} moves nothing within an input of shape {tuple(shape)}"
            )
        single = [tuple(self.step * (a == b) for b in range(number)) for a in range(number)]
        return [Translation(shift, self.circular) for shift in [*single, (-self.step,) * number]]

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        return self.elements(shape, generator)[-1:]


@dataclass(frozen=True)
class Reordering(Element):
    """The images of a batch in another order."""

    order: tuple[int, ...]
    moves: str = "images"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"images in the order {', '.join(str(i) for i in self.order)}"

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        if len(x) != len(self.order):
            raise UndefinedActionError(
                f"an order of {len(self.order)} images does not act on the {len(x)} images here"
            )
        return x[list(self.order)]


@dataclass(frozen=True)
class BatchOrder(Group):
    """The batch reversed, and in random order; `images` names those that change places, all by
    default.
    """

    images: tuple[int, ...] | None = None
    trials: int = 2
    name: str = "order of the batch"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        images = tuple(range(shape[0])) if self.images is None else self.images
        if (
            len(images) < 2
            or len(set(images)) < len(images)
            or not all(0 <= i < shape[0] for i in images)
        ):
            raise ValueError(
                f"the order of a batch needs two different images or more, got {images} of an x of shape {tuple(shape)}"
            )
        orders = {tuple(reversed(images)): None}
        for _ in range(self.trials):
            drawn = torch.randperm(len(images), generator=generator, device="cpu").tolist()
            orders[tuple(images[i] for i in drawn)] = None
        orders.pop(images, None)
        found: list[Element] = []
        for order in orders:
            whole = list(range(shape[0]))
            for place, image in zip(images, order, strict=True):
                whole[place] = image
            found.append(Reordering(tuple(whole)))
        return found

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        return self.elements(shape, generator)[:1]


@dataclass(frozen=True)
class Factor(Element):
    """All values times a factor."""

    factor: float
    moves: str = "values"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"values times {self.factor:g}"

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        return x * self.factor


@dataclass(frozen=True)
class Scale(Group):
    """Intensities times a factor, of the input and of the output alike."""

    factor: float

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"intensities times {self.factor:g}"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        if self.factor == 1:
            raise ValueError("intensities times 1 are what they were")
        return [Factor(self.factor)]


permutations = Permutations()
rotations = AxisGroup("rotations", rotations=True, flips=False)
flips = AxisGroup("flips", rotations=False, flips=True)
d4 = AxisGroup("rotations and flips", rotations=True, flips=True)
batch_order = BatchOrder()


def permutations_of_patches(size: int, *, trials: int = 3) -> Group:
    """Random permutations of the patches of `size` positions a side, which the input's sides are
    multiples of.
    """
    return Permutations(size, trials)


def translations(step: int, *, circular: bool = False) -> Group:
    """Shifts by `step` positions of the input, a multiple of the network's stride.

    Args:
        step: how far.
        circular: compare every position, as a network with circular padding allows; otherwise only
            those in the interior, which the border does not reach.
    """
    return Translations(step, circular)


def batch_order_of(*images: int) -> Group:
    """The named images of the batch change places among themselves, the others stay."""
    return BatchOrder(images)


def scale(factor: float) -> Group:
    """Intensities times `factor`."""
    return Scale(factor)
