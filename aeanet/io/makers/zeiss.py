"""TIFF files of Zeiss' and LEO's SEMs (SmartSEM): tag 34118, lines that tifffile takes apart.

Source: RosettaSciIO's reader of Zeiss TIFF.
"""

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize

_TAG = 34118
_SCREEN = 1024  # px


def read(header: Header) -> Stated | None:
    stated = header.value(_TAG)
    if not isinstance(stated, dict):
        return None
    # `ap_pixel_size` belongs to the live image on the screen, `ap_image_pixel_size` to the image in
    # the file. Where older software left the latter out, the fourth unnamed number is the metres
    # per pixel of a screen 1024 px wide.
    if "ap_image_pixel_size" in stated:
        _, side, unit = stated["ap_image_pixel_size"]
    else:
        side, unit = stated[""][3] * _SCREEN / header.width, "m"
    return Stated(PixelSize.of(side, side, unit))
