"""Micrographs in and out, with the size of their pixels, in the formats of microscopes and image
programs.

Grey values become float32 from 0 to 1. A result is written in the type and range of the file that
it was made of.
"""

from aeanet.io.images.micrograph import ImageError, Micrograph
from aeanet.io.images.reading import SUFFIXES, read_image
from aeanet.io.images.writing import check_format, result_name, write_image
from aeanet.io.pixel_size import PixelSize

__all__ = [
    "SUFFIXES",
    "ImageError",
    "Micrograph",
    "PixelSize",
    "check_format",
    "read_image",
    "result_name",
    "write_image",
]
