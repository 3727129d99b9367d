"""From a file to a micrograph: the decoder, the grey values, and what is refused."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aeanet.io.images import microscopes
from aeanet.io.images.bars import find_bar
from aeanet.io.images.micrograph import (
    WIDER,
    ImageError,
    Micrograph,
    NotOneImageError,
    decoding,
    to_pixels,
    value_range,
)
from aeanet.io.pixel_size import PixelSize, pixel_size_of_tiff, significant_bits, specimen_rows

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"  # read by `mosaics` alone
RASTER_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
SUFFIXES = (*RASTER_SUFFIXES, *TIFF_SUFFIXES, *microscopes.SUFFIXES)

# Pillow refuses images of many pixels, and mosaics of micrographs have more. OpenCV's limit of 2^30 pixels remains.
Image.MAX_IMAGE_PIXELS = None

_TIFF_KINDS = {
    "is_ome": "OME-TIFF",
    "is_fei": "FEI / Thermo TIFF",
    "is_sem": "Zeiss TIFF",
    "is_tvips": "TVIPS TIFF",
    "is_imagej": "ImageJ TIFF",
}


# ITU-R BT.601, the weights of Pillow and OpenCV.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class _Decoded:
    """Values (H, W) or (H, W, 3), and what a file states: its format, pixel size, rows of specimen, bits of a value."""

    raw: NDArray
    kind: str
    pixel_size: PixelSize | None = None
    specimen: int | None = None
    bits: int | None = None


def read_image(path: str | os.PathLike[str], *, keep_bar: bool = False) -> Micrograph:
    """Read a PNG, BMP, JPEG, TIFF or microscope file of any integer or float type.

    Colour becomes grey (luma), transparency is dropped. Unless `keep_bar`, the information bar of an SEM is cut off: by
    the height of the specimen if the file states it (FEI / Thermo), else as `bars.find_bar` finds it. Nothing in a file
    is executed. Raises ImageError if the file is missing, unreadable, cut short or empty, has complex values, no image
    or several, or contains NaN or infinity.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ImageError(
            f"{path} is not an image of a known kind: a name ending in one of {', '.join(SUFFIXES)} is wanted."
        )
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    if empty:
        raise ImageError(f"{path} is empty (0 bytes).")
    with decoding(path):
        decoded = _decode(path)
    raw = decoded.raw.astype(WIDER.get(decoded.raw.dtype.name, decoded.raw.dtype.newbyteorder("=")), copy=False)
    if raw.dtype.kind not in "buif" or raw.size == 0:
        raise ImageError(f"{path} holds {raw.dtype} values of shape {raw.shape}; integers or floats are wanted.")
    if not np.isfinite(raw).all():
        raise ImageError(f"{path} holds NaN or infinite values; all pixels must be finite.")
    grey = _grey(raw)
    bar = 0 if keep_bar else find_bar(grey) if decoded.specimen is None else len(grey) - decoded.specimen
    grey = grey[: len(grey) - bar]
    low, high = value_range(raw.dtype, float(grey.min()), float(grey.max()), decoded.bits)
    pixels = to_pixels(grey, low, high)
    return Micrograph(pixels, raw.dtype, low, high, decoded.pixel_size, bar, decoded.kind)


def _decode(path: Path) -> _Decoded:
    suffix = path.suffix.lower()
    if suffix in RASTER_SUFFIXES:
        return _Decoded(_decode_raster(path.read_bytes()), suffix[1:].upper())
    if suffix in TIFF_SUFFIXES:
        return _decode_tiff(path)
    raw, pixel_size, kind = microscopes.decode(path)
    return _Decoded(raw, kind, pixel_size)


def _decode_raster(content: bytes) -> NDArray:
    """PNG, BMP, JPEG -> (H, W) or (H, W, 3) in RGB order, in the file's own depth."""
    try:
        image = Image.open(BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("it is none of the kinds known here, or damaged") from None
    with image:
        image.load()  # refuses damaged files, of which OpenCV would write to the terminal; but it cuts colour to 8 bits
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise ValueError("its kind is not supported")
    return raw if raw.ndim == 2 else raw[..., 2::-1]


def _decode_tiff(path: Path) -> _Decoded:
    """The image of a TIFF; colour tables are applied, and white is always the high value."""
    with tifffile.TiffFile(path) as file:
        pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and not page.is_reduced]
        images = max(len(pages), (file.imagej_metadata or {}).get("images", 1))  # ImageJ describes a large stack once
        if images != 1:
            raise NotOneImageError(f"it holds {images} images, one is wanted")
        kind = next((name for flag, name in _TIFF_KINDS.items() if getattr(file, flag)), "TIFF")
        return _Decoded(
            _tiff_values(pages[0]), kind, pixel_size_of_tiff(file), specimen_rows(file), significant_bits(file)
        )


def _tiff_values(page: tifffile.TiffPage) -> NDArray:
    raw = page.asarray()
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Some microscopes write grey images with a colour table. The entries of a table have 16 bits.
        table = page.colormap.astype(np.float64) / 65535 * np.iinfo(raw.dtype).max
        return np.rint(np.moveaxis(table[:, raw], 0, -1)).astype(raw.dtype)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raw = ~raw if raw.dtype.kind == "b" else np.iinfo(raw.dtype).max - raw
    if page.axes == "SYX":
        raw = np.moveaxis(raw, 0, -1)
    if raw.ndim == 3 and raw.shape[-1] in (2, 4):
        raw = raw[..., :-1]  # the last of 2 or 4 samples is transparency
    if raw.ndim == 3 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim != 2 and not (raw.ndim == 3 and raw.shape[-1] == 3):
        raise NotOneImageError(f"it holds an array of shape {raw.shape}, one grey or colour image is wanted")
    return raw


def _grey(raw: NDArray) -> NDArray[np.float64]:
    values = raw.astype(np.float64)
    if raw.ndim == 2:
        return values
    if (values[..., :1] == values).all():
        return values[..., 0]  # grey stored as colour keeps its exact values
    return values @ _LUMA
