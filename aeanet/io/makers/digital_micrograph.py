"""TIFF files of Gatan's DigitalMicrograph: a unit and two scales, each in a tag of its own.

Source: RosettaSciIO, which writes and reads them.
"""

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize

_UNITS = 65003, 65004
_SCALES = 65009, 65010


def read(header: Header) -> Stated | None:
    width, height = (header.value(code) for code in _SCALES)
    if width is None or height is None:
        return None
    unit_x, unit_y = (header.value(code) for code in _UNITS)
    return Stated(PixelSize.of(width, height, unit_x, unit_y))
