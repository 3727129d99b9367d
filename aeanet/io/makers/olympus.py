"""TIFF files of Olympus Soft Imaging Solutions, as cameras of TEMs write them, also JEOL's.

Tags 33560 and 33471, which tifffile takes apart, belong to the page of raw values. Lengths are in
metres. Source: RosettaSciIO's reader of Olympus SIS.
"""

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize

_TAGS = 33560, 33471


def read(header: Header) -> Stated | None:
    stated = header.value(*_TAGS)
    if not isinstance(stated, dict):
        return None
    return Stated(PixelSize.of(stated["pixelsizex"], stated["pixelsizey"], "m"))
