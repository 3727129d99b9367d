"""The size of a pixel: read from the tags of TIFF files, written as OME metadata."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

_METRES = {
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
_LEAST, _MOST = 1e-15, 0.1  # metres; other values are mistakes or belong to diffraction patterns
_READABLE = ("mm", "µm", "nm")
_SPELLINGS = {
    "Å": "a ang angstrom ångström å",
    "pm": "picometer",
    "nm": "nanometer",
    "µm": r"micrometer micron microns um μm \u00b5m",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter metre",
    "in": "inch inches",
}
_ALIASES = {
    spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()
}


@dataclass(frozen=True)
class PixelSize:
    """Width `x` and height `y` of one pixel in `unit`, a unit of length as OME writes it ("nm",
    "µm", "Å" ...).
    """

    x: float
    y: float
    unit: str

    @classmethod
    def of(cls, x: Any, y: Any, unit: Any) -> "PixelSize | None":
        """From what a file states; None if that is no length of a pixel (not calibrated, or a
        reciprocal length).

        Metres, the unit of the files of SEMs, become the unit in which the number is easy to read.
        """
        unit = str(unit).strip("\0 ")
        unit = _ALIASES.get(unit.lower(), unit)
        try:
            x, y = abs(float(x)), abs(float(y))
        except (TypeError, ValueError):
            return None
        if unit not in _METRES or not all(_LEAST < side * _METRES[unit] < _MOST for side in (x, y)):
            return None
        if unit == "m":
            unit = next((name for name in _READABLE if max(x, y) >= _METRES[name]), _READABLE[-1])
            # 1.6, not 1.5999999999999999
            x, y = (float(f"{side / _METRES[unit]:.12g}") for side in (x, y))
        return cls(x, y, unit)

    def magnified(self, magnification: float) -> "PixelSize":
        """The size of the pixels of an image with `magnification` times as many along each side."""
        return PixelSize(self.x / magnification, self.y / magnification, self.unit)

    def __str__(self) -> str:
        width, height = f"{self.x:.6g}", f"{self.y:.6g}"
        return f"{width} {self.unit}" if width == height else f"{width} x {height} {self.unit}"


def ome_metadata(pixel_size: PixelSize | None, bits: int | None = None) -> dict[str, Any]:
    """The `metadata` of `tifffile.imwrite(..., ome=True)` for one (H, W) image with pixels of that
    size.

    `bits`, if given, states how many bits of an integer the values use.
    """
    metadata: dict[str, Any] = {"axes": "YX"}
    if bits is not None:
        metadata["SignificantBits"] = bits
    if pixel_size is not None:
        for axis, side in {"X": pixel_size.x, "Y": pixel_size.y}.items():
            metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": pixel_size.unit}
    return metadata


def significant_bits(file: tifffile.TiffFile) -> int | None:
    """How many bits of an integer the values of an OME-TIFF use; None if it does not state that."""
    try:
        pixels = ElementTree.fromstring(file.ome_metadata or "").find(".//{*}Pixels")
        bits = 0 if pixels is None else int(pixels.get("SignificantBits", ""))
        return bits if 1 <= bits <= 64 else None
    except (ValueError, ElementTree.ParseError):
        return None


def tiff_resolution(pixel_size: PixelSize | None) -> dict[str, Any]:
    """Arguments of `tifffile.imwrite` that state the pixel size for programs that read no OME, such
    as ImageJ.

    Pixels per centimetre; none below 3 pm per pixel, which TIFF's fractions of 32 bits cannot hold.
    """
    if pixel_size is None:
        return {}
    x, y = (0.01 / (side * _METRES[pixel_size.unit]) for side in (pixel_size.x, pixel_size.y))
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"} if max(x, y) < 2**32 - 1 else {}


def pixel_size_of_tiff(file: tifffile.TiffFile) -> PixelSize | None:
    """The pixel size that a TIFF of OME, FEI / Thermo, Zeiss, TVIPS, DigitalMicrograph or ImageJ
    states, else None.

    The resolution of a plain TIFF is that of printing (dots per inch) and is ignored, and so are
    damaged metadata.
    """
    for read in (_ome, _fei, _zeiss, _tvips, _digital_micrograph, _imagej):
        # The metadata of another maker are None, which has no entries: a TypeError.
        with suppress(*_DAMAGED):
            if found := read(file):
                return found
    return None


_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ElementTree.ParseError,
)
"""What metadata raise that are not as their maker writes them."""


def specimen_rows(file: tifffile.TiffFile) -> int | None:
    """The number of rows above the information bar, if the tags of FEI or Thermo state it, else
    None.
    """
    try:
        image = (file.fei_metadata or {})["Image"]
        columns, rows = int(image["ResolutionX"]), int(image["ResolutionY"])
    except (LookupError, TypeError, ValueError):
        return None
    page = file.pages.first
    return rows if columns == page.imagewidth and 0 < rows <= page.imagelength else None


def _ome(file: Any) -> PixelSize | None:
    pixels: Any = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
    units = {pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XY"}  # µm by the schema
    width = pixels.get("PhysicalSizeX")
    height = pixels.get("PhysicalSizeY", width)
    return PixelSize.of(width, height, units.pop()) if len(units) == 1 else None


def _fei(file: Any) -> PixelSize | None:
    scan = file.fei_metadata["Scan"]
    return PixelSize.of(scan["PixelWidth"], scan["PixelHeight"], "m")


def _zeiss(file: Any) -> PixelSize | None:
    # `ap_pixel_size` belongs to the live image on the screen, `ap_image_pixel_size` to the image in
    # the file. Where older software left the latter out, the fourth unnamed number is the metres
    # per pixel of a screen 1024 px wide.
    if "ap_image_pixel_size" in file.sem_metadata:
        _, side, unit = file.sem_metadata["ap_image_pixel_size"]
    else:
        side, unit = file.sem_metadata[""][3] * 1024 / file.pages.first.imagewidth, "m"
    return PixelSize.of(side, side, unit)


def _tvips(file: Any) -> PixelSize | None:
    return PixelSize.of(file.tvips_metadata["PixelSizeX"], file.tvips_metadata["PixelSizeY"], "nm")


def _digital_micrograph(file: Any) -> PixelSize | None:
    tags = file.pages.first.tags
    unit, width, height = (tags.valueof(code) for code in (65003, 65009, 65010))
    return PixelSize.of(width, height, unit)


def _imagej(file: Any) -> PixelSize | None:
    unit = file.imagej_metadata["unit"]
    tags = file.pages.first.tags
    x, per_x = tags["XResolution"].value  # pixels per unit, as a fraction
    y, per_y = tags["YResolution"].value
    return PixelSize.of(per_x / x, per_y / y, unit)
