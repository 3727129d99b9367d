"""Images of JEOL: XML in the description of TEMs' TIFF files, and the text file beside SEM images.

SightX (root TemReporter) states the magnification, and the pixels of the camera as the resolution.
Analysis Center (root TemReporter2, JEM-F200) states the length of a pixel, in nm. The text file has
lines "$NAME VALUE": the field of view, or a length and how many pixels of the picture it has.
Sources: RosettaSciIO's reader of SightX, rfwebster/jeoltiff, and odemis.
"""

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from aeanet.io.makers.header import Header, Stated, entries, picture_size
from aeanet.io.pixel_size import PixelSize

_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 282, 283, 296
_METRES = {2: 0.0254, 3: 0.01}  # of TIFF's units of resolution: inch and centimetre
_LENGTH = re.compile(r"([0-9.eE+-]+)\s*([^0-9\s]*)")


def read(header: Header) -> Stated | None:
    for text in header.texts(_DESCRIPTION):
        if "<TemReporter" in text:
            report = ElementTree.fromstring(text.strip("\0\1 \t\r\n"))
            sight_x = "TemReporter2" not in report.tag
            return Stated(_sight_x(report, header) if sight_x else _analysis_center(report))
    for text in header.beside(".txt"):
        stated = entries(text, " ")
        if "$CM_FORMAT" in stated or "$SEM_DATA_VERSION" in stated:
            return _of_text(stated, header)
    return None


def _sight_x(report: Any, header: Header) -> PixelSize | None:
    """Of images, not of diffraction patterns, whose selector has the camera length."""
    magnified = report.findtext(".//{*}ImageFormingSystem/{*}SelectorUnitString") == "X"
    if report.findtext(".//{*}Eos/{*}EosMode") != "eosTEM" or not magnified:
        return None
    magnification = float(report.findtext(".//{*}ImageFormingSystem/{*}SelectorValue"))
    unit = _METRES[int(header.value(_RESOLUTION_UNIT))] / magnification
    (x, per_x), (y, per_y) = header.value(_X_RESOLUTION), header.value(_Y_RESOLUTION)
    return PixelSize.of(unit * per_x / x, unit * per_y / y, "m")


def _analysis_center(report: Any) -> PixelSize | None:
    kind = report.findtext(".//{*}MeasurementUnitType")
    if kind not in ("UnitType_Length", "UnitType_Scanning"):
        return None
    side = report.findtext(".//{*}MeasureLengthPerPixelReporter/{*}LengthPerPixel")
    return PixelSize.of(side, side, "nm")


def _of_text(stated: dict[str, str], header: Header) -> Stated:
    """Of the text file; nothing if the image is not as wide as the file says, so was resized."""
    same, specimen = picture_size(stated.get("$CM_FULL_SIZE"), " ", header)
    if not same:
        return Stated()
    return Stated(next(filter(None, _sizes(stated, header.width)), None), specimen)


def _sizes(stated: dict[str, str], width: int) -> Iterator[PixelSize | None]:
    # "1.067mm 0.800mm" or "1.067 0.800mm"; the pixels are square.
    fields = _LENGTH.findall(stated.get("$CM_FIELD_OF_VIEW", ""))
    if fields:
        yield PixelSize.of(float(fields[0][0]) / width, None, fields[-1][1])
    length = _LENGTH.fullmatch(stated.get("$$SM_MICRON_MARKER", ""))
    bar = stated.get("$$SM_MICRON_BAR", "")
    if length and bar.isdecimal() and int(bar) > 0:
        yield PixelSize.of(float(length[1]) / int(bar), None, length[2])
