"""The size of a pixel, and how TIFF files state it. What makers state is read by `io.makers`."""

from dataclasses import dataclass
from typing import Any

METRES = {
    "km": 1e3,
    "m": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    "µm": 1e-6,
    "nm": 1e-9,
    "Å": 1e-10,
    "pm": 1e-12,
    "in": 0.0254,
}
LENGTHS = frozenset(METRES)
TIMES = frozenset(("ns", "µs", "ms", "s", "min", "h", "d"))
_LEAST, _MOST = 1e-15, 0.1  # metres; other values are mistakes or belong to diffraction patterns
_READABLE = ("mm", "µm", "nm")
_SPELLINGS = {
    "Å": "a ang angstrom ångström å",
    "pm": "picometer picometre",
    "nm": "nanometer nanometre",
    "µm": r"micrometer micrometre micron microns um μm \u00b5m",
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "in": "inch inches",
    "ns": "nanosecond nanoseconds",
    "µs": r"microsecond microseconds us μs \u00b5s",
    "ms": "millisecond milliseconds msec",
    "s": "second seconds sec",
    "min": "minute minutes",
    "h": "hour hours",
    "d": "day days",
}
_ALIASES = {
    spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()
}


def short_unit(unit: Any) -> str:
    """A unit as OME writes it, where it is a length or a time."""
    text = str(unit).strip("\0 ")
    return _ALIASES.get(text.lower(), text)


def _is_length(side: float, unit: str) -> bool:
    return unit in METRES and _LEAST < side * METRES[unit] < _MOST


@dataclass(frozen=True)
class PixelSize:
    """Width `x` and height `y` of one pixel in `unit`, a unit of length as OME writes it ("nm",
    "µm", "Å" ...).
    """

    x: float
    y: float
    unit: str

    @classmethod
    def of(cls, x: Any, y: Any, unit: Any, unit_y: Any = None) -> "PixelSize | None":
        """From what a file states; None if that is no length of a pixel (not calibrated, or a
        reciprocal length).

        Metres, the unit of the files of SEMs, become the unit in which the number is easy to read.

        Args:
            x, y: width and height. Where one of them is None the pixel is square.
            unit: of the width, and of the height too if `unit_y` is None.
            unit_y: of the height; it is brought to the unit of the width.
        """
        # a side that is missing is that of a square pixel, in the unit of the other
        if x is None:
            x, unit = y, unit_y or unit
        if y is None or unit_y is None:
            unit_y = unit
        try:
            x, y = abs(float(x)), abs(float(x if y is None else y))
        except (TypeError, ValueError):
            return None

        # no length of a pixel: not calibrated, of a diffraction pattern, or in no unit of length
        unit, unit_y = short_unit(unit), short_unit(unit_y)
        if not all(_is_length(*side) for side in ((x, unit), (y, unit_y))):
            return None

        # both in one unit, by digits that can be read
        if unit != unit_y:
            y = float(f"{y * METRES[unit_y] / METRES[unit]:.12g}")
        if unit == "m":
            unit = next((name for name in _READABLE if max(x, y) >= METRES[name]), _READABLE[-1])
            # 1.6, not 1.5999999999999999
            x, y = (float(f"{side / METRES[unit]:.12g}") for side in (x, y))
        return cls(x, y, unit)

    def magnified(self, magnification: float) -> "PixelSize":
        """The size of the pixels of an image with `magnification` times as many along each side."""
        return PixelSize(self.x / magnification, self.y / magnification, self.unit)

    def __str__(self) -> str:
        width, height = f"{self.x:.6g}", f"{self.y:.6g}"
        return f"{width} {self.unit}" if width == height else f"{width} x {height} {self.unit}"


def ome_metadata(
    pixel_size: PixelSize | None, bits: int | None = None, description: str = ""
) -> dict[str, Any]:
    """The `metadata` of `tifffile.imwrite(..., ome=True)` for one (H, W) image with pixels of that
    size.

    `bits`, if given, states how many bits of an integer the values use; `description` says what the
    image is.
    """
    metadata: dict[str, Any] = {"axes": "YX"}
    if description:
        metadata["Description"] = description
    if bits is not None:
        metadata["SignificantBits"] = bits
    if pixel_size is not None:
        for axis, side in {"X": pixel_size.x, "Y": pixel_size.y}.items():
            metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": pixel_size.unit}
    return metadata


def tiff_resolution(pixel_size: PixelSize | None) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` that state the pixel size for programs that read no OME, such
    as ImageJ.

    Pixels per centimetre; none below 3 pm per pixel, which TIFF's fractions of 32 bits cannot hold.
    """
    if pixel_size is None:
        return {}
    x, y = (0.01 / (side * METRES[pixel_size.unit]) for side in (pixel_size.x, pixel_size.y))
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"} if max(x, y) < 2**32 - 1 else {}
