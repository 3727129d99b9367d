"""Where makers of microscopes write what an image is: tags of a TIFF, or a text file beside it."""

import codecs
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from aeanet.io.pixel_size import PixelSize

_VIEWS = 16  # pages, at most, that show one field in several ways
_LONGEST = 2**20  # bytes of metadata; those of makers have some thousand


class Stated(NamedTuple):
    """What the maker of an image states about it; None for what it does not.

    Attributes:
        pixel_size: of the image.
        specimen: rows above the information bar, where the size of the picture itself is stated.
        bar: rows of the information bar, where only these are stated. The image may have been
            cropped since.
        bits: of an integer that the values use.
    """

    pixel_size: PixelSize | None = None
    specimen: int | None = None
    bar: int | None = None
    bits: int | None = None


@dataclass(frozen=True)
class Header:
    """An image file whose header is read.

    Attributes:
        width, height: of the image in px.
        path: of the file; None without text files beside it.
        file, page: the TIFF, and the page of it that is the image.
        content: all bytes of a file that is no TIFF.
    """

    width: int
    height: int
    path: Path | None = None
    file: Any = None
    page: Any = None
    content: bytes = b""

    @classmethod
    def of_page(cls, file: tifffile.TiffFile, page: Any, path: Path | None = None) -> "Header":
        """Of a page of a TIFF."""
        return cls(page.imagewidth, page.imagelength, path, file, page)

    def value(self, *codes: int) -> Any:
        """The value of the first of these tags that is there, as tifffile reads it, or None."""
        return next((tag.value for tag in self._tags(codes)), None)

    def texts(self, *codes: int) -> Iterator[str]:
        """The bytes of these tags as text. tifffile reads some of them in another way."""
        for tag in self._tags(codes):
            handle = tag.parent.filehandle
            handle.seek(tag.valueoffset)
            yield as_text(handle.read(min(tag.valuebytecount, _LONGEST)))

    def _tags(self, codes: tuple[int, ...]) -> Iterator[Any]:
        """Tags of the page, and of others of its size: of several views some makers describe only
        one. Of a stack of many pages the first are looked at.
        """
        if self.page is None:
            return
        others = (
            page
            for page in islice(self.file.pages, _VIEWS)
            if isinstance(page, tifffile.TiffPage)
            and (page.imagewidth, page.imagelength) == (self.width, self.height)
        )
        for page in (self.page, *others):
            for code in codes:
                if code in page.tags:
                    yield page.tags[code]

    def beside(self, *endings: str) -> Iterator[str]:
        """The text files beside the image that have its name and one of these endings instead of
        its own. The ending "-{}.hdr" of an image a.png stands for a-png.hdr.
        """
        if self.path is None:
            return
        for ending in endings:
            ending = ending.format(self.path.suffix[1:])
            for spelling in (ending, ending.upper()):
                file = self.path.with_name(self.path.stem + spelling)
                with suppress(OSError):
                    if file.is_file():  # a pipe would wait for its other end
                        with file.open("rb") as opened:
                            yield as_text(opened.read(_LONGEST))


def as_text(content: bytes) -> str:
    """Text in the encodings of microscopes: UTF-8, UTF-16, or Windows' western characters."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def entries(text: str, separator: str = "=") -> dict[str, str]:
    """The lines NAME = VALUE of a text. Of several with one name the first counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separated, value = line.partition(separator)
        if separated:
            found.setdefault(name.strip(), value.strip(" \t\0"))
    return found


def picture_size(text: str | None, separator: str, header: Header) -> tuple[bool, int | None]:
    """What the size of the picture that a text states, such as "1280x960", says of an image. None
    stands for a text that states no size.

    Returns:
        Whether the image is as wide, so was not resized since, and the rows above an information
        bar that is below the picture. These are None if there are no rows below it, where the bar
        may be within the picture, or more than above it, which no bar has.

    Raises:
        ValueError: if it is no size.
    """
    if text is None:
        return True, None
    width, height = map(int, text.lower().split(separator))
    same = width == header.width
    return same, height if same and header.height / 2 <= height < header.height else None
