"""Micrographs in and out: grey, float32, 0 to 1 over the full range of the file's own type."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aeanet.files import write_atomically

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", *TIFF_SUFFIXES)

# A mosaic of micrographs may well pass Pillow's guard against malicious files; OpenCV's own, 2^30 pixels, remains.
Image.MAX_IMAGE_PIXELS = None

# ITU-R BT.601, the weights of Pillow and OpenCV.
_LUMA = np.array([0.299, 0.587, 0.114])


class ImageError(ValueError):
    """An image that cannot be read or written; the message is one sentence that names the file."""


@dataclass(frozen=True)
class Micrograph:
    """A grey image and what is needed to write another one like it.

    `pixels` is (H, W) float32 in [0, 1] and equals `(raw - low) / (high - low)`. For integer files `low` and `high` are
    the limits of the type; for float files they are 0 and 1 if all values lie between, else the image's own extremes.
    """

    pixels: NDArray[np.float32]
    dtype: np.dtype
    low: float
    high: float


def read_image(path: str | os.PathLike[str]) -> Micrograph:
    """Read a PNG, BMP, JPEG or TIFF of any integer or float type; colour becomes grey (luma), transparency is dropped.

    Raises ImageError if the file is missing, unreadable, cut short, empty, complex-valued, holds several images, or
    contains NaN or infinity.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(
            f"{path} is not an image of a known kind: a name ending in one of {', '.join(SUFFIXES)} is wanted."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    if not content:
        raise ImageError(f"{path} is empty (0 bytes).")
    try:
        raw = _decode_tiff(content) if path.suffix.lower() in TIFF_SUFFIXES else _decode(content)
    except (
        Exception
    ) as error:  # Decoders raise whatever they like on damaged files (even SyntaxError and struct.error).
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ImageError(f"{path} cannot be read as an image: {reason}.") from error
    if raw.dtype.kind not in "buif" or raw.size == 0:
        raise ImageError(f"{path} holds {raw.dtype} values of shape {raw.shape}; integers or floats are wanted.")
    if not np.isfinite(raw).all():
        raise ImageError(f"{path} holds NaN or infinite values; all pixels must be finite.")
    low, high = _limits(raw)
    pixels = ((_grey(raw) - low) / (high - low)).astype(np.float32)
    return Micrograph(pixels, raw.dtype, low, high)


def write_image(path: str | os.PathLike[str], pixels: NDArray, *, like: Micrograph | None = None) -> Path:
    """Write (H, W) pixels, clipped to [0, 1], in the type and range of `like` (uint8 if None); returns the path.

    The kind of file follows the name's ending: PNG holds 8 and 16 bits, BMP and JPEG 8 bits, TIFF everything. The file
    appears under its name only when complete; what was there before survives a failure. Raises ImageError if the
    pixels are not a finite (H, W) array, the kind of file cannot hold the type, or the disk refuses.
    """
    path = Path(path)
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or pixels.size == 0 or not np.isfinite(pixels).all():
        raise ImageError(f"{path} is not written: a finite (H, W) image is wanted, got shape {pixels.shape}.")
    content = _encode(path, _to_raw(pixels, like))
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _decode(content: bytes) -> NDArray:
    """PNG, BMP, JPEG -> (H, W) or (H, W, 3) in RGB order, in the file's own depth."""
    try:
        image = Image.open(BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("it is none of the kinds known here, or damaged") from None
    with image:
        image.load()  # Refuses damaged files quietly, where OpenCV writes to the terminal; but cuts 16-bit colour to 8.
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise ValueError("its kind is not supported")
    return raw if raw.ndim == 2 else raw[..., 2::-1]


def _decode_tiff(content: bytes) -> NDArray:
    """TIFF -> (H, W) or (H, W, 3), colour tables applied, white always high."""
    with tifffile.TiffFile(BytesIO(content)) as file:
        if len(file.pages) != 1:
            raise ValueError(f"it holds {len(file.pages)} images, one is wanted")
        page = file.pages.first
        raw = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            # Some microscopes write grey as a colour table. Tables are 16-bit; 257 = 65535 / 255.
            table = page.colormap.astype(np.float64) / 65535 * np.iinfo(raw.dtype).max
            return np.rint(np.moveaxis(table[:, raw], 0, -1)).astype(raw.dtype)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raw = np.iinfo(raw.dtype).max - raw
        if page.axes == "SYX":
            raw = np.moveaxis(raw, 0, -1)
    if raw.ndim == 3 and raw.shape[-1] in (2, 4):
        raw = raw[..., :-1]  # the last of 2 or 4 samples is transparency
    if raw.ndim == 3 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim != 2 and not (raw.ndim == 3 and raw.shape[-1] == 3):
        raise ValueError(f"it holds an array of shape {raw.shape}, one grey or colour image is wanted")
    return raw


def _grey(raw: NDArray) -> NDArray[np.float64]:
    values = raw.astype(np.float64)
    if raw.ndim == 2:
        return values
    if (values[..., :1] == values).all():
        return values[..., 0]  # grey stored as colour stays exactly what it was
    return values @ _LUMA


def _limits(raw: NDArray) -> tuple[float, float]:
    if raw.dtype.kind == "b":
        return 0.0, 1.0
    if raw.dtype.kind in "ui":
        limits = np.iinfo(raw.dtype)
        return float(limits.min), float(limits.max)
    low, high = float(raw.min()), float(raw.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _to_raw(pixels: NDArray, like: Micrograph | None) -> NDArray:
    dtype, low, high = (np.dtype(np.uint8), 0.0, 255.0) if like is None else (like.dtype, like.low, like.high)
    values = np.clip(pixels.astype(np.float64), 0, 1) * (high - low) + low
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)


def _encode(path: Path, raw: NDArray) -> bytes:
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        buffer = BytesIO()
        tifffile.imwrite(buffer, raw, photometric="minisblack")
        return buffer.getvalue()
    wanted = {".png": ("uint8", "uint16")}.get(suffix, ("uint8",))
    if suffix not in SUFFIXES or raw.dtype.name not in wanted:
        raise ImageError(f"{path} is not written: {suffix or 'no ending'} cannot hold {raw.dtype} pixels; use .tif.")
    return cv2.imencode(suffix, raw)[1].tobytes()
