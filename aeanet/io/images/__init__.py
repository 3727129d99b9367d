"""Micrographs in and out, with the size of their pixels: what cameras, microscopes and image programs write.

Grey values become float32 from 0 to 1, and go back into the type and range of the file they came from.
"""

from aeanet.io.images.micrograph import WIDER, ImageError, Micrograph, bits_of, to_raw, value_range
from aeanet.io.images.reading import SUFFIXES, read_image
from aeanet.io.images.writing import result_name, write_image
from aeanet.io.pixel_size import PixelSize

__all__ = [
    "SUFFIXES",
    "WIDER",
    "ImageError",
    "Micrograph",
    "PixelSize",
    "bits_of",
    "read_image",
    "result_name",
    "to_raw",
    "value_range",
    "write_image",
]
