"""Series of images in SER files of FEI's TIA: each has its own place in the file.

Source: "The structure of TIA SER and EMI files", C. Boothroyd (2016), er-c.org/cbb/info/TIAformat.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import NotOneImageError
from aeanet.io.pixel_size import PixelSize
from aeanet.io.stacks.contents import UNKNOWN, Contents, steps_of
from aeanet.io.stacks.stack import Stack

_MAGIC, _IMAGES = 0x4949, 0x4122
_VERSION_OF_LONG_OFFSETS = 0x0220
_TYPES = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8"}
_ELEMENT = struct.Struct("<ddIddIHII")  # calibrations of X and Y, the type and the size


def open_ser(path: Path) -> Stack:
    """A SER file as a stack. It does not say what differs from image to image.

    Raises:
        NotOneImageError: for spectra, and values that are not read.
    """
    # the header leads to a table of places, one for each image; each image states its type and size
    size = path.stat().st_size
    with path.open("rb") as file:
        order, _, version, kind, _, total, valid = struct.unpack("<3H4I", file.read(22))
        if (order, kind) != (_MAGIC, _IMAGES):
            raise NotOneImageError("it holds no images")
        word = np.dtype("<u8" if version >= _VERSION_OF_LONG_OFFSETS else "<u4")
        (table,) = np.frombuffer(file.read(word.itemsize), word)
        file.seek(table)
        offsets = np.frombuffer(file.read(total * word.itemsize), word)
        file.seek(int(offsets[0]))
        x, y, code, width, height = _described(file.read(_ELEMENT.size))
    if code not in _TYPES or not 0 < valid <= len(offsets):
        raise NotOneImageError(f"it holds {valid} images of type {code}")

    # refused before memory is taken for it
    dtype, count = np.dtype(_TYPES[code]), width * height
    if count * dtype.itemsize > size:
        raise ValueError(f"its {size:,} bytes cannot hold an image of {width} x {height}")

    def read(plane: int) -> NDArray:
        with path.open("rb") as file:
            file.seek(int(offsets[plane]))
            described = _described(file.read(_ELEMENT.size))
            values = np.fromfile(file, dtype, count)
        if described[2:] != (code, width, height):
            raise ValueError("it has another type or size than the first image")
        if values.size < count:
            raise ValueError("the file ends before it")

        # the first row in the file is the lowest of the image
        return values.reshape(height, width)[::-1].astype(dtype.newbyteorder("="))

    # a single image has no axis before Y
    leading = (valid,) if valid > 1 else ()
    contents = Contents(
        UNKNOWN * len(leading) + "YX",
        (*leading, height, width),
        dtype.newbyteorder("="),
        steps_of(PixelSize.of(x, y, "m")),
        kind="FEI TIA",
    )
    return Stack(contents, read, path)


def _described(element: bytes) -> tuple[float, float, int, int, int]:
    """The width and height of a pixel in metres, the type, and the width and height of an image."""
    _, x, _, _, y, _, code, width, height = _ELEMENT.unpack(element)
    return x, y, code, width, height
