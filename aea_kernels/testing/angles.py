"""Rotations by any angle and shifts by part of a position, which interpolate between positions.

Interpolation has an error of its own. A round trip, g and then its inverse, moves nothing and
interpolates twice: by how much a function fails to commute with it is twice what interpolation
adds, and that is taken off. Inputs are smoothed first, and fade out towards the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .symmetry import Element, Group, Strides

SMOOTHING = 1.5
"""Standard deviation in positions of the Gaussian that inputs are smoothed with: of a wave of two
positions it leaves 2e-5, of one of eight positions a half.
"""

LARGE_TURN, SMALL_TURN = 130, 15
"""Degrees: the turn that the largest one tried is near to, and below which one is not tried alone.
"""

SMALLEST_MOVE = 1e-3
"""In positions: what moves an image by less moves nothing."""

MOST_ORIENTATIONS = 360
"""Of the channels that may permute under rotations."""

FADING = 0.2
"""The part of the radius over which inputs fade to zero."""


@dataclass(frozen=True)
class Affine(Element):
    """A rotation about the centre of an image, then a shift, by cubic interpolation.

    Attributes:
        name: how messages and tables call it.
        angle: in degrees, counterclockwise as `torch.rot90`.
        shift: in positions of the input, by axis.
        spatial: sizes of the input.
        back: also by the inverse, as a round trip.
    """

    name: str
    angle: float
    shift: tuple[float, float]
    spatial: tuple[int, ...]
    back: bool = False
    interpolates: bool = True

    @property
    def round_trip(self) -> Element | None:  # type: ignore[override]
        return None if self.back else replace(self, name=f"{self.name} and back", back=True)

    @property
    def spill(self) -> tuple[int, ...]:  # type: ignore[override]
        """Beyond the largest square within the disc that stays in the image under rotations."""
        if not self.angle:
            return tuple(math.ceil(abs(s)) + 2 for s in self.shift)
        half = min(self.spatial) / 2 / math.sqrt(2)
        return tuple(math.ceil(n / 2 - half) + 2 for n in self.spatial)

    def act(self, x: Tensor, strides: Strides) -> Tensor:
        shift = torch.tensor([float(s / t) for s, t in zip(self.shift, strides, strict=True)])
        turn = _rotation(self.angle)
        moved = _resampled(x, turn.mT, -turn.mT @ shift.to(turn))
        return _resampled(moved, turn, shift.to(turn)) if self.back else moved

    def matrix(self, axes: int) -> Tensor | None:
        return None if self.back or not self.angle else _rotation(self.angle)

    def move(self, points: Tensor, spatial: Sequence[int]) -> Tensor:
        if self.back:
            return points
        centre = (torch.tensor(spatial).to(points) - 1) / 2
        shift = torch.tensor(self.shift).to(points)
        return (points - centre) @ _rotation(self.angle).to(points).mT + centre + shift

    def local(self, spatial: tuple[int, ...], strides: Strides) -> Element | None:
        shift = (float(self.shift[0] / strides[0]), float(self.shift[1] / strides[1]))
        return replace(self, shift=shift, spatial=spatial)


@dataclass(frozen=True)
class Smooth(Group):
    """What interpolating groups share: two dimensions, and smooth inputs."""

    def prepared(self, x: Tensor) -> Tensor:
        smooth = blurred(x.to(torch.float64), SMOOTHING)
        lines = [torch.linspace(-1, 1, n).to(smooth) * n / min(x.shape[2:]) for n in x.shape[2:]]
        radius = (lines[0][:, None].square() + lines[1].square()).sqrt()
        fade = ((1 - radius) / FADING).clamp(0, 1)
        return (smooth * fade.square() * (3 - 2 * fade)).to(x.dtype)


@dataclass(frozen=True)
class RotationsBy(Smooth):
    """Rotations by multiples of an angle."""

    degrees: float

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"rotations by {self.degrees:g} degrees"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        spatial = _two_dimensions(self.name, shape)
        if not 0 < self.degrees < 360:
            raise ValueError(f"rotations by {self.degrees:g} degrees turn nothing: take 0 to 360")

        # the corners, half a diagonal from the centre, move farthest
        turn = math.radians(min(self.degrees, 360 - self.degrees))
        if turn * math.hypot(*spatial) / 2 < SMALLEST_MOVE:
            raise ValueError(
                f"rotations by {self.degrees:g} degrees move no position of an input of shape "
                f"{tuple(shape)} by {SMALLEST_MOVE:g}: take an angle farther from 0 and 360"
            )

        # a small turn changes an image by less than the error that interpolation may have
        multiples = [n * self.degrees % 360 for n in range(1, 361)]
        angles = [self.degrees, -self.degrees, min(multiples, key=lambda a: abs(a - LARGE_TURN))]

        # no angle twice, and no whole turns
        return [
            Affine(f"rotation by {angle:g} degrees", angle, (0.0, 0.0), spatial)
            for angle in dict.fromkeys(angles)
            if angle % 360
        ]

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        first, *_, large = self.elements(shape, generator)
        return [first] if SMALL_TURN <= self.degrees <= 360 - SMALL_TURN else [first, large]

    def matrices(self, axes: int) -> list[Tensor]:
        # a full turn of tiny steps would be billions of them
        if axes != 2 or not 360 / MOST_ORIENTATIONS <= self.degrees < 360:
            return []
        number = 360 / self.degrees
        if number != round(number):
            return []
        return [_rotation(k * self.degrees) for k in range(round(number))]


@dataclass(frozen=True)
class SmallTranslations(Smooth):
    """Shifts by part of a position along each axis, and against both at once."""

    step: float

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"translations by {self.step:g}"

    def elements(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        spatial = _two_dimensions(self.name, shape)
        if not SMALLEST_MOVE <= self.step < min(spatial):
            raise ValueError(
                f"a shift by {self.step:g} moves nothing within an input of shape {tuple(shape)}"
            )
        shifts = [(self.step, 0.0), (0.0, self.step), (-self.step, -self.step)]
        return [Affine(f"shift by ({a:g}, {b:g})", 0.0, (a, b), spatial) for a, b in shifts]

    def generators(self, shape: Sequence[int], generator: torch.Generator) -> list[Element]:
        return self.elements(shape, generator)[-1:]


def blurred(x: Tensor, deviation: float) -> Tensor:
    """(N, C, H, W) convolved with a Gaussian, borders repeated."""
    reach = math.ceil(4 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(x) / deviation).square())
    weights = weights / weights.sum()
    padded = F.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    return F.conv2d(F.conv2d(padded, weights[None, None, :, None]), weights[None, None, None]).view(
        x.shape
    )


def _two_dimensions(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != 4:
        raise ValueError(f"{name} need two axes of positions, got an input of shape {tuple(shape)}")
    return tuple(shape[2:])


def _rotation(angle: float) -> Tensor:
    """(2, 2), of directions by axis: to the right becomes up after 90 degrees."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64, device="cpu")


def _resampled(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """The image whose value at q, from the centre, is that of x (N, C, H, W) at matrix q + offset.

    Positions are (row, column); torch's are (x, y), from -1 to 1.
    """
    half = torch.tensor([n / 2 for n in x.shape[2:]]).to(matrix)
    theta = torch.cat([matrix * half / half[:, None], (offset / half)[:, None]], dim=1)
    theta = theta.flip(0)[:, [1, 0, 2]].to(x).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False)
