"""Images larger than memory, read region by region: TIFF and OME-Zarr."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from aeanet.io.images.bars import is_drawn
from aeanet.io.images.choice import Candidate, choose
from aeanet.io.images.micrograph import (
    WIDER,
    GreyScale,
    ImageError,
    decoding,
    to_pixels,
    value_range,
)
from aeanet.io.images.reading import TIFF_SUFFIXES, ZARR_SUFFIX, check_file
from aeanet.io.images.tiff import one_page
from aeanet.io.makers import Header, Stated, stated_by_maker
from aeanet.io.ome_zarr import ZarrImage, check_folder, check_stored, open_zarr
from aeanet.io.pixel_size import PixelSize

LARGE = 2**25  # pixels beyond which a TIFF is read by regions


@dataclass(frozen=True)
class Mosaic(GreyScale):
    """A grey image of which any region can be read, and what is needed to write another one of its
    kind.

    `shape` is (H, W). Pixels are `(raw - low) / (high - low)`, as in `images.Micrograph`.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype
    low: float
    high: float
    pixel_size: PixelSize | None
    raw: Callable[[slice, slice], NDArray]
    """Rows and columns -> the values of the file there."""

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """A region, float32 in [0, 1].

        Raises:
            ImageError: if it cannot be read.
        """
        with decoding(self.path):
            values = self.raw(rows, columns)
        return to_pixels(values, self.low, self.high)


def shape_by_regions(path: Path, image: str | None = None) -> tuple[int, int] | None:
    """(H, W) of an image that is to be read by regions: OME-Zarr, or TIFF beyond `LARGE`; None for
    any other file. `image` says which of several it is, as in `images.read_image`.

    Raises:
        ImageError: for an OME-Zarr image or a TIFF that cannot be read.
    """
    if path.suffix.lower() == ZARR_SUFFIX:
        check_folder(path)
        with decoding(path):
            choose([Candidate(path, "", True)], image, "it holds one image")
            return _open_zarr(path).array.shape[-2:]
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return None
    check_file(path)
    with decoding(path), tifffile.TiffFile(path) as file:
        page, _ = one_page(file, image)
        shape = page.imagelength, page.imagewidth
        return shape if math.prod(shape) > LARGE else None


@contextmanager
def open_mosaic(
    path: Path, image: str | None = None, *, keep_bar: bool = False
) -> Iterator[Mosaic]:
    """Open a grey TIFF, of any size and compression, an OME-Zarr image, or a Zarr array.

    Of an OME-Zarr image the finest level is read. Axes before the last two must have length 1.
    Reading a region takes the memory of the tiles, strips or chunks that it touches. Unless it has
    8 bits, the image is read once for its range (`micrograph.value_range`).

    Args:
        path: of the file.
        image: which of several in a TIFF, as in `images.read_image`.
        keep_bar: keep an information bar whose height a TIFF states, which is cut off otherwise;
            any other bar is kept.

    Raises:
        ImageError: if there is no such image, it is cut short, or it holds NaN or infinity.
    """
    # `yield` is outside of `decoding`: what the caller raises is no fault of the file
    if path.suffix.lower() == ZARR_SUFFIX:
        check_folder(path)
        with decoding(path):
            opened = _open_zarr(path)
            array = opened.array

        def plane(rows: slice, columns: slice) -> NDArray:
            return array[(*[0] * (array.ndim - 2), rows, columns)]

        yield _mosaic(path, array.shape, array.dtype, opened.pixel_size, plane, opened.bits)
        return

    # all that follows reads from the open file, so it is closed after the `yield`
    check_file(path)
    with ExitStack() as stack:
        with decoding(path):
            file = stack.enter_context(tifffile.TiffFile(path))
            page = _checked_page(path, file, image)
            stored = _open_tiff(path, page)

        # white becomes the high value, as in images that are read at once
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE

        def raw(rows: slice, columns: slice) -> NDArray:
            values = stored(rows, columns)
            return np.iinfo(page.dtype).max - values if inverted else values

        _, stated = stated_by_maker(Header.of_page(file, page, path), "TIFF")
        specimen = None if keep_bar else _specimen(path, page.shape, stated, raw)
        yield _mosaic(path, page.shape, page.dtype, stated.pixel_size, raw, stated.bits, specimen)


def _specimen(
    path: Path,
    shape: tuple[int, int],
    stated: Stated,
    raw: Callable[[slice, slice], NDArray],
) -> int | None:
    """The number of rows above the information bar, if the file states it."""
    height, width = shape
    if stated.specimen is not None or not stated.bar or stated.bar >= height:
        return stated.specimen

    # a bar whose height alone is stated counts where it is seen: it may have been cut off before
    with decoding(path):
        strip = raw(slice(height - stated.bar, height), slice(0, width))
    return height - stated.bar if is_drawn(strip) else None


def _checked_page(path: Path, file: tifffile.TiffFile, image: str | None) -> Any:
    # regions are read as they are stored, so no colours can become grey
    page, _ = one_page(file, image)
    if page.ndim != 2 or page.dtype is None or page.dtype.kind not in "uif":
        raise ImageError(
            f"{path} holds {page.dtype} values of shape {page.shape}; one grey image is wanted."
        )
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise ImageError(
            f"{path} has a colour table, and a large image must be grey: save it as grey first."
        )

    # a file that is cut short would else be found out only at its last region
    parts = zip(page.dataoffsets, page.databytecounts, strict=True)
    end = max(offset + count for offset, count in parts)
    size = path.stat().st_size
    if end > size:
        raise ImageError(f"{path} is cut short: {size:,} of {end:,} bytes are there.")
    return page


def _open_tiff(path: Path, page: Any) -> Callable[[slice, slice], NDArray]:
    if page.is_memmappable:
        # One strip may hold the whole image. It is mapped anew each time, so that what was read
        # leaves the memory.
        dtype = page.dtype.newbyteorder(page.parent.byteorder)

        def read(rows: slice, columns: slice) -> NDArray:
            mapped = np.memmap(path, dtype, "r", page.dataoffsets[0], page.shape)
            return np.array(mapped[rows, columns], page.dtype)

        return read
    import zarr

    array = zarr.open_array(page.aszarr(), mode="r")
    return lambda rows, columns: np.asarray(array[rows, columns])


def _open_zarr(path: Path) -> ZarrImage:
    """An image of one plane."""
    image = open_zarr(path)
    array = image.array
    is_plane = array.ndim >= 2 and all(length == 1 for length in array.shape[:-2])
    if not is_plane or array.dtype.kind not in "uif":
        raise ImageError(
            f"{path} holds {array.dtype} values of shape {array.shape}; one grey image is wanted."
        )
    check_stored(path, array)
    return image


def _mosaic(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype,
    pixel_size: PixelSize | None,
    raw: Callable[[slice, slice], NDArray],
    bits: int | None = None,
    specimen: int | None = None,
) -> Mosaic:
    """`specimen`: the number of rows above an information bar that is to be cut off."""
    height, width = shape[-2:]
    height = height if specimen is None else min(height, specimen)
    if 0 in (height, width):
        raise ImageError(f"{path} holds no pixels: its shape is {tuple(shape)}.")
    dtype = np.dtype(WIDER.get(dtype.name, dtype))
    low, high = value_range(dtype, *_extremes(path, (height, width), dtype, raw, bits), bits)
    return Mosaic(path, (height, width), dtype, low, high, pixel_size, raw)


def _extremes(
    path: Path,
    shape: tuple[int, int],
    dtype: np.dtype,
    raw: Callable[[slice, slice], NDArray],
    bits: int | None,
) -> tuple[float, float]:
    """The least and the greatest value of the image; those of the type if it has 8 bits."""
    if dtype == np.uint8 and bits in (None, 8):
        return 0.0, 255.0
    height, width = shape
    step = max(1, 2**22 // width)  # rows at a time: 8 MiB of 16 bits
    least, most = float("inf"), float("-inf")
    for start in range(0, height, step):
        with decoding(path):
            values = raw(slice(start, min(start + step, height)), slice(0, width))
        if not np.isfinite(values).all():
            raise ImageError(f"{path} holds NaN or infinite values; all pixels must be finite.")
        least, most = min(least, float(values.min())), max(most, float(values.max()))
    return least, most
