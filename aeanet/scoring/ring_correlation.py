"""Fourier ring correlation: down to which period two images of one field show the same.

M. van Heel, Ultramicroscopy 21 (1987) 95; R. P. J. Nieuwenhuizen et al., Nature Methods 10 (2013)
557, who take the correlation of 1/7 for the limit of what is resolved.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import tukey
from skimage.registration import phase_cross_correlation

THRESHOLD = 1 / 7
SMALLEST = 64  # px: the smallest side of an image whose rings hold enough values
_TAPER = 1 / 4  # share of a side over which an image fades to its mean
_SMOOTHED = 5  # rings whose sums are taken together


@dataclass(frozen=True)
class RingCorrelation:
    """The correlation of two images over rings of equal spatial frequency.

    Attributes:
        frequencies: of the middle of each ring, (n,), cycles per px.
        values: the correlation over each ring, (n,), 1 where both images show the same.
        resolution: the period in px at which the correlation, averaged over five rings, first falls
            below 1/7; 2 px, the finest period that pixels show, where it never does; NaN where even
            the coarsest rings do not correlate.
    """

    frequencies: NDArray[np.float64]
    values: NDArray[np.float64]
    resolution: float


def correlate_rings(first: NDArray, second: NDArray) -> RingCorrelation:
    """The Fourier ring correlation of two images (H, W) of one field with independent noise.

    They may be displaced against each other: the shift is measured and undone.

    Raises:
        ValueError: the images differ in shape, or are smaller than 64 px.
    """
    if first.shape != second.shape:
        raise ValueError(f"the images are {first.shape} and {second.shape}, wanted one shape.")
    one, other = _faded(first), _faded(second)
    shift, _, _ = phase_cross_correlation(one, other, upsample_factor=100, normalization=None)
    return _over_rings(one, other, np.asarray(shift), rows_apart=1)


def correlate_lines(image: NDArray) -> RingCorrelation:
    """The Fourier ring correlation of the even and the odd lines of one image (H, W).

    Noise of a scan is correlated along its lines and not across them, so that these two halves have
    independent noise. The correlation c of the halves, each of half the dose, is turned into that
    of two whole images, 2 c / (1 + c). Where the noise is smooth across lines too, the resolution
    seems better than it is.

    Raises:
        ValueError: the image is smaller than 128 px in height or 64 px in width.
    """
    height = len(image) // 2
    even, odd = image[0 : 2 * height : 2], image[1 : 2 * height : 2]
    return _over_rings(_faded(even), _faded(odd), np.array([0.5, 0.0]), rows_apart=2)


def _faded(image: NDArray) -> NDArray[np.float64]:
    """The image without its mean, faded at its border: a Fourier transform takes opposite borders
    for neighbours.
    """
    if image.ndim != 2 or min(image.shape) < SMALLEST:
        size = " x ".join(map(str, image.shape))
        raise ValueError(f"the image is {size} px, wanted at least {SMALLEST} px a side.")
    rows, columns = (tukey(side, 2 * _TAPER) for side in image.shape)
    values = np.asarray(image, np.float64)
    faded: NDArray[np.float64] = (values - values.mean()) * rows[:, None] * columns
    return faded


def _over_rings(
    first: NDArray, second: NDArray, shift: NDArray, rows_apart: int
) -> RingCorrelation:
    """The correlation of two images without their means.

    Args:
        first, second: (H, W).
        shift: px of these, rows and columns: what the first has at x the second has at x - shift.
        rows_apart: distance of their rows in px of the recorded image.
    """
    # the shift is undone by a phase, which interpolates nothing
    height, width = first.shape
    down, along = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    back = np.exp(-2j * math.pi * (down * shift[0] + along * shift[1]))
    one, other = np.fft.fft2(first), np.fft.fft2(second) * back

    # Rings as wide as the coarser step of the frequencies. The innermost holds the mean.
    step = max(1 / (height * rows_apart), 1 / width)
    radius = np.hypot(down / rows_apart, along) / step
    ring = np.floor(radius + 1e-9).astype(int).ravel()
    count = math.floor(0.5 / step)
    crossed, power, other_power = (
        np.bincount(ring, values.ravel(), count)[1:count]
        for values in ((one * other.conj()).real, np.abs(one) ** 2, np.abs(other) ** 2)
    )
    frequencies = step * (np.arange(1, count) + 0.5)

    # Single rings scatter; where the mean over some falls below the limit is more certain.
    smoothed = [_smoothed(values) for values in (crossed, power, other_power)]
    values, smooth = (
        _of_whole_images(_ratio(*sums), rows_apart)
        for sums in ((crossed, power, other_power), smoothed)
    )
    return RingCorrelation(frequencies, values, _first_below(frequencies, smooth))


def _ratio(crossed: NDArray, power: NDArray, other_power: NDArray) -> NDArray[np.float64]:
    product = np.sqrt(power * other_power)
    return np.divide(crossed, product, out=np.zeros_like(product), where=product > 0)


def _of_whole_images(values: NDArray, parts: int) -> NDArray[np.float64]:
    """The correlation that images have of which these are the correlations of one part of several:
    signal over noise is so many times as large.
    """
    return parts * values / (1 + (parts - 1) * values)


def _smoothed(values: NDArray) -> NDArray:
    """Sums over neighbouring rings, fewer at the ends."""
    return np.convolve(values, np.ones(_SMOOTHED), "same")


def _first_below(frequencies: NDArray, values: NDArray) -> float:
    below = np.flatnonzero(values < THRESHOLD)
    if not below.size:
        return 2.0
    last = int(below[0])
    if last == 0:
        return math.nan
    # Between two rings the correlation is taken for a straight line.
    above, beneath = values[last - 1], values[last]
    part = (above - THRESHOLD) / (above - beneath)
    frequency = frequencies[last - 1] + part * (frequencies[last] - frequencies[last - 1])
    return float(1 / frequency)
