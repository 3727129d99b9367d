"""Images larger than memory, read and written region by region: TIFF and OME-Zarr.

A mosaic appears under its name only when it is complete. Until then it lies beside its place, hidden and locked, and
every process of a run writes its own regions into it.
"""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from aeanet.io.images import WIDER, ImageError, bits_of, to_raw, value_range
from aeanet.io.images.reading import TIFF_SUFFIXES, ZARR_SUFFIX
from aeanet.io.pixel_size import (
    PixelSize,
    ome_metadata,
    pixel_size_of_tiff,
    significant_bits,
    specimen_rows,
    tiff_resolution,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LARGE = 2**25  # pixels beyond which a TIFF is read by regions
FILE_TILE = 256  # side of the tiles within a TIFF, px: a multiple of 16
OME_ZARR_VERSION = "0.5"  # of https://ngff.openmicroscopy.org
ZARR_BITS = "significant_bits"  # of the values; OME-Zarr, other than OME-TIFF, has no place for it
_OME_UNITS = {
    "pm": "picometer", "Å": "angstrom", "nm": "nanometer", "µm": "micrometer", "mm": "millimeter", "cm": "centimeter",
    "m": "meter", "km": "kilometer", "in": "inch",
}  # fmt: skip


@dataclass(frozen=True)
class Mosaic:
    """A grey image of which any region can be read: `shape` (H, W), and what is needed to write another one like it.

    Pixels are `(raw - low) / (high - low)`, as in `images.Micrograph`.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype
    low: float
    high: float
    pixel_size: PixelSize | None
    raw: Callable[[slice, slice], NDArray]
    """Rows and columns -> the file's own values there."""

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """A region, float32 in [0, 1]. Raises ImageError where it cannot be read."""
        values = _guarded(self.path, self.raw, rows, columns)
        return ((values.astype(np.float64) - self.low) / (self.high - self.low)).astype(np.float32)

    def to_raw(self, pixels: NDArray) -> NDArray:
        """Other pixels, clipped to [0, 1], as values of this image's type and range."""
        return to_raw(pixels, self.dtype, self.low, self.high)


def shape_by_regions(path: Path) -> tuple[int, int] | None:
    """(H, W) of an image to be read by regions: OME-Zarr, and TIFF beyond `LARGE`; None for any other file.

    Raises ImageError for an OME-Zarr image or a TIFF that cannot be read.
    """
    if path.suffix.lower() == ZARR_SUFFIX:
        _check_exists(path)
        array, *_ = _guarded(path, _open_zarr, path)
        return array.shape[-2:]
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file():
        return None
    with _guarded(path, tifffile.TiffFile, path) as file:
        page = _guarded(path, getattr, file.pages, "first")
        return (page.imagelength, page.imagewidth) if page.imagelength * page.imagewidth > LARGE else None


@contextmanager
def open_mosaic(path: Path) -> Iterator[Mosaic]:
    """A grey TIFF of one page, tiled or in strips, of any size and compression; an OME-Zarr image or a Zarr array.

    Of an OME-Zarr image its finest level; axes before the last two must have the length 1. Memory: the tiles, strips or
    chunks that a region touches.

    The image is read once for its range (`images.value_range`), but for one of 8 bits.

    Raises ImageError if there is no such image, it is cut short, or it holds NaN or infinity.
    """
    _check_exists(path)
    if path.suffix.lower() == ZARR_SUFFIX:
        array, pixel_size, bits = _guarded(path, _open_zarr, path)

        def plane(rows: slice, columns: slice) -> NDArray:
            return array[(*[0] * (array.ndim - 2), rows, columns)]

        yield _mosaic(path, array.shape, array.dtype, pixel_size, plane, bits)
        return
    with _guarded(path, tifffile.TiffFile, path) as file:
        page = _checked_page(path, file)
        bits = significant_bits(file)
        white = np.iinfo(page.dtype).max if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else None
        stored = _guarded(path, _open_tiff, path, page)

        def raw(rows: slice, columns: slice) -> NDArray:
            values = np.asarray(stored(rows, columns))
            return values if white is None else white - values

        yield _mosaic(path, page.shape, page.dtype, pixel_size_of_tiff(file), raw, bits, specimen_rows(file))


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise ImageError(f"{path} cannot be read: there is no such file.")


def _guarded(path: Path, read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` returns; what decoders raise on damaged files, and that is anything, becomes an ImageError."""
    try:
        return read(*arguments)
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ImageError(f"{path} cannot be read as an image: {reason}.") from error


def _checked_page(path: Path, file: tifffile.TiffFile) -> Any:
    pages: list[Any] = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and not page.is_reduced]
    if len(pages) != 1:
        raise ImageError(f"{path} holds {len(pages)} images, one is wanted.")
    page = pages[0]
    if page.ndim != 2 or page.dtype is None or page.dtype.kind not in "uif":
        raise ImageError(f"{path} holds {page.dtype} values of shape {page.shape}; one grey image is wanted.")
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and page.dtype.kind != "u":
        raise ImageError(f"{path} holds {page.dtype} values of which 0 is white: only unsigned integers can be such.")
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise ImageError(f"{path} has a colour table, and a large image must be grey: save it as grey first.")
    end = max(offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    size = path.stat().st_size
    if end > size:
        raise ImageError(f"{path} is cut short: {size:,} of {end:,} bytes are there.")
    return page


def _open_tiff(path: Path, page: Any) -> Callable[[slice, slice], NDArray]:
    if page.is_memmappable:
        # One strip may hold the whole image. Mapped anew each time, what has been read does not stay in memory.
        dtype = page.dtype.newbyteorder(page.parent.byteorder)

        def read(rows: slice, columns: slice) -> NDArray:
            mapped = np.memmap(path, dtype, "r", page.dataoffsets[0], page.shape)
            return np.array(mapped[rows, columns], page.dtype)

        return read
    array = zarr.open_array(page.aszarr(), mode="r")
    return lambda rows, columns: np.asarray(array[rows, columns])


def _open_zarr(path: Path) -> tuple[Any, PixelSize | None, int | None]:
    """The array, its pixel size, and how many of its bits the values may use, where the file says so."""
    node: Any = zarr.open(path, mode="r")
    pixel_size, said = None, node.attrs.get(ZARR_BITS)
    bits = said if isinstance(said, int) and 1 <= said <= 64 else None
    if isinstance(node, zarr.Group):
        ome: Any = node.attrs.get("ome", node.attrs)
        if "multiscales" not in ome:
            raise ImageError(f"{path} holds no OME-Zarr image: its metadata name no multiscales.")
        image = ome["multiscales"][0]
        level = image["datasets"][0]
        pixel_size = _pixel_size_of_zarr(image, level)
        node = zarr.open_array(path / level["path"], mode="r")
    if node.ndim < 2 or any(length != 1 for length in node.shape[:-2]) or node.dtype.kind not in "uif":
        raise ImageError(f"{path} holds {node.dtype} values of shape {node.shape}; one grey image is wanted.")
    return node, pixel_size, bits


def _pixel_size_of_zarr(image: Any, level: Any) -> PixelSize | None:
    transformations = (*level.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ()))
    scales = [t["scale"] for t in transformations if t["type"] == "scale"]
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in image.get("axes", ())]
    if not scales or len(units) < 2 or units[-1] != units[-2]:
        return None
    return PixelSize.of(math.prod(scale[-1] for scale in scales), math.prod(scale[-2] for scale in scales), units[-1])


def _mosaic(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype,
    pixel_size: PixelSize | None,
    raw: Callable[[slice, slice], NDArray],
    bits: int | None = None,
    specimen: int | None = None,
) -> Mosaic:
    """`specimen`: how many rows, from the first, are no information bar, where the file says so."""
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
    """The least and the greatest value of the image, for the types whose range depends on them."""
    if dtype == np.uint8 and bits in (None, 8):
        return 0.0, 255.0
    height, width = shape
    step = max(1, 2**22 // width)  # rows at a time: 8 MiB of 16 bits
    bands = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    least, most = float("inf"), float("-inf")
    for band in bands:
        values = _guarded(path, raw, band, slice(0, width))
        if not np.isfinite(values).all():
            raise ImageError(f"{path} holds NaN or infinite values; all pixels must be finite.")
        least, most = min(least, float(values.min())), max(most, float(values.max()))
    return least, most


@contextmanager
def create_mosaic(
    path: Path,
    shape: tuple[int, int],
    *,
    like: Mosaic,
    pixel_size: PixelSize | None = None,
    tile: int = 1024,
    group: "ProcessGroup | None" = None,
) -> Iterator[Callable[[slice, slice, NDArray], None]]:
    """Within it, regions of a new image are written by the function it gives; afterwards the image has its name.

    The kind of file follows the name's ending: BigTIFF in tiles, uncompressed, with OME metadata; or OME-Zarr.

    Args:
        path: where the image appears when all is written; after an error nothing is left of it, and what was there
            before survives.
        shape: (H, W).
        like: the image whose type and range the new one has; regions are clipped to [0, 1].
        pixel_size: to be stated in the metadata.
        tile: side of the regions to be written, px: the chunks of an OME-Zarr image, so that no two regions share one.
        group: processes that write one image together, on one file system.

    Raises ImageError if the disk has no room for it, the file cannot be written, another run writes it, or its name is
    that of a folder which is no image.
    """
    path = path.resolve()  # the image a link points to is replaced, not the link
    partial = path.with_name(f".{path.name}.partial")
    leads = group is None or group.rank() == 0
    kind: type[_ZarrFile] | type[_TiffFile] = _ZarrFile if path.suffix.lower() == ZARR_SUFFIX else _TiffFile
    with ExitStack() as stack:
        if leads:
            with _one_sentence(path):
                _check_target(path)
                stack.enter_context(_locked(path))
                stack.callback(_remove, partial)
                _remove(partial)
                _check_room(path, math.prod(shape) * like.dtype.itemsize)
                kind.create(partial, shape, like, pixel_size, tile)
        _wait_for_all(group)
        with _one_sentence(path):
            file = kind(partial)
            stack.callback(file.release)

        def write(rows: slice, columns: slice, pixels: NDArray) -> None:
            with _one_sentence(path):
                file.write(rows.start, columns.start, like.to_raw(pixels))

        yield write
        with _one_sentence(path):
            file.close()
        _wait_for_all(group)
        if leads:
            with _one_sentence(path):
                _put_in_place(partial, path)
        _wait_for_all(group)


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error


def _check_target(path: Path) -> None:
    if not path.parent.is_dir():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    is_image = any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))
    if path.is_dir() and not (path.suffix.lower() == ZARR_SUFFIX and is_image):
        raise OSError("it is a folder, and not that of an image")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Within it, no other run writes this image; the lock falls with its process."""
    name = path.with_name(f".{path.name}.lock")
    try:
        lock = FileLock(name).acquire(timeout=0)
    except Timeout:
        raise OSError("another run is writing it") from None
    with lock:
        try:
            yield
        finally:
            name.unlink(missing_ok=True)


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"it needs {needed / 1e9:,.1f} GB, the disk has {free / 1e9:,.1f} GB")


def _put_in_place(partial: Path, path: Path) -> None:
    """A folder cannot take the place of another at once: the old one stands aside until the new one is there."""
    old = path.with_name(f".{path.name}.old")
    if path.is_dir():
        os.replace(path, old)
    os.replace(partial, path)
    _remove(old)


def _wait_for_all(group: "ProcessGroup | None") -> None:
    if group is not None:
        import torch

        torch.distributed.barrier(group)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # another process may still write into it
    else:
        path.unlink(missing_ok=True)


class _TiffFile:
    """A BigTIFF in uncompressed tiles, of which any region can be written by any process."""

    @staticmethod
    def create(path: Path, shape: tuple[int, int], like: Mosaic, pixel_size: PixelSize | None, tile: int) -> None:
        metadata = {"metadata": ome_metadata(pixel_size, bits_of(like.dtype, like.high))} | tiff_resolution(pixel_size)
        tifffile.imwrite(
            path, shape=shape, dtype=like.dtype.newbyteorder("<"), tile=(FILE_TILE, FILE_TILE), bigtiff=True, ome=True,
            photometric="minisblack", **metadata,
        )  # fmt: skip

    def __init__(self, path: Path) -> None:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            self.offsets, self.across = page.dataoffsets, -(-page.shape[1] // FILE_TILE)
        self.file = os.open(path, os.O_WRONLY)

    def release(self) -> None:
        os.close(self.file)

    def write(self, top: int, left: int, values: NDArray) -> None:
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        height, width = values.shape
        for row in range(height):
            down, y = divmod(top + row, FILE_TILE)
            start = left
            while start < left + width:
                across, x = divmod(start, FILE_TILE)
                stop = min(left + width, (across + 1) * FILE_TILE)
                offset = self.offsets[down * self.across + across] + (y * FILE_TILE + x) * values.itemsize
                part = values[row, start - left : stop - left]
                if os.pwrite(self.file, part.data, offset) != part.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                start = stop

    def close(self) -> None:
        """Everything written is on the disk."""
        os.fsync(self.file)


class _ZarrFile:
    """An OME-Zarr image of one level."""

    @staticmethod
    def create(path: Path, shape: tuple[int, int], like: Mosaic, pixel_size: PixelSize | None, tile: int) -> None:
        unit = {} if pixel_size is None else {"unit": _OME_UNITS[pixel_size.unit]}
        scale = [1.0, 1.0] if pixel_size is None else [pixel_size.y, pixel_size.x]
        image: Any = {
            "axes": [{"name": name, "type": "space"} | unit for name in "yx"],
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
        }
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.attrs["ome"] = {"version": OME_ZARR_VERSION, "multiscales": [image]}
        if bits := bits_of(like.dtype, like.high):
            group.attrs[ZARR_BITS] = bits
        chunk = min(tile, max(shape))
        group.create_array("0", shape=shape, dtype=like.dtype, chunks=(chunk, chunk), dimension_names=("y", "x"))

    def __init__(self, path: Path) -> None:
        self.array: Any = zarr.open_array(path / "0", mode="r+")

    def release(self) -> None:
        pass

    def close(self) -> None:
        """Chunks are files of their own, and on the disk as they are written."""

    def write(self, top: int, left: int, values: NDArray) -> None:
        height, width = values.shape
        self.array[top : top + height, left : left + width] = values
