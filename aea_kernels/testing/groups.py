"""The symmetries that come with the package: of positions, of the batch, of intensities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .angles import RotationsBy, SmallTranslations
from .axis_groups import AxisGroup
from .checks import require_number
from .symmetry import Element, Group, Strides, UndefinedActionError


@dataclass(frozen=True)
class Permutation(Element):
    """Blocks of positions in another order.

    Attributes:
        order: of the blocks of the input.
        blocks: how many there are along each axis.
        size: positions a side of a block, in the input.
    """

    name: str
    order: tuple[int, ...]
    blocks: tuple[int, ...]
    size: int

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        # inside a network a block has size / stride positions a side, a whole number where it acts
        spatial = x.shape[2:]
        sides = [int(self.size / stride) for stride in strides]
        covered = [b * side for b, side in zip(self.blocks, sides, strict=True)]
        if covered != list(spatial) or any(self.size % stride for stride in strides):
            places = math.prod(b * self.size for b in self.blocks)
            raise UndefinedActionError(
                f"a permutation of {places:,} positions does not act on the "
                f"{math.prod(spatial):,} positions here"
            )

        # (N, C, blocks and their sides in turn) -> (blocks, N, C, sides), reordered, and back
        split = [n for pair in zip(self.blocks, sides, strict=True) for n in pair]
        front, apart = tuple(range(len(sides))), tuple(range(2, 2 + len(split), 2))
        blocks = x.reshape(*x.shape[:2], *split).movedim(apart, front).flatten(0, front[-1])
        moved = blocks[torch.tensor(self.order, device=x.device)].unflatten(0, self.blocks)
        return moved.movedim(front, apart).reshape(x.shape)

    def local(self, spatial: tuple[int, ...], strides: Strides) -> Element | None:
        side = self.size / strides[0]
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
        if self.size < 1 or any(n % self.size for n in shape[2:]):
            raise ValueError(
                f"an input of shape {tuple(shape)} does not split into patches of {self.size} "
                "positions a side"
            )

        # blocks change places whole; positions within one stay together
        blocks = tuple(n // self.size for n in shape[2:])
        places = math.prod(blocks)
        found: list[Element] = []
        for trial in range(self.trials):
            seed = int(torch.randint(2**31, (), generator=generator, device="cpu"))
            name = f"permutation {trial + 1} of {places:,} places"
            found.append(Permutation(name, _random_order(places, seed), blocks, self.size))
        return found

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
        for shift, stride in zip(self.shift, strides, strict=True):
            if shift % stride:
                raise UndefinedActionError(
                    f"a {self.name} is no whole number of positions after a stride of {stride}; "
                    "shift by its multiples"
                )
        return x.roll(self._shifts(strides), dims=list(range(2, x.dim())))

    def move(self, points: Tensor, spatial: Sequence[int]) -> Tensor:
        moved = points + torch.tensor(self.shift).to(points)
        return moved % torch.tensor(spatial).to(points) if self.circular else moved

    def local(self, spatial: tuple[int, ...], strides: Strides) -> Element | None:
        if any(shift % stride for shift, stride in zip(self.shift, strides, strict=True)):
            return None
        return Translation(tuple(self._shifts(strides)), self.circular)

    def _shifts(self, strides: Strides) -> list[int]:
        return [int(shift / stride) for shift, stride in zip(self.shift, strides, strict=True)]


@dataclass(frozen=True)
class Translations(Group):
    """Shifts by `step` positions along each axis, and against all of them at once."""

    step: int
    circular: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{'circular ' if self.circular else ''}translations by {self.step}"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        axes = range(len(shape) - 2)
        if self.step < 1 or all(n <= self.step for n in shape[2:]):
            raise ValueError(
                f"a shift by {self.step} moves nothing within an input of shape {tuple(shape)}"
            )
        shifts = [tuple(self.step if a == axis else 0 for a in axes) for axis in axes]
        shifts.append((-self.step,) * len(axes))
        return [Translation(shift, self.circular) for shift in shifts]

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
    """The batch reversed, and in two random orders; `images` names those that change places, all by
    default.
    """

    images: tuple[int, ...] | None = None
    name: str = "order of the batch"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        # at least two images, none named twice, all of them in the batch
        images = tuple(range(shape[0])) if self.images is None else self.images
        different = set(images)
        if len(different) < 2 or len(different) < len(images) or different - set(range(shape[0])):
            raise ValueError(
                f"the order of a batch needs two different images or more, got {images} of an x of "
                f"shape {tuple(shape)}"
            )

        # the reverse is never the order itself; a random one may be, or come twice
        orders = [images[::-1]]
        for _ in range(2):
            drawn = torch.randperm(len(images), generator=generator, device="cpu").tolist()
            orders.append(tuple(images[i] for i in drawn))

        # images that are not named keep their places
        found: list[Element] = []
        for order in dict.fromkeys(orders):
            if order != images:
                places = dict(zip(images, order, strict=True))
                found.append(Reordering(tuple(places.get(i, i) for i in range(shape[0]))))
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
    require_number(size, "a side of patches is")
    if size != int(size):
        raise ValueError(f"patches have a whole number of positions a side, got {size}")
    return Permutations(int(size), trials)


def rotations_by(degrees: float) -> Group:
    """Rotations by any angle and its multiples, on smoothed images in two dimensions."""
    require_number(degrees, "an angle is")
    return RotationsBy(degrees)


def translations(step: float, *, circular: bool = False) -> Group:
    """Shifts by `step` positions of the input, a multiple of the network's stride.

    Args:
        step: how far; by part of a position, where it is no whole number, in two dimensions and on
            smoothed images.
        circular: compare every position, as a network with circular padding allows; otherwise only
            those in the interior, which the border does not reach.
    """
    require_number(step, "a shift is by")
    if step != int(step):
        if circular:
            raise ValueError(f"circular shifts are by whole positions, got {step}")
        return SmallTranslations(step)
    return Translations(int(step), circular)


def batch_order_of(*images: int) -> Group:
    """The named images of the batch change places among themselves, the others stay."""
    return BatchOrder(images)


def scale(factor: float) -> Group:
    """Intensities times `factor`."""
    require_number(factor, "a factor is")
    return Scale(factor)
