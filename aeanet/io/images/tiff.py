"""The image in a TIFF: which page it is, and its values as grey or RGB."""

from copy import copy
from functools import partial
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC

from aeanet.io.images.choice import Candidate, choose
from aeanet.io.images.micrograph import NotOneImageError

MOST_PIXELS_PER_BYTE = 2**14  # no compression reaches that; a damaged header can state any size
THUMBNAIL = 256  # px, the greatest side of one
GREY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.LINEAR_RAW)
_COLOURS = (PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR)
_JPEG = (6, 7, 34892)  # compressions, from whose YCbCr tifffile makes RGB

_PAGE_NAME, _INK_SET, _COEFFICIENTS, _REFERENCE = 285, 332, 529, 532
_CMYK = 1  # of the tag InkSet, and where it is absent
_BT601 = (0.299, 0.587, 0.114)


def one_page(file: tifffile.TiffFile, image: str | None = None) -> tuple[Any, str]:
    """The page of a TIFF that is its image, not a thumbnail or a mask of it.

    Args:
        file: the TIFF.
        image: which of several it is, by number from 1 or by name (tag PageName).

    Returns:
        The page, and which one it is if it was chosen as the only raw one; else "".

    Raises:
        NotOneImageError: if it is not clear which page is meant, or it is of a kind that is not
            read.
        ValueError: if the file is too short for the size, the pages or the images that it states.
    """
    # what can be meant: no page that is a mask or a small copy of another
    pages: list[Any] = [
        page
        for page in file.pages
        if isinstance(page, tifffile.TiffPage) and not page.is_reduced and not page.is_mask
    ]
    largest = max(pages, key=lambda page: page.size, default=None)
    pages = [page for page in pages if page is largest or not is_thumbnail(page, largest)]

    # ImageJ describes a large stack once.
    described = (file.imagej_metadata or {}).get("images", 1) if pages else 0
    images = max(len(pages), described)
    sizes = [f"{page.imagewidth} x {page.imagelength}" for page in pages[:4]]
    listed = ", ".join([*sizes, "..."] if len(pages) > 4 else sizes)

    # a page in colours is a picture made of others, with a scale bar perhaps
    candidates = [
        Candidate(page, str(page.tags.valueof(_PAGE_NAME, "")), page.photometric in GREY)
        for page in pages
    ]

    # where the user chose none, a page that was lost could be the one that is meant
    if pages and image is None:
        check_pages(file, len(file.pages))
    held = f"it holds {images} images{f' ({listed})' if listed else ''}, one is wanted"
    page, which = choose(candidates, image, held, images, partial(_undescribed, file))
    _check(page)
    return page, which


def _undescribed(file: tifffile.TiffFile, number: int) -> Any:
    """The page of an image, from 1, of a stack that ImageJ describes once, by its first image: the
    others lie behind it.

    Raises:
        ValueError: if it is not there.
    """
    first: Any = file.pages[0]
    if len(file.pages) > 1 or not first.is_contiguous:
        raise ValueError(f"its list of pages ends after {len(file.pages)}, before image {number}")
    start = first.dataoffsets[0] + (number - 1) * first.nbytes
    if start + first.nbytes > file.filehandle.size:
        raise ValueError(f"the file ends before image {number}")

    # all but the place is as of the first
    page = copy(first)
    page.dataoffsets, page.databytecounts = (start,), (first.nbytes,)
    return page


def check_pages(file: tifffile.TiffFile, pages: int) -> None:
    """Raise ValueError if there is to be another page after those that were found, so many."""
    tiff, handle, last = file.tiff, file.filehandle, file.pages[-1]
    order: Any = "little" if file.byteorder == "<" else "big"
    handle.seek(last.offset)
    tags = int.from_bytes(handle.read(tiff.tagnosize), order)
    handle.seek(last.offset + tiff.tagnosize + tags * tiff.tagsize)
    following = int.from_bytes(handle.read(tiff.offsetsize), order)
    if following:
        raise ValueError(
            f"its list of pages ends after {pages}, and names another at byte {following:,}"
        )


def is_thumbnail(page: Any, of: Any) -> bool:
    """Whether a page is a small copy of another: of its shape, at most half as wide."""
    width, height = page.imagewidth, page.imagelength
    if max(width, height) > THUMBNAIL or 2 * width > of.imagewidth:
        return False
    return abs(height - width * of.imagelength / of.imagewidth) <= 1


def _check(page: Any) -> None:
    """Raise for a page that cannot be read: for what its numbers mean, or for a size that the file
    is too short for.
    """
    _check_colours(page)
    held = page.size * (1 if page.dtype is None else page.dtype.itemsize)
    stored = sum(page.databytecounts)
    if held > MOST_PIXELS_PER_BYTE * stored or 0 in page.databytecounts:
        raise ValueError(
            f"{stored:,} bytes cannot hold the {page.imagewidth} x {page.imagelength} pixels it "
            "states"
        )


def _check_colours(page: Any) -> None:
    # what the numbers mean must be known
    photometric = page.photometric
    if photometric not in (*GREY, *_COLOURS):
        name = getattr(photometric, "name", photometric)
        raise NotOneImageError(f"its colours are {name}: save it as grey or RGB first")

    # What is converted must be of the usual kind.
    is_ycbcr = photometric == PHOTOMETRIC.YCBCR and page.compression not in _JPEG
    if is_ycbcr and page.is_subsampled:
        raise NotOneImageError("its colours are subsampled YCBCR: save it as grey or RGB first")
    is_cmyk = page.tags.valueof(_INK_SET, _CMYK) == _CMYK and page.samplesperpixel >= 4
    if photometric == PHOTOMETRIC.SEPARATED and not is_cmyk:
        raise NotOneImageError("its colours are inks other than CMYK: save it as RGB first")

    # converted or inverted by the greatest value of the type, which must be white
    kind = "" if page.dtype is None else page.dtype.kind
    if photometric in (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR) and kind != "u":
        raise NotOneImageError(
            f"it holds {page.dtype} values of {photometric.name}: only unsigned integers can be "
            "such"
        )
    if photometric == PHOTOMETRIC.MINISWHITE and kind not in ("u", "b"):
        raise NotOneImageError(
            f"it holds {page.dtype} values of which 0 is white: only unsigned integers can be such"
        )


def values_of(page: Any) -> NDArray:
    """Grey (H, W) or RGB (H, W, 3), in the type of the file. White is always the high value.

    Colour tables are applied, CMYK and YCbCr converted, transparency is dropped.

    Raises:
        NotOneImageError: if the page holds an array of another shape.
    """
    return as_seen(page.asarray(), page)


def as_seen(raw: NDArray, page: Any) -> NDArray:
    """`values_of` a page that is as `page` but has other values."""
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Some microscopes write grey images with a colour table. The entries of a table have 16
        # bits.
        table = page.colormap.astype(np.float64) / 65535 * np.iinfo(raw.dtype).max
        return np.rint(np.moveaxis(table[:, raw], 0, -1)).astype(raw.dtype)

    # the high value becomes white, and samples the last axis
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        raw = ~raw if raw.dtype.kind == "b" else np.iinfo(raw.dtype).max - raw
    if page.axes == "SYX":
        raw = np.moveaxis(raw, 0, -1)

    # samples beyond grey or RGB are transparency
    if page.photometric == PHOTOMETRIC.SEPARATED and raw.ndim == 3:
        return _rgb_of_cmyk(raw[..., :4])
    if raw.ndim == 3 and raw.shape[-1] in (2, 4):
        raw = raw[..., :-1]  # the last of 2 or 4 samples is transparency
    if raw.ndim == 3 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim != 2 and not (raw.ndim == 3 and raw.shape[-1] == 3):
        raise NotOneImageError(
            f"it holds an array of shape {raw.shape}, one grey or colour image is wanted"
        )

    # of JPEG's YCbCr tifffile has made RGB
    is_ycbcr = page.photometric == PHOTOMETRIC.YCBCR and page.compression not in _JPEG
    return _rgb_of_ycbcr(raw, page) if is_ycbcr and raw.ndim == 3 else raw


def _rgb_of_cmyk(inks: NDArray) -> NDArray:
    """Cyan, magenta, yellow and black -> RGB: each ink takes its share of what the black leaves."""
    white = np.iinfo(inks.dtype).max
    left = 1 - inks.astype(np.float64) / white
    return np.rint(white * left[..., :3] * left[..., 3:]).astype(inks.dtype)


def _rgb_of_ycbcr(raw: NDArray, page: Any) -> NDArray:
    """Luma and two differences of colour -> RGB, by section 21 of TIFF 6.0."""
    white = np.iinfo(raw.dtype).max
    middle = (white + 1) // 2
    bounds = _pairs(page.tags.valueof(_REFERENCE)) or [0, white, middle, white, middle, white]
    weights = _pairs(page.tags.valueof(_COEFFICIENTS)) or _BT601

    # The values between the references of black and white; differences are signed.
    low, high = np.array(bounds[::2], np.float64), np.array(bounds[1::2], np.float64)
    span = np.array([white, white - middle, white - middle])
    luma, blue_difference, red_difference = np.moveaxis((raw - low) / (high - low) * span, -1, 0)

    red = luma + red_difference * (2 - 2 * weights[0])
    blue = luma + blue_difference * (2 - 2 * weights[2])
    green = (luma - weights[0] * red - weights[2] * blue) / weights[1]
    rgb = np.stack([red, green, blue], axis=-1)
    return np.rint(rgb).clip(0, white).astype(raw.dtype)


def _pairs(fractions: Any) -> list[float]:
    """The numbers of a tag that has them as numerators and denominators."""
    numbers = list(fractions or ())
    return [
        above / below for above, below in zip(numbers[::2], numbers[1::2], strict=True) if below
    ]
