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
from aeanet.io.signatures import signature

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"  # read by `mosaics` alone
RASTER_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
SUFFIXES = (*RASTER_SUFFIXES, *TIFF_SUFFIXES, *microscopes.SUFFIXES)

MOST_PIXELS_PER_BYTE = 2**14  # no compression reaches that; a damaged header can state any size

THUMBNAIL = 256  # px, the greatest side of one

# Pillow refuses images of many pixels, and mosaics of micrographs have more. OpenCV's limit of 2^30
# pixels remains.
Image.MAX_IMAGE_PIXELS = None

_TIFF_KINDS = {
    "is_ome": "OME-TIFF",
    "is_fei": "FEI / Thermo TIFF",
    "is_sem": "Zeiss TIFF",
    "is_tvips": "TVIPS TIFF",
    "is_imagej": "ImageJ TIFF",
}


# Endings that a file with the signature of another may have: PNG, BMP and JPEG are told apart by
# their content, and formats without a signature of their own may begin with any bytes.
_MAY_BEGIN: dict[str, tuple[str, ...]] = {
    ".png": RASTER_SUFFIXES,
    ".jpg": RASTER_SUFFIXES,
    ".bmp": (*RASTER_SUFFIXES, *microscopes.SUFFIXES),
    ".pkl": microscopes.SUFFIXES,
    ".tif": TIFF_SUFFIXES,
    ".h5": (".emd",),
}

# ITU-R BT.601, the weights of Pillow and OpenCV.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class _Decoded:
    """Values (H, W) or (H, W, 3), and what a file states: its format, pixel size, rows of specimen,
    bits of a value.
    """

    raw: NDArray
    kind: str
    pixel_size: PixelSize | None = None
    specimen: int | None = None
    bits: int | None = None


def read_image(path: str | os.PathLike[str], *, keep_bar: bool = False) -> Micrograph:
    """Read a PNG, BMP, JPEG, TIFF or microscope file of any integer or float type.

    Colour becomes grey (luma), transparency is dropped. Nothing in a file is executed.

    Args:
        path: of the file.
        keep_bar: keep the information bar of an SEM. It is cut off otherwise: by the height of the
            specimen if the file states it (FEI / Thermo), else as `bars.find_bar` finds it.

    Returns:
        The image, its values from 0 to 1.

    Raises:
        ImageError: if the file is missing, unreadable, cut short or empty, has complex values, no
            image or several, or contains NaN or infinity.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        if path.is_dir():
            raise ImageError(
                f"{path} is a folder: name the images in it, for instance by {path / '*.tif'}."
            )
        raise ImageError(
            f"{path} is not an image of a known kind: a name ending in one of "
            f"{', '.join(SUFFIXES)} is wanted."
        )

    check_file(path)
    with decoding(path):
        decoded = _decode(path)
    raw = decoded.raw
    raw = raw.astype(WIDER.get(raw.dtype.name, raw.dtype.newbyteorder("=")), copy=False)
    if raw.dtype.kind not in "buif" or raw.size == 0:
        raise ImageError(
            f"{path} holds {raw.dtype} values of shape {raw.shape}; integers or floats are wanted."
        )
    if not np.isfinite(raw).all():
        raise ImageError(f"{path} holds NaN or infinite values; all pixels must be finite.")

    grey = _grey(raw)
    bar = 0
    if not keep_bar:
        bar = find_bar(grey) if decoded.specimen is None else len(grey) - decoded.specimen
    grey = grey[: len(grey) - bar]
    low, high = value_range(raw.dtype, float(grey.min()), float(grey.max()), decoded.bits)
    pixels = to_pixels(grey, low, high)
    colour = raw.ndim == 3 and bool((raw != raw[..., :1]).any())
    return Micrograph(pixels, raw.dtype, low, high, decoded.pixel_size, bar, decoded.kind, colour)


def check_file(path: Path) -> None:
    """Raise ImageError unless `path` is a file with content that can be read, and of the kind that
    its name says.
    """
    try:
        # To open a named pipe would wait for its other end.
        if path.exists() and not path.is_file():
            what = "a directory" if path.is_dir() else "a pipe or a device"
            raise ImageError(f"{path} cannot be read: it is {what}, not a file.")
        found = signature(path)
        empty = path.stat().st_size == 0
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from error
    if empty:
        raise ImageError(f"{path} is empty (0 bytes).")

    if found is None or path.suffix.lower() in _MAY_BEGIN.get(found[1], ()):
        return
    kind, suffix = found
    advice = "that is not read here"
    if suffix in SUFFIXES:
        advice = f"give it a name that ends in {suffix}"
    raise ImageError(f"{path} is not what its name says but a {kind}: {advice}.")


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
        image = Image.open(BytesIO(content), formats=("PNG", "JPEG", "BMP"))
    except UnidentifiedImageError:
        raise ValueError("its beginning is that of no PNG, JPEG or BMP") from None
    with image:
        if image.width * image.height > MOST_PIXELS_PER_BYTE * len(content):
            raise ValueError(
                f"{len(content):,} bytes cannot hold the {image.width} x {image.height} pixels it "
                "states"
            )
        # Pillow refuses damaged files, of which OpenCV would write to the terminal. But it cuts
        # colour to 8 bits, so OpenCV decodes the file again.
        image.load()
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise ValueError("it has no end, or is of a rare kind")
    return raw if raw.ndim == 2 else raw[..., 2::-1]


def _decode_tiff(path: Path) -> _Decoded:
    """The image of a TIFF; colour tables are applied, and white is always the high value."""
    with tifffile.TiffFile(path) as file:
        page = one_page(file)
        kind = next((name for flag, name in _TIFF_KINDS.items() if getattr(file, flag)), "TIFF")
        return _Decoded(
            _tiff_values(page),
            kind,
            pixel_size_of_tiff(file),
            specimen_rows(file),
            significant_bits(file),
        )


def one_page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The page of a TIFF that is its image, not a thumbnail of it.

    Raises:
        NotOneImageError: if there are none or several, or the page is of a kind that is not read.
        ValueError: if the file is too short for the size that it states.
    """
    pages = [p for p in file.pages if isinstance(p, tifffile.TiffPage) and not p.is_reduced]
    if pages:
        largest = max(pages, key=lambda page: page.size)
        pages = [page for page in pages if page is largest or not _is_thumbnail(page, largest)]
    # ImageJ describes a large stack once.
    described = (file.imagej_metadata or {}).get("images", 1) if pages else 0
    images = max(len(pages), described)
    if images != 1:
        sizes = [f"{page.imagewidth} x {page.imagelength}" for page in pages[:4]]
        listed = ", ".join([*sizes, "..."] if len(pages) > 4 else sizes)
        raise NotOneImageError(
            f"it holds {images} images{f' ({listed})' if listed else ''}, one is wanted"
        )

    (page,) = pages
    kind = "" if page.dtype is None else page.dtype.kind
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and kind not in ("u", "b"):
        raise NotOneImageError(
            f"it holds {page.dtype} values of which 0 is white: only unsigned integers can be such"
        )
    held = page.size * (1 if page.dtype is None else page.dtype.itemsize)
    stored = sum(page.databytecounts)
    if held > MOST_PIXELS_PER_BYTE * stored or 0 in page.databytecounts:
        raise ValueError(
            f"{stored:,} bytes cannot hold the {page.imagewidth} x {page.imagelength} pixels it "
            "states"
        )
    return page


def _is_thumbnail(page: tifffile.TiffPage, of: tifffile.TiffPage) -> bool:
    """Whether a page is a small copy of another: of its shape, at most half as wide."""
    width, height = page.imagewidth, page.imagelength
    if max(width, height) > THUMBNAIL or 2 * width > of.imagewidth:
        return False
    return abs(height - width * of.imagelength / of.imagewidth) <= 1


def _tiff_values(page: tifffile.TiffPage) -> NDArray:
    raw = page.asarray()
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Some microscopes write grey images with a colour table. The entries of a table have 16
        # bits.
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
        raise NotOneImageError(
            f"it holds an array of shape {raw.shape}, one grey or colour image is wanted"
        )
    return raw


def _grey(raw: NDArray) -> NDArray[np.float64]:
    values = raw.astype(np.float64)
    if raw.ndim == 2:
        return values
    if (values[..., :1] == values).all():
        return values[..., 0]  # grey stored as colour keeps its exact values
    return values @ _LUMA
