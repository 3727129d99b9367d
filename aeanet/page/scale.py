"""A scale bar: the length that a part of a picture has in the specimen."""

import math

from aeanet.io.pixel_size import METRES, PixelSize
from aeanet.page.content import ScaleBar

_LONGEST = 0.25 * (1 + 1e-9)  # of the width of the picture; a quarter, but for rounding
_UNITS = ("mm", "µm", "nm", "pm")


def scale_bar(pixel_size: PixelSize | None, width: int) -> ScaleBar | None:
    """The longest bar of 1, 2 or 5 times a power of ten that takes a quarter of a picture at most.

    Args:
        pixel_size: None if it is not known.
        width: of the picture in px.

    Returns:
        None if the size of the pixels is not known.
    """
    if pixel_size is None:
        return None
    metres = pixel_size.x * METRES[pixel_size.unit] * width
    power = 10.0 ** math.floor(math.log10(_LONGEST * metres))
    length = max(step * power for step in (1, 2, 5) if step * power <= _LONGEST * metres)
    unit = next((unit for unit in _UNITS if length >= 0.999 * METRES[unit]), _UNITS[-1])
    return ScaleBar(length / metres, f"{length / METRES[unit]:.3g} {unit}")
