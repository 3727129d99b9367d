"""Restoration from file to file: at once where the memory allows it, else in exact tiles."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch.distributed import ProcessGroup

from aeanet.distributed import agreeing
from aeanet.imaging.flips import Flips
from aeanet.imaging.precision import Precision, computing_in
from aeanet.imaging.upsampling import upsample_region, upsampled_shape
from aeanet.inference.memory import largest_tile
from aeanet.inference.prediction import at_magnification, known_magnification, super_resolve
from aeanet.inference.tiling import TileProgress, check_side, reach_of, run_tiles
from aeanet.io.images import Micrograph, read_image, write_image
from aeanet.io.mosaics import create_mosaic, open_mosaic, shape_by_regions
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model

_MIDDLE = 1024  # px


def restore_file(
    model: Network | str,
    image: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    tile: int | None = None,
    magnification: float | None = None,
    flips: Flips | None = None,
    precision: Precision = "float32",
    keep_bar: bool = False,
    group: ProcessGroup | None = None,
    progress: TileProgress | None = None,
    on_read: Callable[[Micrograph], None] | None = None,
    on_result: Callable[[NDArray, NDArray], None] | None = None,
) -> None:
    """Restore a raw LR micrograph from file to file, as `super_resolve` does an array.

    An OME-Zarr image or a large TIFF (`mosaics.shape_by_regions`) is read and written by regions,
    so that neither it nor the result is ever in memory as a whole.

    Args:
        model: any network, on any device, or the name of a shipped model, such as "sem".
        image: the LR micrograph.
        target: the result, in the type and range of `image`, with the pixel size divided by the
            magnification. It appears when it is complete.
        tile: side of the tiles in pixels of the result; the result does not depend on it. None
            takes the image at once if that fits into the free memory, else the largest tile that
            does.
        magnification, flips, precision: as in `super_resolve`.
        keep_bar: keep the information bar of the microscope as part of the image.
        group: processes that share the tiles, on one file system; the first of them writes an image
            held in memory.
        progress: told (done, total) after every tile.
        on_read: called with the image once it is in memory; not for one that is read by regions.
        on_result: called with the image and the result, both (H, W) in [0, 1], once the file is
            there; with the middle of both for an image that is read by regions. Of several
            processes only the first calls these two.

    Of several processes, an error of one that the user can mend is an AgreedError in all. Raises
    ImageError for files that cannot be read or written, PredictionError if the magnification is not
    known, TilingError for a tile that is too small, MemoryError if not even the smallest tile fits
    into the memory, ModelError for an unknown name.
    """
    model = load_model(model) if isinstance(model, str) else model
    image, target = Path(image), Path(target)
    magnification = known_magnification(model, magnification)
    options: Any = {
        "magnification": magnification,
        "flips": flips,
        "precision": precision,
        "group": group,
        "progress": progress,
    }

    def side(shape: Sequence[int]) -> int | None:
        enlarged = upsampled_shape(shape, magnification)
        return largest_tile(model, enlarged, precision, group) if tile is None else tile

    with agreeing(group):
        shape = shape_by_regions(image)
        source = read_image(image, keep_bar=keep_bar) if shape is None else None
    first = group is None or group.rank() == 0
    if source is None:
        assert shape is not None
        super_resolve_mosaic(model, image, target, tile=side(shape), **options)
        if on_result and first:
            on_result(*_middle(image, target))
        return
    if on_read and first:
        on_read(source)
    result = super_resolve(model, source.pixels, tile=side(source.pixels.shape), **options)
    with agreeing(group):
        if first:
            write_image(target, result, like=source, magnification=magnification)
            if on_result:
                on_result(source.pixels, result)


def _middle(image: Path, target: Path) -> tuple[NDArray, NDArray]:
    """The middle of an image that is read by regions, at most 1024 px a side, and of its result."""
    with open_mosaic(image) as source, open_mosaic(target) as result:
        spans = [(max(length - _MIDDLE, 0) // 2, min(length, _MIDDLE)) for length in source.shape]
        scales = [
            larger / length for larger, length in zip(result.shape, source.shape, strict=True)
        ]
        small = [slice(start, start + side) for start, side in spans]
        large = [
            slice(round(s.start * k), round(s.stop * k)) for s, k in zip(small, scales, strict=True)
        ]
        return source.read(small[0], small[1]), result.read(large[0], large[1])


def super_resolve_mosaic(
    model: Network,
    image: Path,
    target: Path,
    *,
    tile: int | None = None,
    magnification: float | None = None,
    flips: Flips | None = None,
    precision: Precision = "float32",
    group: ProcessGroup | None = None,
    progress: TileProgress | None = None,
) -> None:
    """Restore a TIFF or OME-Zarr image by regions, as `restore_file` does if the image is large.

    The name of `target` decides which of the two it is. Without `tile` the image is taken at once.
    Otherwise arguments and errors are those of `restore_file`.
    """
    magnification = known_magnification(model, magnification)
    with ExitStack() as stack:
        with agreeing(group):
            source = stack.enter_context(open_mosaic(image))
        shape = upsampled_shape(source.shape, magnification)
        whole = tile is None or tile >= max(shape)
        tile = max(shape) if tile is None or whole else check_side(tile, reach_of(model))
        pixel_size = source.pixel_size and source.pixel_size.magnified(magnification)

        def read(rows: slice, columns: slice) -> NDArray:
            return upsample_region(source.read, source.shape, magnification, rows, columns)

        with (
            create_mosaic(
                target, shape, like=source, pixel_size=pixel_size, tile=tile, group=group
            ) as write,
            computing_in(precision, next(model.parameters()).device),
            at_magnification(model, magnification),
        ):
            number = model.flips if flips is None else flips
            run_tiles(
                model, read, write, shape, side=tile, flips=number, group=group, progress=progress
            )
