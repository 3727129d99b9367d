"""Numbers that describe an image without regard to what it shows: its grey levels, noise, spectrum
and local contrast.

They are compared with those of the training images (`reference.Reference`). They hardly depend on
the size of the image, on shifts or on mirroring.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.arithmetic import in_blocks, pairs_apart
from aeanet.trust.noise import Noise, estimate_noise

SMALLEST = 64  # px: a smaller side is too short for the spectrum
_LAGS = (1, 2, 4, 8)  # px
_BLOCK = 8  # px
_FLOOR = 1e-4  # below it a share of pixels or blocks counts as none

_WINDOW = 32  # px: side of the windows of the spectrum
_EDGES = (0.04, 0.08, 0.14, 0.2, 0.27, 0.34, 0.42, 0.5)  # of the bands, cycles per px
_BANDS = list(pairwise(_EDGES))
_Y, _X = np.meshgrid(*(np.fft.fftfreq(_WINDOW),) * 2, indexing="ij")  # across and along lines
_RADIUS = np.hypot(_X, _Y)
_RINGS = [(low <= _RADIUS) & (high > _RADIUS) for low, high in _BANDS]
_CORNER = (np.abs(_X) > 0.4) & (np.abs(_Y) > 0.4)


@dataclass(frozen=True)
class Statistics:
    """What is compared, by name, and the noise it began with."""

    values: dict[str, float]
    noise: Noise

    def vector(self) -> NDArray[np.float64]:
        return np.array(list(self.values.values()))


def describe(image: NDArray) -> Statistics:
    """Statistics of an image.

    Args:
        image: (H, W) in [0, 1], finite, both sides at least `SMALLEST` px.

    Raises:
        ValueError: for any other image.
    """
    # what the estimates below rely on
    image = np.ascontiguousarray(image, np.float32)
    if image.ndim != 2 or min(image.shape) < SMALLEST or not np.isfinite(image).all():
        raise ValueError(
            f"a finite image (H, W) of at least {SMALLEST} px a side is wanted, got {image.shape}."
        )

    # the order of the names is that of the numbers in a reference
    noise = estimate_noise(image)
    values = (
        _grey_levels(image)
        | _noise(image, noise)
        | _spectrum(image)
        | _differences(image)
        | _blocks(image)
    )
    return Statistics({name: float(value) for name, value in values.items()}, noise)


def _log(value: float, floor: float) -> float:
    return float(np.log10(max(float(value), 0.0) + floor))


def _moments(values: NDArray) -> tuple[float, float]:
    """Skewness and logarithm of the kurtosis, both of a constant those of a normal distribution."""
    centred = values - values.mean(dtype=np.float64)
    squares = centred * centred  # numpy's powers of 3 and 4 are a hundred times slower
    variance = float(squares.mean())
    if variance < 1e-10:
        return 0.0, float(np.log(3))
    third = float(np.vdot(squares, centred)) / squares.size
    fourth = float(np.vdot(squares, squares)) / squares.size
    return third / variance**1.5, float(np.log(fourth / variance**2))


def _grey_levels(image: NDArray) -> dict[str, float]:
    """Brightness and contrast, and whether the histogram is clipped, has gaps or is rough."""
    # blurred, so that the moments are those of the specimen rather than of the noise
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5)
    skewness, kurtosis = _moments(smooth)

    # Gaps are looked for between the 2nd and 98th percentile, where most pixels are.
    histogram = np.histogram(image, 256, (0, 1))[0] / image.size
    low, high = (int(np.searchsorted(np.cumsum(histogram), share)) for share in (0.02, 0.98))
    between = histogram[low : high + 1]
    bends = np.abs(np.diff(between, 2)).sum()
    return {
        "brightness": image.mean(),
        "contrast": _log(smooth.std(), 1e-3),
        "skewness of the grey levels": np.clip(skewness, -4, 4),
        "kurtosis of the grey levels": kurtosis,
        "share of black pixels": _log((image <= 0).mean(), _FLOOR),
        "share of white pixels": _log((image >= 1).mean(), _FLOOR),
        "missing grey levels": _log((between == 0).mean(), 0.01),
        "the commonest grey level": _log(between.max() * len(between), 0.01),
        "roughness of the histogram": _log(bends / max(between.sum(), 1e-9), 0.01),
    }


def _noise(image: NDArray, noise: Noise) -> dict[str, float]:
    """The noise, and pixels that differ more from their neighbours than noise does."""
    off = np.abs(image - cv2.medianBlur(image, 3))
    usual = np.quantile(off[::2, ::2], 0.7) + 1 / 255
    growth = noise.slope * image.mean() / (noise.sd**2 + 1e-6)
    return {
        "noise": _log(noise.sd, 1e-3),
        "growth of the noise with brightness": np.clip(growth, -2, 2),
        "correlation of the noise along the line": noise.along,
        "correlation of the noise across lines": noise.across,
        "outlying pixels": _log((off > 5 * usual).mean(), _FLOOR),
        "distance of outlying pixels": _log(np.quantile(off, 0.999) / usual, 0.1),
    }


def mean_power(image: NDArray, side: int) -> tuple[NDArray[np.float64], int]:
    """The mean power spectrum of the windows of an image, which overlap by half.

    Returns:
        The spectrum (side, side) in the order of `numpy.fft.fft2`, and the number of windows.
    """
    # a row of windows at a time; of real values half of the spectrum tells all
    step = side // 2
    views = np.lib.stride_tricks.sliding_window_view(image, (side, side))[::step, ::step]
    hann = np.hanning(side + 1)[:-1].astype(np.float32)
    weight = np.outer(hann, hann)
    half = np.zeros((side, side // 2 + 1))
    for row in views:
        windows = row - row.mean((1, 2), keepdims=True)
        spectra = np.fft.rfft2(windows * weight)
        half += (spectra.real**2 + spectra.imag**2).sum(0)

    # The other half mirrors it at the origin.
    mirrored = np.roll(half[::-1, -2:0:-1], 1, axis=0)
    number = views.shape[0] * views.shape[1]
    total = np.concatenate([half, mirrored], axis=1)
    return total / (number * float((weight**2).sum())), number


def _spectrum(image: NDArray) -> dict[str, float]:
    """How the power spectrum falls, whether it depends on the direction, and its peaks."""
    # the finest frequencies, in the corners, stand for the noise
    power = mean_power(image, _WINDOW)[0] + 1e-8
    levels = [np.log10(power[ring].mean()) for ring in _RINGS]
    corner = power[_CORNER].mean()
    bands: dict[str, float] = {}
    for index in range(len(_BANDS) - 1):
        bands |= _band(power, levels, index)

    # logarithms of ratios, which hardly depend on the contrast
    return {
        **bands,
        **_finest_patterns(power, corner),
        "fall of the whole spectrum": levels[0] - np.log10(corner),
        **_structure_beyond_noise(levels, corner),
        "corner of the spectrum": np.log10(corner) - levels[-1],
        "peaks of the spectrum": _highest_peak(power),
    }


def _band(power: NDArray, levels: list[float], index: int) -> dict[str, float]:
    """One band: the fall to the next one, and the ratios of directions, as logarithms."""
    # 0 for white noise, as are the ratios of directions
    low, high = _BANDS[index]
    ring = _RINGS[index]
    fall = levels[index] - levels[index + 1]
    values = {f"fall of the spectrum at {low:.2f} to {high:.2f} cycles per px": fall}

    # frequencies within 27 degrees of either axis
    along = power[ring & (np.abs(_X) > 2 * np.abs(_Y))]
    across = power[ring & (np.abs(_Y) > 2 * np.abs(_X))]
    if along.size:
        ratio = along.mean() / across.mean()
        values[f"spectrum along against across lines at {low:.2f}"] = np.log10(ratio)

    if low >= 0.08:
        # Frequencies with a small x are left out: they belong to whole lines.
        oblique = ring & (np.abs(_X) > 0.03)
        rising = power[oblique & (_X * _Y > 0.25 * _RADIUS**2)]
        falling = power[oblique & (-_X * _Y > 0.25 * _RADIUS**2)]
        ratio = rising.mean() / falling.mean()
        values[f"spectrum along the two diagonals at {low:.2f}"] = np.log10(ratio)
    return values


def _finest_patterns(power: NDArray, corner: float) -> dict[str, float]:
    """Patterns that repeat every 2 or 3 px: against the frequencies beside theirs, as
    logarithms.
    """
    half, third = _WINDOW // 2, _WINDOW // 3
    values = {"finest checker pattern": np.log10(power[half, half] / corner)}
    for name, rows in (("columns", power.T), ("lines", power)):
        values[f"finest {name}"] = np.log10(rows[half, 0] / rows[half - 4, 0])
        values[f"pairs of {name}"] = np.log10(rows[half].mean() / rows[half - 3].mean())
        beside = rows[[third - 2, third + 3]].mean()
        values[f"triples of {name}"] = np.log10(rows[third : third + 2].mean() / beside)
    return values


def _structure_beyond_noise(levels: list[float], corner: float) -> dict[str, float]:
    """The power of bands without that of noise, which is taken to be that of the corner; against
    the first band, as logarithms.
    """
    structure = [max(10**level - corner, 0.02 * corner) for level in levels[:5]]
    return {
        f"structure at {low:.2f} to {high:.2f} cycles per px": np.log10(power / structure[0])
        for (low, high), power in zip(_BANDS[1:5], structure[1:], strict=True)
    }


def _highest_peak(power: NDArray) -> float:
    """Logarithm of the highest peak over the means around it: along both axes, and in a square."""
    shifted = np.fft.fftshift(power)
    expected = np.maximum.reduce([cv2.blur(shifted, size) for size in ((5, 1), (1, 5), (5, 5))])
    outer = np.fft.fftshift((_RADIUS > 0.15) & (_RADIUS <= 0.5))
    return float(np.log10(np.max((shifted / expected)[outer])))


def _differences(image: NDArray) -> dict[str, float]:
    """Differences of pixels at several distances, along and across lines: how fast they grow, and
    how heavy their tails are.
    """
    # the structure function at doubled distances: its growth, and the tails of what it is made of
    values = {}
    for name, axis in (("along", 1), ("across", 0)):
        sizes = []
        for lag in _LAGS:
            near, far = pairs_apart(image, lag, axis)
            difference = far - near
            sizes.append(np.log10(np.mean(difference * difference) + 1e-7))
            values[f"tails of differences {name} lines over {lag} px"] = _moments(difference)[1]
        for lag, (smaller, larger) in zip(_LAGS, pairwise(sizes), strict=False):
            values[f"growth of differences {name} lines from {lag} px"] = larger - smaller

    # Offsets of whole lines and columns, against those of single pixels.
    for name, means in (("lines", image.mean(1)), ("columns", image.mean(0))):
        steps = np.abs(means[1:-1] - 0.5 * (means[:-2] + means[2:]))
        usual = np.median(steps) + 1e-4
        pixels = 10 ** (sizes[0] / 2) / np.sqrt(image.shape[1])
        values[f"whole {name} that stand out"] = np.log10(np.quantile(steps, 0.98) / usual + 0.1)
        values[f"steps between {name}"] = np.log10(usual / pixels)
    return values


def _blocks(image: NDArray) -> dict[str, float]:
    """Blocks of 8 x 8: those without any contrast, the spread of their contrast, and steps at the
    blocks of JPEG.
    """
    # (rows, 8, columns, 8): the contrast within each block, on a scale of its logarithm
    blocks = in_blocks(image, _BLOCK)
    spread = blocks.std((1, 3), dtype=np.float64)
    logs = np.log10(spread + 1e-3)
    values = {
        "blocks without contrast": _log((spread < 1e-3).mean(), 0.01),
        "spread of the local contrast": logs.std(),
        "skewness of the local contrast": np.clip(_moments(logs)[0], -4, 4),
        "least local contrast": np.quantile(logs, 0.05),
    }

    # How the contrast grows with the size of the areas that are compared.
    means = blocks.mean((1, 3))
    variances = [float(np.median(spread**2)), float(np.var(means))]
    for scale in (1 / 2, 1 / 4):
        larger = cv2.resize(means, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        variances.append(float(np.var(larger)))
    sizes = [np.log10(variance + 1e-6) for variance in variances]
    for scale, (near, far) in zip((8, 16, 32), pairwise(sizes), strict=True):
        values[f"contrast of areas of {scale} px"] = far - near

    # blocks of JPEG have their borders at one phase of eight, where steps are larger
    columns = np.abs(np.diff(image, axis=1)).mean(0)
    lines = np.abs(np.diff(image, axis=0)).mean(1)
    for name, steps in (("columns", columns), ("lines", lines)):
        phases = steps[: len(steps) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(0) + 1e-5
        values[f"steps every 8 {name}"] = np.log10(phases.max() / np.median(phases))
    return values
