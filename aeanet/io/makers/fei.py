"""TIFF files of FEI and Thermo Fisher: SEMs, FIBs, their cameras, and TEMs.

Tags 34680 and 34682 have sections of lines, lengths in metres. Tag 34683 has XML, of the Apreo and
Helios among others, which states a unit. Sources: RosettaSciIO's and Bio-Formats' readers of FEI
TIFF.
"""

from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize

_SECTIONS = 34680, 34682
_XML = 34683


def read(header: Header) -> Stated | None:
    sections = header.value(*_SECTIONS)
    size = _of_xml(header)
    if not isinstance(sections, dict):
        return None if size is None else Stated(size)
    size = _of_scan(sections) or _of_camera(sections) or size
    return Stated(size, _specimen(sections, header))


def _of_scan(sections: Any) -> PixelSize | None:
    with suppress(LookupError, TypeError):
        scan = sections["Scan"]
        return PixelSize.of(scan["PixelWidth"], scan["PixelHeight"], "m")
    return None


def _of_camera(sections: Any) -> PixelSize | None:
    """Of a picture of the Nav-Cam or the infrared camera: its field of view over its pixels."""
    with suppress(LookupError, TypeError, ValueError, ArithmeticError):
        field, image = sections["IRBeam"], sections["Image"]
        width = float(field["HFW"]) / float(image["ResolutionX"])
        height = float(field["VFW"]) / float(image["ResolutionY"])
        return PixelSize.of(width, height, "m")
    return None


def _of_xml(header: Header) -> PixelSize | None:
    for text in header.texts(_XML, *_SECTIONS):
        with suppress(ElementTree.ParseError, AttributeError):
            # Some files have it below the sections, in the same tag.
            xml = text[text.find("<") : text.rfind(">") + 1]
            size: Any = ElementTree.fromstring(xml).find(".//{*}PixelSize")
            x, y = size.find("{*}X"), size.find("{*}Y")
            return PixelSize.of(x.text, y.text, x.get("unit", "m"), y.get("unit", "m"))
    return None


def _specimen(sections: Any, header: Header) -> int | None:
    """The height of the picture, unless the image was resized since."""
    with suppress(LookupError, TypeError, ValueError):
        image = sections["Image"]
        columns, rows = int(image["ResolutionX"]), int(image["ResolutionY"])
        return rows if columns == header.width and 0 < rows <= header.height else None
    return None
