"""Images of Hitachi's SEMs and TEMs: lines NAME=VALUE in a text file beside the image, or in a tag.

The text begins with [SemImageFile] or [TemImageFile]; PixelSize is in nm. Sources: Gwyddion's,
Bio-Formats' and pynxtools-em's readers.
"""

from aeanet.io.makers.header import Header, Stated, entries, picture_size
from aeanet.io.pixel_size import PixelSize

_TAGS = 270, 34118, 37888  # by model of the microscope
_TITLES = ("[SemImageFile]", "[TemImageFile]")


def read(header: Header) -> Stated | None:
    for text in (*header.texts(*_TAGS), *header.beside(".txt")):
        if any(title in text for title in _TITLES):
            return _of_text(entries(text), header)
    return None


def _of_text(stated: dict[str, str], header: Header) -> Stated:
    """Nothing if the image is not as wide as the text says, so was resized."""
    same, specimen = picture_size(stated.get("DataSize"), "x", header)
    if not same:
        return Stated()
    side = stated.get("PixelSize", "").split()[:1]
    return Stated(PixelSize.of(side[0], None, "nm") if side else None, specimen)
