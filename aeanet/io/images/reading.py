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
from aeanet.io.images.bars import find_bar, is_drawn
from aeanet.io.images.choice import Candidate, choose
from aeanet.io.images.micrograph import (
    WIDER,
    ImageError,
    Micrograph,
    decoding,
    to_pixels,
    value_range,
)
from aeanet.io.images.tiff import MOST_PIXELS_PER_BYTE, one_page, values_of
from aeanet.io.makers import Header, Stated, stated_by_maker
from aeanet.io.signatures import signature

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"  # read by `mosaics` alone
RASTER_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
SUFFIXES = (*RASTER_SUFFIXES, *TIFF_SUFFIXES, *microscopes.SUFFIXES)

# Pillow refuses images of many pixels, and mosaics of micrographs have more. OpenCV's limit of 2^30
# pixels remains.
Image.MAX_IMAGE_PIXELS = None

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
class Decoded:
    """Values (H, W) or (H, W, 3), the format, what the file states about them, and which of its
    images was chosen.
    """

    raw: NDArray
    kind: str
    stated: Stated
    which: str = ""


def read_image(
    path: str | os.PathLike[str], *, keep_bar: bool = False, image: str | None = None
) -> Micrograph:
    """Read a PNG, BMP, JPEG, TIFF or microscope file of any integer or float type.

    Colour becomes grey (luma), transparency is dropped. Nothing in a file is executed.

    Args:
        path: of the file.
        keep_bar: keep the information bar of an SEM. It is cut off otherwise: by the height that
            its maker states, else as `bars.find_bar` finds it.
        image: which of several images in the file it is: a name, or a number from 1. Without it
            the only one, or the only one of grey values among pictures in colour.

    Returns:
        The image, its values from 0 to 1.

    Raises:
        ImageError: if the file is missing, unreadable, cut short or empty, has complex values, no
            image or several, or contains NaN or infinity.
    """
    path = Path(path)
    suffix = path.suffix.lower()

    # by the name alone; of a folder the sentence says how to name what is in it
    if suffix not in SUFFIXES:
        if path.is_dir():
            endings = {file.suffix for file in path.iterdir() if is_image(file)}
            if not endings:
                raise ImageError(f"{path} is a folder without images.")
            raise ImageError(
                f"{path} is a folder: name the images in it, for instance by "
                f"{path / ('*' + min(endings))}; slices of one stack are taken by --axes ZYX."
            )
        raise ImageError(
            f"{path} is not an image of a known kind: a name ending in one of "
            f"{', '.join(SUFFIXES)} is wanted."
        )

    # values in the byte order of this machine, in a type that can be written again
    check_file(path)
    with decoding(path):
        decoded = decode(path, image)
    raw = decoded.raw
    raw = raw.astype(WIDER.get(raw.dtype.name, raw.dtype.newbyteorder("=")), copy=False)
    if raw.dtype.kind not in "buif" or raw.size == 0:
        raise ImageError(
            f"{path} holds {raw.dtype} values of shape {raw.shape}; integers or floats are wanted."
        )

    # the place of the first one, from 1; the third index, of colours, is left out
    lost = ~np.isfinite(raw)
    if lost.any():
        number, (row, column) = np.count_nonzero(lost), np.argwhere(lost)[0, :2] + 1
        raise ImageError(
            f"{path} holds NaN or infinite values, {number:,} of {raw.size:,}, the first in row "
            f"{row}, column {column}; all pixels must be finite: cut these off or fill them."
        )

    # the bar goes before the range is found: its white is none of the specimen
    grey = grey_of(raw)
    stated = decoded.stated
    bar = 0 if keep_bar else _bar(grey, stated)
    grey = grey[: len(grey) - bar]
    low, high = value_range(raw.dtype, float(grey.min()), float(grey.max()), stated.bits)

    # grey that is stored as R = G = B is no colour
    colour = raw.ndim == 3 and bool((raw != raw[..., :1]).any())
    return Micrograph(
        to_pixels(grey, low, high),
        raw.dtype,
        low,
        high,
        stated.pixel_size,
        bar,
        decoded.kind,
        colour,
        decoded.which,
    )


def _bar(grey: NDArray[np.float64], stated: Stated) -> int:
    """The rows of the information bar: as the file states, else as it is found."""
    if stated.specimen is not None:
        return len(grey) - stated.specimen
    if stated.bar and stated.bar < len(grey) and is_drawn(grey[-stated.bar :]):
        return stated.bar
    return find_bar(grey)


def is_image(path: Path) -> bool:
    """Whether a name in a folder is that of an image. Hidden files are none."""
    return path.suffix.lower() in SUFFIXES and not is_hidden(path)


def is_hidden(path: Path) -> bool:
    """Such as the files that macOS leaves beside images on disks of other systems."""
    return path.name.startswith(".")


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
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes).")
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from error

    # the name is believed where no signature speaks, or one that files of this ending may have
    if found is None or path.suffix.lower() in _MAY_BEGIN.get(found[1], ()):
        return
    kind, suffix = found
    advice = "that is not read here"
    if suffix in SUFFIXES:
        advice = f"give it a name that ends in {suffix}"
    raise ImageError(f"{path} is not what its name says but a {kind}: {advice}.")


def decode(path: Path, image: str | None = None) -> Decoded:
    """The values of an image as they are in its file, and what is stated about them. Arguments and
    errors are those of `read_image`, but a decoder's own errors are not ImageErrors yet.
    """
    suffix = path.suffix.lower()

    # what makers state is in tags, read while the file is open
    if suffix in TIFF_SUFFIXES:
        with tifffile.TiffFile(path) as file:
            page, which = one_page(file, image)
            kind, stated = stated_by_maker(Header.of_page(file, page, path), "TIFF")
            return Decoded(values_of(page), kind, stated, which)

    # rosettasciio finds the size of a pixel itself, and leaves no bar or bits to be stated
    if suffix in microscopes.SUFFIXES:
        raw, pixel_size, kind, which = microscopes.decode(path, image)
        return Decoded(raw, kind, Stated(pixel_size), which)

    # read once: some makers write their text among the bytes of the picture
    content = path.read_bytes()
    raw = _decode_raster(content)
    choose([Candidate(raw, "", True)], image, "it holds one image")
    header = Header(raw.shape[1], raw.shape[0], path, content=content)
    kind, stated = stated_by_maker(header, suffix[1:].upper())
    return Decoded(raw, kind, stated)


def _decode_raster(content: bytes) -> NDArray:
    """PNG, BMP, JPEG -> (H, W) or (H, W, 3) in RGB order, in the file's own depth."""
    # Pillow reads the header alone here, no pixels
    try:
        image = Image.open(BytesIO(content), formats=("PNG", "JPEG", "BMP"))
    except UnidentifiedImageError:
        raise ValueError("its beginning is that of no PNG, JPEG or BMP") from None

    # a damaged header can state any size, and memory would be taken for it
    with image:
        if image.width * image.height > MOST_PIXELS_PER_BYTE * len(content):
            raise ValueError(
                f"{len(content):,} bytes cannot hold the {image.width} x {image.height} pixels it "
                "states"
            )

        # Pillow refuses damaged files, of which OpenCV would write to the terminal. But it cuts
        # colour to 8 bits, so OpenCV decodes the file again.
        image.load()

    # in the depth of the file; OpenCV's order is B, G, R and transparency, which is dropped
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise ValueError("it has no end, or is of a rare kind")
    return raw if raw.ndim == 2 else raw[..., 2::-1]


def grey_of(raw: NDArray) -> NDArray[np.float64]:
    """Grey (H, W) or colours (H, W, 3) -> grey, in the units of the file."""
    values = raw.astype(np.float64)
    if raw.ndim == 2:
        return values
    if (values[..., :1] == values).all():
        return values[..., 0]  # grey stored as colour keeps its exact values
    return values @ _LUMA
