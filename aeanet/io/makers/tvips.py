"""TIFF files of TVIPS' cameras (EM-Menu): tag 37706, lengths in nm. Source: tifffile."""

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize

_TAG = 37706


def read(header: Header) -> Stated | None:
    stated = header.value(_TAG)
    if not isinstance(stated, dict):
        return None
    return Stated(PixelSize.of(stated["PixelSizeX"], stated["PixelSizeY"], "nm"))
