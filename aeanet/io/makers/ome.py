"""OME-XML of the Open Microscopy Environment (schema 2016-06, openmicroscopy.org)."""

from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize

_DEFAULT = "µm"  # of the schema, where a length has no unit


def read(header: Header) -> Stated | None:
    if header.file is None or not header.file.is_ome:
        return None
    with suppress(ElementTree.ParseError, AttributeError):
        pixels: Any = ElementTree.fromstring(header.file.ome_metadata).find(".//{*}Pixels")
        return Stated(_pixel_size(pixels), bits=_bits(pixels.get("SignificantBits", "")))
    return Stated()


def _pixel_size(pixels: Any) -> PixelSize | None:
    x, y = (pixels.get(f"PhysicalSize{axis}") for axis in "XY")
    unit_x, unit_y = (pixels.get(f"PhysicalSize{axis}Unit", _DEFAULT) for axis in "XY")
    return PixelSize.of(x, y, unit_x, unit_y)


def _bits(text: str) -> int | None:
    return int(text) if text.isdecimal() and 1 <= int(text) <= 64 else None
