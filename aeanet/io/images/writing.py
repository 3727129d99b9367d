"""From a micrograph to a file."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from aeanet.io.atomic import write_atomically
from aeanet.io.images.micrograph import ImageError, Micrograph, encoding
from aeanet.io.images.reading import RASTER_SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIX
from aeanet.io.pixel_size import PixelSize, ome_metadata, tiff_resolution

_EIGHT_BIT = Micrograph(np.zeros((1, 1), np.float32), np.dtype(np.uint8), 0.0, 255.0)


def result_name(path: str | os.PathLike[str]) -> str:
    """The file name of the result for an image: PNG for PNG, BMP and JPEG, OME-Zarr stays so, else
    OME-TIFF (.tif).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ZARR_SUFFIX:
        return path.name
    return path.stem + (".png" if suffix in RASTER_SUFFIXES else ".tif")


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray,
    *,
    like: Micrograph | None = None,
    magnification: float = 1.0,
    description: str = "",
) -> Path:
    """Write an image in the type and range of another one.

    The format follows from the name. TIFF is OME-TIFF; it holds every type and the pixel size. PNG
    holds 8 and 16 bits, BMP and JPEG 8; they hold no pixel size. The file appears under its name
    only when it is complete; what was there before survives a failure.

    Args:
        path: of the file.
        pixels: (H, W), finite; they are clipped to [0, 1].
        like: the image whose type, range and pixel size it has; by default 8 bits.
        magnification: pixels of the result per pixel of `like`, by which the pixel size is divided.
        description: of the image, in ASCII, for TIFF and PNG; BMP and JPEG hold none.

    Returns:
        The path.

    Raises:
        ImageError: if the pixels are no such array, the format cannot hold the type, or the disk
            refuses.
    """
    path = Path(path)
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or pixels.size == 0 or not np.isfinite(pixels).all():
        raise ImageError(
            f"{path} is not written: a finite (H, W) image is wanted, got shape {pixels.shape}."
        )
    like = like or _EIGHT_BIT
    size = None if like.pixel_size is None else like.pixel_size.magnified(magnification)
    content = encode(path, like.to_raw(pixels), size, like.bits, description)
    with encoding(path):
        write_atomically(path, content)
    return path


def write_values(
    path: Path, values: NDArray, pixel_size: PixelSize | None = None, description: str = ""
) -> None:
    """Write values (H, W) as they are, NaN included, as OME-TIFF in float32.

    Args:
        path: of the file, with the ending .tif.
        values: of each pixel.
        pixel_size: of a pixel.
        description: of the values, in ASCII.

    Raises:
        ImageError: if the disk refuses.
    """
    content = encode(path, np.asarray(values, np.float32), pixel_size, None, description)
    with encoding(path):
        write_atomically(path, content)


def check_format(path: Path, dtype: np.dtype) -> None:
    """Raise ImageError unless the format of that name holds values of that type."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return
    if not suffix:
        raise ImageError(f"{path} is not written: its name has no ending, such as .tif or .png.")
    if suffix not in RASTER_SUFFIXES:
        raise ImageError(f"{path} is not written: {suffix} is not among .tif, .png, .bmp and .jpg.")
    wanted = {".png": ("uint8", "uint16")}.get(suffix, ("uint8",))
    if dtype.name not in wanted:
        raise ImageError(f"{path} is not written: {suffix} cannot hold {dtype} pixels; use .tif.")


def encode(
    path: Path, raw: NDArray, pixel_size: PixelSize | None, bits: int | None, description: str = ""
) -> bytes:
    """The bytes of an image file, by the ending of its name. Raises ImageError for a type that it
    cannot hold.
    """
    check_format(path, raw.dtype)
    suffix = path.suffix.lower()

    # the size of a pixel twice: in OME, and as a resolution for programs that do not read OME
    if suffix in TIFF_SUFFIXES:
        buffer = BytesIO()
        tifffile.imwrite(
            buffer,
            raw,
            photometric="minisblack",
            ome=True,
            metadata=ome_metadata(pixel_size, bits, description),
            **tiff_resolution(pixel_size),
        )
        return buffer.getvalue()

    # beside the values PNG holds a text, BMP and JPEG nothing
    content = cv2.imencode(suffix, raw)[1].tobytes()
    return _described(content, description) if suffix == ".png" and description else content


def _described(png: bytes, description: str) -> bytes:
    """A PNG with a chunk of text behind its header, which has 33 bytes."""
    chunk = b"tEXtDescription\0" + description.encode("ascii")
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + length + chunk + check + png[33:]
