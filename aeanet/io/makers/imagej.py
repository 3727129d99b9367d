"""TIFF files of ImageJ: a unit in the description, pixels per unit as the resolution."""

from aeanet.io.makers.header import Header, Stated
from aeanet.io.pixel_size import PixelSize


def read(header: Header) -> Stated | None:
    if header.file is None or header.file.imagej_metadata is None:
        return None
    unit = header.file.imagej_metadata.get("unit")
    x, per_x = header.value(282)  # pixels per unit, as a fraction
    y, per_y = header.value(283)
    return Stated(PixelSize.of(per_x / x, per_y / y, unit) if x and y else None)
