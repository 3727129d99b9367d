"""One brightness for all planes of a stack, so that a restored stack does not flicker.

All planes are looked at once: their least and greatest values, and of planes spread over the stack
a sample of the pixels without outliers. Channels have a brightness each. Planes that cannot be read
are found in passing.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.distributed import ProcessGroup

from aeanet.distributed import gathered
from aeanet.imaging.exposure import Exposure
from aeanet.inference.exposure import find_outliers, fit_range
from aeanet.inference.prediction import reader
from aeanet.io.images.micrograph import (
    WIDER,
    ImageError,
    Micrograph,
    fraction,
    to_pixels,
    value_range,
)
from aeanet.io.images.reading import grey_of
from aeanet.io.stacks import Stack

_THREADS = 2  # each of which holds a plane
_SAMPLED = 16  # planes of a channel, at most, of which pixels are sampled


@dataclass(frozen=True)
class Brightness:
    """Black and white of a channel.

    Attributes:
        low, high: the values of the file that are 0 and 1 as pixels.
        shown: `low`, `high` and `used` of `Exposure`, in pixels; None for a network that is shown
            all.
    """

    low: float
    high: float
    shown: tuple[float, float, float] | None = None

    def exposure(self, pixels: NDArray) -> Exposure:
        """What a network is shown of a plane: its own outliers, the range of the stack."""
        if self.shown is None:
            return Exposure()
        found, _ = find_outliers(reader(pixels), pixels.shape)
        low, high, used = self.shown
        return replace(found, low=low, high=high, used=used)


@dataclass(frozen=True)
class Survey:
    """What is found in all planes of a stack.

    Attributes:
        channels: the brightness of each channel.
        damaged: what is wrong with planes that cannot be used, by their number.
    """

    channels: Sequence[Brightness]
    damaged: dict[int, str]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        damaged = {str(number): sentence for number, sentence in self.damaged.items()}
        return {"channels": [asdict(one) for one in self.channels], "damaged": damaged}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> "Survey":
        channels = [
            Brightness(one["low"], one["high"], one["shown"] and tuple(one["shown"]))
            for one in record["channels"]
        ]
        damaged = {int(number): sentence for number, sentence in record["damaged"].items()}
        return cls(channels, damaged)


def result_type(stack: Stack) -> np.dtype:
    """The type of the values of a result."""
    dtype = np.dtype(WIDER.get(stack.dtype.name, stack.dtype))
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def micrograph_of(stack: Stack, number: int, brightness: Brightness | None = None) -> Micrograph:
    """A plane as an image, with the brightness of its channel, else with its own.

    Raises:
        ImageError: if it cannot be read, or has values that are not finite.
    """
    # with one value that is not finite, no black and white could be found, nor a result
    raw = stack.plane(number)
    dtype = result_type(stack)
    if raw.dtype.kind not in "buif" or not np.isfinite(raw).all():
        raise ImageError(
            f"{stack.name_of(number)} holds NaN, infinite or complex values; all pixels must be "
            "finite."
        )

    # black and white are those that the planes share, or follow from this one alone
    grey = grey_of(raw)
    if brightness is None:
        least, most = float(grey.min()), float(grey.max())
        low, high = value_range(np.dtype(raw.dtype), least, most, stack.contents.bits)
    else:
        low, high = brightness.low, brightness.high
    return Micrograph(
        to_pixels(grey, low, high), dtype, low, high, stack.pixel_size, colour=raw.ndim == 3
    )


def channel_of(stack: Stack, number: int) -> int:
    """The channel of a plane; 0 where a stack has none."""
    return stack.contents.place(number).get("C", 0)


@dataclass(frozen=True)
class _Looked:
    """The extremes of a plane, and a sample of its values without outliers; or what is wrong."""

    least: float = 0.0
    most: float = 0.0
    sample: NDArray | None = None
    wrong: str = ""


def survey(stack: Stack, *, fits_range: bool, group: ProcessGroup | None = None) -> Survey:
    """Look at all planes of a stack; processes share them out.

    Args:
        stack: the planes.
        fits_range: also find the range that they use (`Network.fits_range`).
        group: the processes; each gets the whole survey.
    """
    # each process looks at its groups; all learn of all planes, in their order
    first, size = (0, 1) if group is None else (group.rank(), group.size())
    with ThreadPoolExecutor(_THREADS) as pool:
        groups = _in_groups(stack)[first::size]
        parts = pool.map(partial(_look_at, stack, fits_range=fits_range), groups)
        mine = list(chain.from_iterable(parts))
    looked = sorted(chain.from_iterable(gathered(mine, group)), key=itemgetter(0))

    # a channel of which no plane can be read has a range too, of no meaning
    damaged = {number: one.wrong for number, one in looked if one.wrong}
    channels = []
    for channel in range(stack.contents.sizes.get("C", 1)):
        planes = [
            one for number, one in looked if not one.wrong and channel_of(stack, number) == channel
        ]
        channels.append(_brightness(stack, planes) if planes else Brightness(0.0, 1.0))
    return Survey(channels, damaged)


def _in_groups(stack: Stack) -> list[list[int]]:
    """Planes that follow each other in a channel, in at most `_SAMPLED` groups a channel."""
    groups = []
    for channel in range(stack.contents.sizes.get("C", 1)):
        planes = [n for n in range(stack.planes) if channel_of(stack, n) == channel]
        size = math.ceil(len(planes) / _SAMPLED)
        groups += [planes[start : start + size] for start in range(0, len(planes), size)]
    return groups


def _look_at(stack: Stack, planes: Sequence[int], *, fits_range: bool) -> list[tuple[int, _Looked]]:
    """Look at the planes of a group; the first that can be read gives the sample."""
    # what is wrong with a plane is noted, and the others are looked at all the same
    looked = []
    sampled = not fits_range
    for number in planes:
        try:
            image = micrograph_of(stack, number)
        except ImageError as error:
            looked.append((number, _Looked(wrong=str(error))))
            continue

        # back to values of the file: before the survey each plane has black and white of its own
        extremes = np.array([image.pixels.min(), image.pixels.max()])
        least, most = (float(value) for value in image.to_raw(extremes))
        sample = None if sampled else _sample(image, stack, number)
        looked.append((number, _Looked(least, most, sample)))
        sampled = True
    return looked


def _sample(image: Micrograph, stack: Stack, number: int) -> NDArray:
    """Values of a plane without outliers. Of many planes a few pixels each are enough; those drawn
    differ from plane to plane.
    """
    _, sample = find_outliers(reader(image.pixels), image.pixels.shape)
    planes = stack.planes // stack.contents.sizes.get("C", 1)
    count = math.ceil(sample.size / min(planes, _SAMPLED))
    drawn = np.random.default_rng(number).permutation(sample.size)[:count]
    return image.to_raw(sample.ravel()[drawn])


def _brightness(stack: Stack, planes: Sequence[_Looked]) -> Brightness:
    """Of the planes of a channel."""
    dtype = np.dtype(WIDER.get(stack.dtype.name, stack.dtype))
    least, most = min(one.least for one in planes), max(one.most for one in planes)
    low, high = value_range(dtype, least, most, stack.contents.bits)
    samples = [one.sample for one in planes if one.sample is not None]
    if not samples:
        return Brightness(low, high)
    pooled = fraction(np.concatenate(samples), low, high).astype(np.float32)
    found = fit_range(pooled, Exposure())
    return Brightness(low, high, (found.low, found.high, found.used))
