"""The range that an image uses, and its outliers, found from the image alone.

Outliers are hot and dead pixels and hits of cosmic rays: farther from the median around them than
noise reaches, and at most two together, so that corners and ends of lines are none.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.exposure import Exposure, within
from aeanet.imaging.upsampling import middle
from aeanet.inference.tiling import Read
from aeanet.trust.noise import Noise, estimate_noise

TAIL = 0.001  # share of the pixels outside the range used, at either end
# What black and white lie beyond it, in shares of it: so the image has the place in the range of
# the network that images of its training have, dark with room above.
BELOW, ABOVE = 0.05, 1.3
NARROWEST = 1e-5  # of the value of an image that has only one
_SAMPLE = 2**20  # pixels from which quantiles are taken, about
_BAND = 2**22  # pixels that are looked at together
_MIDDLE = 1024  # px: the largest side of the part from which the noise is estimated

_REACH = 2  # px: from a pixel to the border of the square whose median it is compared with
_TOGETHER = 2  # pixels that differ alike in that square; more are structure
FIRST_TAIL = 0.01  # as `TAIL`, while the outliers are not known
_OUTSIDE = 0.4  # of that range: how far outside it an outlier lies at least
_DEVIATIONS = 8.0  # standard deviations of the noise between it and the median, at least
_MOST = 0.01  # share of the pixels; where more seem to be outliers, they are the image


def find_exposure(read: Read, shape: Sequence[int]) -> Exposure:
    """The range that an image uses, and its outliers. The image is read twice, in bands.

    The range used is that between the quantiles of 0.1 % and 99.9 %; pixels with the least and the
    greatest value do not count, so that clipped black and white, or a bar that was drawn in, do not
    decide. Black and white lie beyond it by fixed shares of it, except where the image is clipped.

    Args:
        read: gives any region of the image, floating point.
        shape: (H, W).

    Returns:
        The exposure. An image of one value has a range so narrow that its result has that value.
    """
    found, sample = find_outliers(read, shape)
    return fit_range(sample, found)


def find_outliers(read: Read, shape: Sequence[int]) -> tuple[Exposure, NDArray[np.float32]]:
    """The outliers of an image, and a sample of its pixels in which their medians stand for them.

    Arguments are those of `find_exposure`. The range of the exposure is not yet the one to show.
    """
    sample, step = _sample(read, shape)

    # a longer tail while the outliers are not known, a shorter one where that leaves no range
    low, high = _quantiles(sample, FIRST_TAIL)
    if not low < high:
        low, high = _quantiles(sample, TAIL)
    if not low < high:
        return Exposure(), sample
    found = _find_outliers(read, shape, Exposure(low, high, high - low))

    in_sample = (found.rows % step == 0) & (found.columns % step == 0)
    at = found.rows[in_sample] // step, found.columns[in_sample] // step
    sample[at] = found.usual[in_sample]
    return found, sample


def fit_range(sample: NDArray, found: Exposure) -> Exposure:
    """`found` with the range that a sample of pixels without outliers uses."""
    value = float(sample.flat[0])
    if (sample == value).all():
        return Exposure(value, value + NARROWEST * (abs(value) or 1.0), used=0.0)
    dark, bright = _quantiles(sample, TAIL)
    used = bright - dark

    # nothing lies beyond a value at which the image is clipped
    low = max(dark - BELOW * used, _clipped_at(sample))
    high = min(bright + ABOVE * used, -_clipped_at(-sample))
    return replace(found, low=low, high=high, used=used) if low < high else found


def _clipped_at(sample: NDArray) -> float:
    """The least value if many pixels have it, and more than twice as many as the next value; else
    minus infinity.
    """
    least = sample.min()
    above = sample[sample > least]
    number = sample.size - above.size
    beside = np.count_nonzero(above == above.min()) if above.size else 0
    return float(least) if number > max(TAIL * sample.size, 2 * beside) else -math.inf


def _bands(shape: Sequence[int]) -> Iterator[slice]:
    height, width = shape
    step = max(1, _BAND // width)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _sample(read: Read, shape: Sequence[int]) -> tuple[NDArray[np.float32], int]:
    """Every n-th pixel of every n-th row, from the first on, and n."""
    height, width = shape
    step = max(1, int((height * width / _SAMPLE) ** 0.5))
    parts = []
    for rows in _bands(shape):
        values = read(rows, slice(0, width))
        # every n-th row of the image, also where the band begins between two of them
        parts.append(np.array(values[-rows.start % step :: step, ::step], np.float32))
    return np.concatenate(parts), step


def _quantiles(sample: NDArray, tail: float) -> tuple[float, float]:
    """The quantiles of `tail` and 1 - `tail` of the values between the extremes; of all values if
    most lie there.
    """
    between = sample[(sample > sample.min()) & (sample < sample.max())]
    values = between if 2 * between.size > sample.size else sample
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _find_outliers(read: Read, shape: Sequence[int], first: Exposure) -> Exposure:
    """`first`, a range without outliers, with the outliers of the image."""
    part, _ = middle(shape, shape, _MIDDLE)
    noise = estimate_noise(within(first.scale(read(*part))))
    parts = [_outliers_in(read, shape, rows, first, noise) for rows in _bands(shape)]
    rows, columns, values, usual = (np.concatenate(column) for column in zip(*parts, strict=True))
    if rows.size > _MOST * shape[0] * shape[1]:
        return first
    return replace(first, rows=rows, columns=columns, values=values, usual=usual)


def _outliers_in(
    read: Read, shape: Sequence[int], rows: slice, first: Exposure, noise: Noise
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Rows, columns, values and medians of the outliers in a band of rows."""
    # a border of rows around the band, so that its medians are those of the whole image
    height, width = shape
    top, bottom = max(rows.start - _REACH, 0), min(rows.stop + _REACH, height)
    raw = np.ascontiguousarray(read(slice(top, bottom), slice(0, width)), np.float32)
    usual = cv2.medianBlur(raw, 2 * _REACH + 1)

    # Far from the median, and outside the range, both in shares of it.
    scaled, median = first.scale(raw), first.scale(usual)
    difference = scaled - median
    sd = np.sqrt(noise.variance(median))
    if not np.isfinite(noise.sd):  # the image is too small for an estimate
        sd = np.full_like(median, 1.4826 * np.median(np.abs(difference)))
    far = (np.abs(difference) > _DEVIATIONS * sd) & (np.abs(scaled - 0.5) > 0.5 + _OUTSIDE)
    far[: rows.start - top] = False
    far[rows.stop - top :] = False
    y, x = np.nonzero(far)

    # How many pixels around differ at least half as much, to the same side; NaN is beyond the
    # border and does not.
    padded = np.pad(scaled, _REACH, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * _REACH + 1,) * 2)[y, x]
    size = difference[y, x][:, None, None]
    alike = (around - median[y, x][:, None, None]) * np.sign(size) > 0.5 * np.abs(size)
    alone = alike.sum((1, 2)) <= _TOGETHER
    y, x = y[alone], x[alone]
    return y + top, x, raw[y, x], usual[y, x]
