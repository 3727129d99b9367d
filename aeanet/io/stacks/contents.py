"""What a file of several planes holds: axes by name, sizes, steps, type."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aeanet.errors import UserError
from aeanet.imaging.upsampling import upsampled_shape
from aeanet.io.pixel_size import PixelSize

AXES = "TZC"
"""The axes that planes may be numbered by: time, depth, channel."""
UNKNOWN = "?"
"""The letter of an axis that a file does not name."""


class AxesError(UserError):
    """Axes that cannot be told, or that do not fit to the file."""


class Step(NamedTuple):
    """From one position on an axis to the next: a length or a time.

    Attributes:
        size: in the unit.
        unit: as OME writes it ("nm", "µm", "s" ...); empty if it is not known.
    """

    size: float
    unit: str


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        axes: a letter each, in the order of the file: of T (time), Z (depth) and C (channel), "?"
            while it is not known which, then Y and X, and S where planes have colours.
        shape: the length of each axis.
        dtype: of the values.
        steps: of those axes of which the file states one.
        channels: the names of the channels; empty if it states none.
        bits: of an integer that the values use, if it states that.
        kind: the format, such as "OME-TIFF".
        metadata: what else the format needs to be written again.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    steps: Mapping[str, Step] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    bits: int | None = None
    kind: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each axis by its letter."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def leading(self) -> tuple[int, ...]:
        """The lengths of the axes that number the planes."""
        return self.shape[: self.axes.index("Y")]

    @property
    def planes(self) -> int:
        """How many there are."""
        return math.prod(self.leading)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(H, W) of each plane."""
        return self.sizes["Y"], self.sizes["X"]

    @property
    def plane_bytes(self) -> int:
        """Of one grey plane."""
        return math.prod(self.plane_shape) * self.dtype.itemsize

    @property
    def pixel_size(self) -> PixelSize | None:
        """Of each plane, if the file states it."""
        if "X" not in self.steps or "Y" not in self.steps:
            return None
        (x, unit), (y, unit_y) = self.steps["X"], self.steps["Y"]
        return PixelSize.of(x, y, unit, unit_y)

    def restored(self, magnification: float) -> "Contents":
        """The contents of a result: grey, with smaller pixels; all else is kept."""
        shape = *self.leading, *upsampled_shape(self.plane_shape, magnification)
        steps = {
            axis: Step(step.size / magnification, step.unit) if axis in "YX" else step
            for axis, step in self.steps.items()
        }
        return replace(self, axes=self.axes.replace("S", ""), shape=shape, steps=steps)

    def index(self, plane: int) -> tuple[int, ...]:
        """The position of a plane on each leading axis, from 0."""
        return tuple(map(int, np.unravel_index(plane, self.leading)))

    def place(self, plane: int) -> dict[str, int]:
        """`index` by the letters of the axes."""
        return dict(zip(self.axes, self.index(plane), strict=False))

    def name_of(self, plane: int) -> str:
        """Such as "plane 7", or "plane 7 (T 2, Z 3)", all from 1."""
        place = self.place(plane)
        where = ", ".join(f"{axis} {index + 1}" for axis, index in place.items())
        return f"plane {plane + 1}" + (f" ({where})" if len(place) > 1 else "")


def steps_of(size: PixelSize | None) -> dict[str, Step]:
    """Those of Y and X."""
    return {} if size is None else {"Y": Step(size.y, size.unit), "X": Step(size.x, size.unit)}


def checked_axes(axes: str, shape: Sequence[int], path: Path | None = None) -> str:
    """Axes for an array of `shape`, in capitals.

    Raises:
        AxesError: unless they are letters of T, Z and C, each once, then YX, and S for colours.
    """
    # what stands before YX and after it; without YX the middle is empty
    axes = axes.strip().upper()
    leading, planes, colours = axes.partition("YX")
    well_formed = planes and colours in ("", "S") and set(leading) <= set(AXES)
    whose = "" if path is None else f" of {path}"
    if not well_formed or len(set(leading)) < len(leading):
        raise AxesError(
            f"the axes{whose} are {axes!r}, wanted letters of T, Z and C, each once, then YX, such "
            "as ZYX."
        )

    # well formed, but perhaps for another array
    if len(axes) != len(shape):
        sizes = " x ".join(map(str, shape))
        raise AxesError(f"{len(axes)} axes, {axes}, do not fit to the {sizes} values{whose}.")
    return axes
