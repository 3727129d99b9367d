"""The size of a pixel: read from the tags of TIFF files, written as OME metadata."""

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

_METRES = {"km": 1e3, "m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12, "in": 0.0254}
_LEAST, _MOST = 1e-15, 0.1  # metres; anything else is a diffraction pattern or a mistake
_READABLE = ("mm", "µm", "nm")
_ALIASES = {
    "meter": "m", "metre": "m", "centimeter": "cm", "millimeter": "mm", "micrometer": "µm", "micron": "µm",
    "microns": "µm", "um": "µm", "μm": "µm", r"\u00b5m": "µm", "nanometer": "nm", "picometer": "pm", "a": "Å",
    "ang": "Å", "angstrom": "Å", "ångström": "Å", "å": "Å", "inch": "in", "inches": "in",
}  # fmt: skip


@dataclass(frozen=True)
class PixelSize:
    """Width `x` and height `y` of one pixel in `unit`, a unit of length as OME writes it ("nm", "µm", "Å" ...)."""

    x: float
    y: float
    unit: str

    @classmethod
    def of(cls, x: Any, y: Any, unit: Any) -> "PixelSize | None":
        """From what a file says; None if that is no length a pixel can have (uncalibrated, or a reciprocal length).

        Metres, in which makers of SEMs store nanometres, become the unit in which the number is easy to read.
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
            x, y = (float(f"{side / _METRES[unit]:.12g}") for side in (x, y))  # 1.6, not 1.5999999999999999
        return cls(x, y, unit)

    def magnified(self, magnification: float) -> "PixelSize":
        """The size once there are `magnification` pixels where there was one, along each side."""
        return PixelSize(self.x / magnification, self.y / magnification, self.unit)

    def __str__(self) -> str:
        width, height = f"{self.x:.6g}", f"{self.y:.6g}"
        return f"{width} {self.unit}" if width == height else f"{width} x {height} {self.unit}"


def ome_metadata(pixel_size: PixelSize | None, bits: int | None = None) -> dict[str, Any]:
    """What `tifffile.imwrite(..., ome=True, metadata=...)` wants for one (H, W) image with pixels of that size.

    `bits`: how many of an integer's bits the values may use, where that is to be stated.
    """
    metadata: dict[str, Any] = {"axes": "YX"}
    if bits is not None:
        metadata["SignificantBits"] = bits
    if pixel_size is not None:
        for axis, side in {"X": pixel_size.x, "Y": pixel_size.y}.items():
            metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": pixel_size.unit}
    return metadata


def significant_bits(file: tifffile.TiffFile) -> int | None:
    """How many of an integer's bits the values of an OME-TIFF may use; None if it does not say."""
    try:
        pixels = ElementTree.fromstring(file.ome_metadata or "").find(".//{*}Pixels")
        bits = 0 if pixels is None else int(pixels.get("SignificantBits", ""))
        return bits if 1 <= bits <= 64 else None
    except (ValueError, ElementTree.ParseError):
        return None


def tiff_resolution(pixel_size: PixelSize | None) -> dict[str, Any]:
    """The same for programs that read no OME (ImageJ among them): what `tifffile.imwrite(...)` wants besides.

    Pixels per centimetre; left out where TIFF's fractions of 32 bits cannot hold them, below 3 pm per pixel.
    """
    if pixel_size is None:
        return {}
    x, y = (0.01 / (side * _METRES[pixel_size.unit]) for side in (pixel_size.x, pixel_size.y))
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"} if max(x, y) < 2**32 - 1 else {}


def pixel_size_of_tiff(file: tifffile.TiffFile) -> PixelSize | None:
    """The pixel size that a TIFF of OME, FEI / Thermo, Zeiss, TVIPS, DigitalMicrograph or ImageJ states.

    None if it states none. The resolution of a plain TIFF is about paper (so many dots per inch) and says
    nothing of the specimen. Damaged metadata count as absent.
    """
    for read in (_ome, _fei, _zeiss, _tvips, _digital_micrograph, _imagej):
        try:
            found = read(file)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ElementTree.ParseError):
            continue
        if found is not None:
            return found
    return None


def specimen_rows(file: tifffile.TiffFile) -> int | None:
    """How many rows from the top are specimen, not information bar, where FEI's or Thermo's tags say so, else None."""
    try:
        image = (file.fei_metadata or {})["Image"]
        columns, rows = int(image["ResolutionX"]), int(image["ResolutionY"])
    except (LookupError, TypeError, ValueError):
        return None
    page = file.pages.first
    return rows if columns == page.imagewidth and 0 < rows <= page.imagelength else None


def _ome(file: tifffile.TiffFile) -> PixelSize | None:
    if not file.ome_metadata:
        return None
    pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
    if pixels is None or pixels.get("PhysicalSizeXUnit", "µm") != pixels.get("PhysicalSizeYUnit", "µm"):
        return None
    width, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm")  # µm is the schema's default
    return PixelSize.of(width, pixels.get("PhysicalSizeY", width), unit)


def _fei(file: tifffile.TiffFile) -> PixelSize | None:
    if not file.fei_metadata:
        return None
    scan = file.fei_metadata["Scan"]
    return PixelSize.of(scan["PixelWidth"], scan["PixelHeight"], "m")


def _zeiss(file: tifffile.TiffFile) -> PixelSize | None:
    if not file.sem_metadata:
        return None
    # `ap_pixel_size` belongs to the live image on the screen, `ap_image_pixel_size` to the image in the file. Where
    # older software left the latter out, the fourth unnamed number is the metres per pixel of a screen 1024 px wide.
    if "ap_image_pixel_size" in file.sem_metadata:
        _, side, unit = file.sem_metadata["ap_image_pixel_size"]
    else:
        side, unit = file.sem_metadata[""][3] * 1024 / file.pages.first.imagewidth, "m"
    return PixelSize.of(side, side, unit)


def _tvips(file: tifffile.TiffFile) -> PixelSize | None:
    if not file.tvips_metadata:
        return None
    return PixelSize.of(file.tvips_metadata["PixelSizeX"], file.tvips_metadata["PixelSizeY"], "nm")


def _digital_micrograph(file: tifffile.TiffFile) -> PixelSize | None:
    tags = file.pages.first.tags
    unit, width, height = (tags.valueof(code) for code in (65003, 65009, 65010))
    return PixelSize.of(width, height, unit)


def _imagej(file: tifffile.TiffFile) -> PixelSize | None:
    if not file.imagej_metadata:
        return None
    tags = file.pages.first.tags
    (x, per_x), (y, per_y) = tags["XResolution"].value, tags["YResolution"].value  # pixels per unit, as fractions
    return PixelSize.of(per_x / x, per_y / y, file.imagej_metadata["unit"])
