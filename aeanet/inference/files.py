"""Restoration from file to file: at once where the memory allows it, else in exact tiles.

It has three steps: `load_file`, `restore_loaded`, which the network does, and `Restored.write`. The
first and the last may run beside the second of other images.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

from numpy.typing import NDArray

from aeanet.distributed import agreeing
from aeanet.imaging.exposure import Exposure, Outliers
from aeanet.imaging.upsampling import upsample_region, upsampled_shape
from aeanet.inference.memory import largest_tile
from aeanet.inference.prediction import (
    RunOptions,
    chosen_precision,
    enlarged_as_shown,
    exposure_for,
    known_magnification,
    reader,
    run_exposed,
    super_resolve_enlarged,
)
from aeanet.inference.reach import reach_of
from aeanet.inference.restored import Restored
from aeanet.inference.tiling import check_side
from aeanet.io.atomic import same_file
from aeanet.io.images import ImageError, Micrograph, read_image
from aeanet.io.mosaics import create_mosaic, open_mosaic, shape_by_regions
from aeanet.networks.base import Network
from aeanet.networks.registry import given_model


@dataclass(frozen=True)
class Loaded:
    """An LR micrograph, read and made ready for the network.

    Attributes:
        image: its file.
        shape: (H, W) of it.
        chosen: which of several images in the file it is, if the user said so.
        source: the micrograph; None for an image that is to be read by regions.
        exposure: what the model is shown of it; of an image read by regions not known yet.
        enlarged: the image on the grid of the result, in the units of the network; None likewise.
        keep_bar: whether the information bar of an image read by regions is part of it.
    """

    image: Path
    shape: tuple[int, int]
    chosen: str | None = None
    source: Micrograph | None = None
    exposure: Exposure = Exposure()  # noqa: RUF009 (frozen)
    enlarged: NDArray | None = None
    keep_bar: bool = False


def restore_file(
    model: Network | str | os.PathLike[str],
    image: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    magnification: float | None = None,
    keep_bar: bool = False,
    chosen: str | None = None,
    outliers: Outliers = "keep",
    **options: Unpack[RunOptions],
) -> Restored:
    """Restore a raw LR micrograph from file to file, as `super_resolve` does an array.

    An OME-Zarr image or a large TIFF (`mosaics.shape_by_regions`) is read and written by regions,
    so that neither it nor the result is ever in memory as a whole.

    Args:
        model: any network, on any device, or the name of a shipped model, such as "sem", or
            the path of a model or run.
        image: the LR micrograph.
        target: the result, in the type and range of `image`, with the pixel size divided by the
            magnification. It appears when it is complete, in the place of what was there.
        magnification: as in `super_resolve`.
        keep_bar: keep the information bar of the microscope as part of the image.
        chosen: which of several images in the file it is, by name or number (`read_image`).
        outliers: as in `super_resolve`.
        options: tile, flips, precision, group and progress, as in `super_resolve`. Without a tile
            the image is taken at once if that fits into the free memory, else in the largest tiles
            that do. Processes of a group share one file system; the first of them writes an image
            held in memory.

    Returns:
        What was read and written.

    Raises:
        ImageError: for files that cannot be read or written; if `target` is `image`.
        PredictionError: if the magnification is not known, or for an unknown precision.
        TilingError: for a tile that is too small.
        MemoryError: if not even the smallest tile fits into the memory.
        ModelError: for an unknown name.
        AgreedError: in all processes of a group, for an error of one that the user can mend.
    """
    model = given_model(model)
    image, target = Path(image), Path(target)
    if same_file(image, target):
        raise ImageError(f"{target} is the image itself, which would be lost.")

    # what was left open is settled once, for all steps
    magnification = known_magnification(model, magnification)
    options["precision"] = chosen_precision(model, options.get("precision", "auto"))
    group = options.get("group")

    # To read and to write may fail in one process alone; the step between exchanges what it needs.
    with agreeing(group):
        loaded = load_file(model, image, magnification, keep_bar=keep_bar, chosen=chosen)
    restored = restore_loaded(model, loaded, target, magnification, outliers, **options)
    with agreeing(group):
        if group is None or group.rank() == 0:
            restored.write()
    return restored


def load_file(
    model: Network,
    image: Path,
    magnification: float,
    *,
    keep_bar: bool = False,
    chosen: str | None = None,
) -> Loaded:
    """The first step of `restore_file`, with its arguments. It runs no network.

    Raises:
        ImageError: for a file that cannot be read.
    """
    by_regions = shape_by_regions(image, chosen)
    if by_regions is not None:
        return Loaded(image, by_regions, chosen, keep_bar=keep_bar)
    source = read_image(image, keep_bar=keep_bar, image=chosen)
    shape = source.pixels.shape
    exposure = exposure_for(model, reader(source.pixels), shape)
    enlarged = enlarged_as_shown(source.pixels, exposure, magnification)
    return Loaded(image, shape, chosen, source, exposure, enlarged)


def restore_loaded(
    model: Network,
    loaded: Loaded,
    target: Path,
    magnification: float,
    outliers: Outliers = "keep",
    **options: Unpack[RunOptions],
) -> Restored:
    """The second step of `restore_file`, with its arguments and errors. An image that is read by
    regions is written too; any other is left to `Restored.write`.
    """
    # the largest tile that fits, and none where the image fits
    options["precision"] = precision = chosen_precision(model, options.get("precision", "auto"))
    if options.get("tile") is None:
        enlarged = upsampled_shape(loaded.shape, magnification)
        options["tile"] = largest_tile(model, enlarged, precision, options.get("group"))

    # an image that is read by regions is written by regions too, in the same step
    source, exposure = loaded.source, loaded.exposure
    if source is None or loaded.enlarged is None:
        return super_resolve_mosaic(
            model,
            loaded.image,
            target,
            magnification=magnification,
            keep_bar=loaded.keep_bar,
            chosen=loaded.chosen,
            outliers=outliers,
            **options,
        )

    # one in memory waits for `Restored.write`, which may run beside the next image
    result = super_resolve_enlarged(
        model, loaded.enlarged, exposure, magnification, outliers, **options
    )
    return Restored(
        loaded.image,
        target,
        source,
        result,
        loaded.chosen,
        exposure,
        magnification,
        source.high - source.low,
        precision,
        _description(model, magnification, options),
    )


def _description(model: Network, magnification: float, options: RunOptions) -> str:
    """What stands in the file of a result."""
    flips = options.get("flips") or model.flips
    return (
        f"Restored by aeanet: network {model.config['name']}, magnification {magnification:g}, "
        f"{flips} {'flip' if flips == 1 else 'flips'}, computed in {options['precision']}."
    )


def super_resolve_mosaic(
    model: Network,
    image: Path,
    target: Path,
    *,
    magnification: float | None = None,
    keep_bar: bool = False,
    chosen: str | None = None,
    outliers: Outliers = "keep",
    **options: Unpack[RunOptions],
) -> Restored:
    """Restore a TIFF or OME-Zarr image by regions, as `restore_file` does if the image is large.

    The name of `target` decides which of the two it is. Without a tile the image is taken at once.
    Otherwise arguments and errors are those of `restore_file`.
    """
    # what stands in the file must be known before the file is made
    magnification = known_magnification(model, magnification)
    options["precision"] = precision = chosen_precision(model, options.get("precision", "auto"))
    description = _description(model, magnification, options)
    group = options.get("group")

    # what one process cannot open ends the run in all
    with ExitStack() as stack:
        with agreeing(group):
            source = stack.enter_context(open_mosaic(image, chosen, keep_bar=keep_bar))
            exposure = exposure_for(model, source.read, source.shape)
        shape = upsampled_shape(source.shape, magnification)
        pixel_size = source.pixel_size and source.pixel_size.magnified(magnification)

        # Tiles of the result become the chunks of the file, so the side must be known beforehand.
        tile = options.get("tile")
        if tile is None or tile >= max(shape):
            tile = max(shape)
        else:
            tile = check_side(tile, reach_of(model))
        options["tile"] = tile

        # each region of the result is made from the region of the image that it needs
        small = partial(exposure.scaled_region, source.read)

        def read(rows: slice, columns: slice) -> NDArray:
            return upsample_region(small, source.shape, magnification, rows, columns)

        # it appears under its name when all regions are written
        write = stack.enter_context(
            create_mosaic(
                target,
                shape,
                like=source,
                pixel_size=pixel_size,
                tile=tile,
                description=description,
                group=group,
            )
        )
        run_exposed(model, read, write, shape, exposure, magnification, outliers, **options)

    # neither image nor result is kept: whoever judges them reads a part of them again
    unit = source.high - source.low
    return Restored(
        image,
        target,
        None,
        None,
        chosen,
        exposure,
        magnification,
        unit,
        precision,
        description,
        keep_bar=keep_bar,
    )
