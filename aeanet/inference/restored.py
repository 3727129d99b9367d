"""What a restoration from file to file read and made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from numpy.typing import NDArray

from aeanet.imaging.exposure import Exposure
from aeanet.imaging.flips import Region
from aeanet.imaging.precision import Precision
from aeanet.imaging.upsampling import middle
from aeanet.io.images import Micrograph, write_image
from aeanet.io.mosaics import open_mosaic
from aeanet.io.pixel_size import PixelSize

_MIDDLE = 1024  # px
_NARROW = 0.1  # of the file's range: images of the training use more of theirs


class Regions(NamedTuple):
    """An image of which any rows and columns can be read.

    Attributes:
        shape: (H, W).
        read: gives rows and columns.
    """

    shape: tuple[int, int]
    read: Callable[[slice, slice], NDArray]

    @classmethod
    def of(cls, image: NDArray) -> "Regions":
        """An image (H, W) in memory."""
        return cls((image.shape[0], image.shape[1]), lambda rows, columns: image[rows, columns])


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
        precision: in which the network computed.
        error: the standard error of each pixel, (H, W) in the units of `result`, NaN where it is
            not known; None if it was not asked for.
        description: of the result, which stands in its file if that is a TIFF or PNG.
        keep_bar: whether the information bar of an image that was read by regions is part of it.
    """

    image: Path
    target: Path
    source: Micrograph | None = None
    result: NDArray | None = None
    chosen: str | None = None
    exposure: Exposure = field(default_factory=Exposure)
    magnification: float = 1.0
    unit: float = 1.0
    precision: Precision = "float32"
    description: str = ""
    error: NDArray | None = None
    keep_bar: bool = False

    @property
    def pixel_size(self) -> PixelSize | None:
        """Of the result, if the image is in memory and states one."""
        size = None if self.source is None else self.source.pixel_size
        return size and size.magnified(self.magnification)

    def write(self) -> None:
        """Write the result, in the type and range of the image. One that was written by regions is
        there already.

        Raises:
            ImageError: if that fails.
        """
        if self.source is not None and self.result is not None:
            write_image(
                self.target,
                self.result,
                like=self.source,
                magnification=self.magnification,
                description=self.description,
            )

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

    @contextmanager
    def regions(self) -> Iterator[tuple[Regions, Regions]]:
        """Within it, any rows and columns of the image and of its result can be read, in [0, 1].

        Raises:
            ImageError: if that fails.
        """
        if self.source is not None and self.result is not None:
            yield Regions.of(self.source.pixels), Regions.of(self.result)
            return
        with (
            open_mosaic(self.image, self.chosen, keep_bar=self.keep_bar) as source,
            open_mosaic(self.target) as target,
        ):
            yield Regions(source.shape, source.read), Regions(target.shape, target.read)

    def _parts(self) -> tuple[NDArray, NDArray, Region, Region]:
        """The image and its result, or their middles, and where these lie."""
        with self.regions() as (source, target):
            side = _MIDDLE if self.source is None else max(source.shape)
            small, large = middle(source.shape, target.shape, side)
            return source.read(*small), target.read(*large), small, large
