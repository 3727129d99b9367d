"""Images larger than memory, written region by region: BigTIFF and OME-Zarr.

An image appears under its name only when it is complete. Until then it is a hidden, locked file in
the same folder, into which each process of a run writes its own regions.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from aeanet.io.atomic import hidden
from aeanet.io.images.micrograph import encoding
from aeanet.io.images.reading import ZARR_SUFFIX
from aeanet.io.large import check_folder_of, check_room, locked, put_in_place, remove, write_at
from aeanet.io.mosaics.reading import Mosaic
from aeanet.io.ome_zarr import ZARR_METADATA, create_zarr
from aeanet.io.pixel_size import PixelSize, ome_metadata, tiff_resolution

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

FILE_TILE = 256  # side of the tiles within a TIFF, px: a multiple of 16
WriteValues = Callable[[int, int, NDArray], None]
"""Row and column of the upper left corner, and the values of a region."""


@contextmanager
def create_mosaic(
    path: Path,
    shape: tuple[int, int],
    *,
    like: Mosaic,
    pixel_size: PixelSize | None = None,
    tile: int = 1024,
    description: str = "",
    group: "ProcessGroup | None" = None,
) -> Iterator[Callable[[slice, slice, NDArray], None]]:
    """Create an image. The function that it yields writes a region: rows, columns, and pixels,
    which are clipped to [0, 1].

    The format follows from the name: OME-Zarr, or BigTIFF in uncompressed tiles with OME metadata.

    Args:
        path: where the image appears when it is complete. After an error nothing is left of it, and
            what was there before survives.
        shape: (H, W).
        like: the image whose type and range the new one has.
        pixel_size: to be stated in the metadata.
        tile: side of the regions in px, which becomes that of the chunks of an OME-Zarr image, so
            that no two regions share one.
        description: of the image, for BigTIFF.
        group: processes that write one image together, on one file system.

    Raises:
        ImageError: if the disk has no room for it, the file cannot be written, another run writes
            it, or its name is that of a folder which is no image.
    """
    # This imports PyTorch, which whoever writes a mosaic has in use.
    from aeanet.distributed import agreeing

    # beside its place, so that what was there stays until the new image is complete
    path = path.resolve()  # of a link, the image that it points to is replaced
    partial = hidden(path, ".partial")
    leads = group is None or group.rank() == 0
    is_zarr = path.suffix.lower() == ZARR_SUFFIX
    create, opened = (_create_zarr, _open_zarr) if is_zarr else (_create_tiff, _open_tiff)

    # The first process creates the file, all write into it, and the first puts it in its place.
    with ExitStack() as stack:
        with agreeing(group), encoding(path):
            if leads:
                _check_target(path)
                stack.enter_context(locked(path))
                stack.callback(remove, partial)
                remove(partial)
                check_room(path, math.prod(shape) * like.dtype.itemsize)
                create(partial, shape, like, pixel_size, tile, description)

        # a stack of its own: the file is closed before it is moved
        file = stack.enter_context(ExitStack())
        with agreeing(group), encoding(path):
            write_values = file.enter_context(opened(partial))

        def write(rows: slice, columns: slice, pixels: NDArray) -> None:
            with encoding(path):
                write_values(rows.start, columns.start, like.to_raw(pixels))

        # each process has closed its file before the first of them moves it
        yield write
        with agreeing(group), encoding(path):
            file.close()
        with agreeing(group), encoding(path):
            if leads:
                put_in_place(partial, path)


def _check_target(path: Path) -> None:
    check_folder_of(path)
    is_image = any((path / name).exists() for name in ZARR_METADATA)
    if path.is_dir() and not (path.suffix.lower() == ZARR_SUFFIX and is_image):
        raise OSError("it is a folder, and not that of an image")


def _create_tiff(
    path: Path,
    shape: tuple[int, int],
    like: Mosaic,
    pixel_size: PixelSize | None,
    _tile: int,
    description: str,
) -> None:
    """A BigTIFF in uncompressed tiles."""
    tifffile.imwrite(
        path,
        bigtiff=True,
        ome=True,
        photometric="minisblack",
        shape=shape,
        dtype=like.dtype.newbyteorder("<"),
        tile=(FILE_TILE, FILE_TILE),
        metadata=ome_metadata(pixel_size, like.bits, description),
        **tiff_resolution(pixel_size),
    )


@contextmanager
def _open_tiff(path: Path) -> Iterator[WriteValues]:
    """Each process can write any region. All of it is on the disk when this ends."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        offsets, tiles_across = page.dataoffsets, -(-page.shape[1] // FILE_TILE)
    descriptor = os.open(path, os.O_WRONLY)

    def write(top: int, left: int, values: NDArray) -> None:
        # the file is little-endian, and its tiles cut each row of the region into parts
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        height, width = values.shape
        for row in range(height):
            # Row by row, and in each row from one tile of the file to the next.
            down, y = divmod(top + row, FILE_TILE)
            start = left
            while start < left + width:
                across, x = divmod(start, FILE_TILE)
                stop = min(left + width, (across + 1) * FILE_TILE)

                # within a tile rows follow each other, all of full width, also beyond the edge of
                # the image
                offset = offsets[down * tiles_across + across]
                offset += (y * FILE_TILE + x) * values.itemsize
                part = values[row, start - left : stop - left]
                write_at(descriptor, part.data, offset)
                start = stop

    try:
        yield write
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_zarr(
    path: Path,
    shape: tuple[int, int],
    like: Mosaic,
    pixel_size: PixelSize | None,
    tile: int,
    _description: str,
) -> None:
    """An OME-Zarr image of one level, whose chunks are the tiles."""
    chunks = [min(tile, max(shape))] * 2
    steps = {}
    if pixel_size is not None:
        steps = {"Y": (pixel_size.y, pixel_size.unit), "X": (pixel_size.x, pixel_size.unit)}
    create_zarr(path, "YX", shape, like.dtype, chunks, steps, bits=like.bits)


@contextmanager
def _open_zarr(path: Path) -> Iterator[WriteValues]:
    """Each process writes the chunks of its tiles, which are files."""
    import zarr

    array: Any = zarr.open_array(path / "0", mode="r+")

    def write(top: int, left: int, values: NDArray) -> None:
        height, width = values.shape
        array[top : top + height, left : left + width] = values

    yield write
