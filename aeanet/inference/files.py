"""Restoration from file to file: at once where the memory allows it, else in exact tiles."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Unpack

from numpy.typing import NDArray

from aeanet.distributed import agreeing
from aeanet.imaging.exposure import Exposure, Outliers, whole
from aeanet.imaging.flips import Region
from aeanet.imaging.upsampling import middle, upsample_region, upsampled_shape
from aeanet.inference.memory import largest_tile
from aeanet.inference.prediction import (
    RunOptions,
    exposure_for,
    known_magnification,
    reader,
    run_exposed,
    super_resolve_exposed,
)
from aeanet.inference.reach import reach_of
from aeanet.inference.tiling import check_side
from aeanet.io.images import Micrograph, read_image, write_image
from aeanet.io.mosaics import create_mosaic, open_mosaic, shape_by_regions
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model

_MIDDLE = 1024  # px
_NARROW = 0.1  # of the file's range: images of the training use more of theirs


@dataclass(frozen=True)
class Restored:
    """An image that was restored from file to file.

    Attributes:
        image: the file of the LR micrograph.
        target: the file of the result.
        source: the LR micrograph; None for an image that was read by regions.
        result: (H, W) in [0, 1]; None for an image that was read by regions.
        chosen: which of several images in the file it is, if the user said so.
        exposure: what the model was shown of the image.
        magnification: of the result.
        unit: the range from black to white in the values of the file.
    """

    image: Path
    target: Path
    source: Micrograph | None = None
    result: NDArray | None = None
    chosen: str | None = None
    exposure: Exposure = field(default_factory=Exposure)
    magnification: float = 1.0
    unit: float = 1.0

    def pixels(self) -> tuple[NDArray, NDArray]:
        """The image and its result, (H, W) each, in [0, 1].

        Of an image that was read by regions it is the middle, at most 1024 px a side, read anew.

        Raises:
            ImageError: if that fails.
        """
        image, result, _, _ = self._parts()
        return image, result

    def judged(self) -> tuple[NDArray, NDArray, float]:
        """`pixels` as they are to be judged: outliers are replaced by the median around them in
        both, and the range is the one that the model was shown if the image uses little of its own.

        Returns:
            The image and its result, in [0, 1], and the width of their range in shares of the
            file's.

        Raises:
            ImageError: as `pixels`.
        """
        exposure = self.exposure
        image, result, small, large = self._parts()
        image = exposure.put(exposure.usual, image, small, 1.0)
        result = exposure.put(exposure.usual, result, large, self.magnification)
        if exposure.used >= _NARROW:
            return image, result, 1.0
        width = exposure.high - exposure.low
        return exposure.scale(image).clip(0, 1), exposure.scale(result).clip(0, 1), width

    def _parts(self) -> tuple[NDArray, NDArray, Region, Region]:
        """The image and its result, or their middles, and where these lie."""
        if self.source is not None and self.result is not None:
            image, result = self.source.pixels, self.result
            return image, result, whole(image.shape), whole(result.shape)
        with (
            open_mosaic(self.image, self.chosen) as source,
            open_mosaic(self.target) as target,
        ):
            small, large = middle(source.shape, target.shape, _MIDDLE)
            return source.read(*small), target.read(*large), small, large


def restore_file(
    model: Network | str,
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
        model: any network, on any device, or the name of a shipped model, such as "sem".
        image: the LR micrograph.
        target: the result, in the type and range of `image`, with the pixel size divided by the
            magnification. It appears when it is complete.
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
        ImageError: for files that cannot be read or written.
        PredictionError: if the magnification is not known.
        TilingError: for a tile that is too small.
        MemoryError: if not even the smallest tile fits into the memory.
        ModelError: for an unknown name.
        AgreedError: in all processes of a group, for an error of one that the user can mend.
    """
    model = load_model(model) if isinstance(model, str) else model
    image, target = Path(image), Path(target)
    magnification = known_magnification(model, magnification)
    group = options.get("group")

    with agreeing(group):
        shape: Sequence[int] | None = shape_by_regions(image, chosen)
        source = None
        if shape is None:
            source = read_image(image, keep_bar=keep_bar, image=chosen)
            shape = source.pixels.shape

    if options.get("tile") is None:
        enlarged = upsampled_shape(shape, magnification)
        precision = options.get("precision", "float32")
        options["tile"] = largest_tile(model, enlarged, precision, group)
    if source is None:
        return super_resolve_mosaic(
            model,
            image,
            target,
            magnification=magnification,
            chosen=chosen,
            outliers=outliers,
            **options,
        )

    exposure = exposure_for(model, reader(source.pixels), shape)
    result = super_resolve_exposed(
        model, source.pixels, exposure, magnification, outliers, **options
    )
    with agreeing(group):
        if group is None or group.rank() == 0:
            write_image(target, result, like=source, magnification=magnification)
    unit = source.high - source.low
    return Restored(image, target, source, result, chosen, exposure, magnification, unit)


def super_resolve_mosaic(
    model: Network,
    image: Path,
    target: Path,
    *,
    magnification: float | None = None,
    chosen: str | None = None,
    outliers: Outliers = "keep",
    **options: Unpack[RunOptions],
) -> Restored:
    """Restore a TIFF or OME-Zarr image by regions, as `restore_file` does if the image is large.

    The name of `target` decides which of the two it is. Without a tile the image is taken at once.
    Otherwise arguments and errors are those of `restore_file`.
    """
    magnification = known_magnification(model, magnification)
    group = options.get("group")
    with ExitStack() as stack:
        with agreeing(group):
            source = stack.enter_context(open_mosaic(image, chosen))
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

        small = partial(exposure.scaled_region, source.read)

        def read(rows: slice, columns: slice) -> NDArray:
            return upsample_region(small, source.shape, magnification, rows, columns)

        write = stack.enter_context(
            create_mosaic(target, shape, like=source, pixel_size=pixel_size, tile=tile, group=group)
        )
        run_exposed(model, read, write, shape, exposure, magnification, outliers, **options)
    unit = source.high - source.low
    return Restored(image, target, None, None, chosen, exposure, magnification, unit)
