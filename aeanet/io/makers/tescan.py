"""Images of TESCAN: lines NAME=VALUE in tag 50431 of a TIFF, or in a file .hdr beside the image.

Lengths are in metres. The tag has binary parts before and between the lines. The file of a.png is
a-png.hdr or a.hdr. Source: Gwyddion's and NexusLIMS' readers.
"""

from aeanet.io.makers.header import Header, Stated, entries
from aeanet.io.pixel_size import PixelSize

_TAG = 50431


def read(header: Header) -> Stated | None:
    for text in (*header.texts(_TAG), *header.beside("-{}.hdr", ".hdr")):
        stated = entries(text)
        if "PixelSizeX" in stated:
            strip = stated.get("ImageStripSize", "")
            size = PixelSize.of(stated["PixelSizeX"], stated.get("PixelSizeY"), "m")
            return Stated(size, bar=int(strip) if strip.isdecimal() else None)
    return None
