"""A folder of numbered slices as one stack."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aeanet.io.atomic import write_atomically
from aeanet.io.images.micrograph import ImageError, decoding
from aeanet.io.images.reading import Decoded, check_file, decode, is_image
from aeanet.io.images.writing import encode, result_name
from aeanet.io.stacks.contents import UNKNOWN, Contents, steps_of
from aeanet.io.stacks.stack import Stack

SLICES = "slices"
_NUMBER = re.compile(r"(\d+)")


def open_folder(path: Path) -> Stack:
    """The images of a folder in the order of the numbers in their names.

    Raises:
        ImageError: if there are none, or several kinds of files.
    """
    # images of two kinds are hardly slices of one volume
    files = sorted(
        (file for file in path.iterdir() if is_image(file) and file.is_file()), key=_order
    )
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        found = f"files of several kinds ({', '.join(kinds)})" if kinds else "no images"
        raise ImageError(f"{path} holds {found}; slices of one kind are wanted.")

    def decoded(plane: int) -> Decoded:
        check_file(files[plane])
        return decode(files[plane])

    # the first slice speaks for all: `Stack.plane` refuses others of another shape
    with decoding(files[0]):
        first = decoded(0)
    contents = Contents(
        UNKNOWN + "YXS"[: first.raw.ndim],
        (len(files), *first.raw.shape),
        first.raw.dtype.newbyteorder("="),
        steps_of(first.stated.pixel_size),
        bits=first.stated.bits,
        kind=SLICES,
        metadata={"names": [file.name for file in files]},
    )
    return Stack(contents, lambda plane: decoded(plane).raw, path)


def _order(file: Path) -> list[tuple[int, str]]:
    """Names are sorted with their numbers as numbers: 2 comes before 10."""
    parts = _NUMBER.split(file.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def create(path: Path, _contents: Contents) -> None:
    """Make the folder."""
    path.mkdir()


@contextmanager
def opened(path: Path, contents: Contents) -> Iterator[Any]:
    """Writes each plane as an image of the name of its slice."""
    names = [result_name(name) for name in contents.metadata["names"]]

    def write(number: int, values: NDArray) -> None:
        file = path / names[number]
        write_atomically(file, encode(file, values, contents.pixel_size, contents.bits))

    yield write
