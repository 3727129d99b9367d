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

from aeanet.trust.noise import Noise, estimate_noise

SMALLEST = 64  # px: a smaller side is too short for the spectrum
_WINDOW = 32  # px: side of the windows of the spectrum
_RINGS = np.array(
    [0.04, 0.08, 0.14, 0.2, 0.27, 0.34, 0.42, 0.5]
)  # limits of the bands, cycles per px
_LAGS = (1, 2, 4, 8)  # px
_BLOCK = 8  # px
_FLOOR = 1e-4  # below it a share of pixels or blocks counts as none


@dataclass(frozen=True)
class Statistics:
    """What is compared, by name, and the noise it began with."""

    values: dict[str, float]
    noise: Noise

    def vector(self) -> NDArray[np.float64]:
        return np.array(list(self.values.values()))


def describe(image: NDArray) -> Statistics:
    """Statistics of an image (H, W) in [0, 1], finite, both sides at least `SMALLEST` px; else
    ValueError.
    """
    image = np.ascontiguousarray(image, np.float32)
    if image.ndim != 2 or min(image.shape) < SMALLEST or not np.isfinite(image).all():
        raise ValueError(
            f"a finite image (H, W) of at least {SMALLEST} px a side is wanted, got {image.shape}."
        )
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
    variance = float(squares.mean(dtype=np.float64))
    if variance < 1e-10:
        return 0.0, float(np.log(3))
    third, fourth = (
        float((squares * other).mean(dtype=np.float64)) for other in (centred, squares)
    )
    return third / variance**1.5, float(np.log(fourth / variance**2))


def _grey_levels(image: NDArray) -> dict[str, float]:
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5)
    skewness, kurtosis = _moments(smooth)
    histogram = np.histogram(image, 256, (0, 1))[0] / image.size
    low, high = (int(np.searchsorted(np.cumsum(histogram), share)) for share in (0.02, 0.98))
    between = histogram[low : high + 1]
    return {
        "brightness": image.mean(),
        "contrast": _log(smooth.std(), 1e-3),
        "skewness of the grey levels": np.clip(skewness, -4, 4),
        "kurtosis of the grey levels": kurtosis,
        "share of black pixels": _log((image <= 0).mean(), _FLOOR),
        "share of white pixels": _log((image >= 1).mean(), _FLOOR),
        "missing grey levels": _log((between == 0).mean(), 0.01),
        "the commonest grey level": _log(between.max() * len(between), 0.01),
        "roughness of the histogram": _log(
            np.abs(np.diff(between, 2)).sum() / max(between.sum(), 1e-9), 0.01
        ),
    }


def _noise(image: NDArray, noise: Noise) -> dict[str, float]:
    median = cv2.medianBlur(image, 3)
    off = np.abs(image - median)
    inside = np.quantile(off[::2, ::2], 0.7) + 1 / 255
    return {
        "noise": _log(noise.sd, 1e-3),
        "growth of the noise with brightness": np.clip(
            noise.slope * image.mean() / (noise.sd**2 + 1e-6), -2, 2
        ),
        "correlation of the noise along the line": noise.along,
        "correlation of the noise across lines": noise.across,
        "outlying pixels": _log((off > 5 * inside).mean(), _FLOOR),
        "distance of outlying pixels": _log(np.quantile(off, 0.999) / inside, 0.1),
    }


def mean_power(image: NDArray, side: int) -> tuple[NDArray[np.float64], int]:
    """Mean power spectrum (side, side) of windows of that side, each half beyond the one before;
    and their number.
    """
    views = np.lib.stride_tricks.sliding_window_view(image, (side, side))[
        :: side // 2, :: side // 2
    ]
    hann = np.hanning(side + 1)[:-1].astype(np.float32)
    weight = np.outer(hann, hann)
    total = np.zeros((side, side))
    for row in views:
        windows = row - row.mean((1, 2), keepdims=True)
        total += (np.abs(np.fft.fft2(windows * weight)) ** 2).sum(0)
    number = views.shape[0] * views.shape[1]
    return total / (number * float((weight**2).sum())), number


def _spectrum(image: NDArray) -> dict[str, float]:
    power = mean_power(image, _WINDOW)[0] + 1e-8
    y, x = np.meshgrid(*(np.fft.fftfreq(_WINDOW),) * 2, indexing="ij")
    radius = np.hypot(x, y)
    values = {}
    rings = list(pairwise(_RINGS))
    levels = [np.log10(power[(radius >= low) & (radius < high)].mean()) for low, high in rings]
    for (low, high), level, next_one in zip(rings[:-1], levels[:-1], levels[1:], strict=True):
        values[f"fall of the spectrum at {low:.2f} to {high:.2f} cycles per px"] = level - next_one
        ring = (radius >= low) & (radius < high)
        along, across = (power[ring & (np.abs(a) > 2 * np.abs(b))] for a, b in ((x, y), (y, x)))
        if along.size:
            values[f"spectrum along against across lines at {low:.2f}"] = np.log10(
                along.mean() / across.mean()
            )
        if low >= 0.08:
            rising, falling = (
                power[ring & (np.abs(x) > 0.03) & (sign * x * y > 0.25 * radius**2)]
                for sign in (1, -1)
            )
            values[f"spectrum along the two diagonals at {low:.2f}"] = np.log10(
                rising.mean() / falling.mean()
            )
    corner = power[(np.abs(x) > 0.4) & (np.abs(y) > 0.4)].mean()
    values["finest checker pattern"] = np.log10(power[_WINDOW // 2, _WINDOW // 2] / corner)
    half, third = _WINDOW // 2, _WINDOW // 3
    for name, rows in (
        ("columns", power.T),
        ("lines", power),
    ):  # of every second, and of every third
        values[f"finest {name}"] = np.log10(rows[half, 0] / rows[half - 4, 0])
        values[f"pairs of {name}"] = np.log10(rows[half].mean() / rows[half - 3].mean())
        values[f"triples of {name}"] = np.log10(
            rows[third : third + 2].mean() / rows[[third - 2, third + 3]].mean()
        )
    values["fall of the whole spectrum"] = levels[0] - np.log10(corner)
    structure = [max(10**level - corner, 0.02 * corner) for level in levels[:5]]
    for (low, high), power_here in zip(rings[1:5], structure[1:], strict=True):
        values[f"structure at {low:.2f} to {high:.2f} cycles per px"] = np.log10(
            power_here / structure[0]
        )
    values["corner of the spectrum"] = np.log10(corner) - levels[-1]
    outer = (radius > 0.15) & (radius <= 0.5)
    expected = np.maximum.reduce(
        [cv2.blur(np.fft.fftshift(power), size) for size in ((5, 1), (1, 5), (5, 5))]
    )
    values["peaks of the spectrum"] = np.log10(
        np.max((np.fft.fftshift(power) / expected)[np.fft.fftshift(outer)])
    )
    return values


def _differences(image: NDArray) -> dict[str, float]:
    """Of pixels at several distances, along and across lines: how fast they grow, and how heavy
    their tails are.
    """
    values = {}
    for name, turned in (("along", image), ("across", image.T)):
        sizes = []
        for lag in _LAGS:
            difference = turned[:, lag:] - turned[:, :-lag]
            sizes.append(np.log10(np.mean(difference * difference) + 1e-7))
            values[f"tails of differences {name} lines over {lag} px"] = _moments(difference)[1]
        for lag, (near, far) in zip(_LAGS, pairwise(sizes), strict=False):
            values[f"growth of differences {name} lines from {lag} px"] = far - near
    for name, means in (("lines", image.mean(1)), ("columns", image.mean(0))):
        steps = means[1:-1] - 0.5 * (means[:-2] + means[2:])
        usual = np.median(np.abs(steps)) + 1e-4
        values[f"whole {name} that stand out"] = np.log10(
            np.quantile(np.abs(steps), 0.98) / usual + 0.1
        )
        values[f"steps between {name}"] = np.log10(
            usual / (10 ** (sizes[0] / 2) / np.sqrt(image.shape[1]))
        )
    return values


def _blocks(image: NDArray) -> dict[str, float]:
    """Of blocks of 8 x 8: those without any contrast, the spread of their contrast, and steps at
    the blocks of JPEG.
    """
    rows, columns = (length // _BLOCK for length in image.shape)
    blocks = image[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    spread = blocks.std((1, 3), dtype=np.float64)
    logs = np.log10(spread + 1e-3)
    values = {
        "blocks without contrast": _log((spread < 1e-3).mean(), 0.01),
        "spread of the local contrast": logs.std(),
        "skewness of the local contrast": np.clip(_moments(logs)[0], -4, 4),
        "least local contrast": np.quantile(logs, 0.05),
    }
    means = blocks.mean((1, 3))
    larger = [
        cv2.resize(means, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        for scale in (2, 4)
    ]
    sizes = [
        np.log10(float(np.median(spread**2)) + 1e-6),
        *(np.log10(float(np.var(m)) + 1e-6) for m in (means, *larger)),
    ]
    for scale, (near, far) in zip((8, 16, 32), pairwise(sizes), strict=True):
        values[f"contrast of areas of {scale} px"] = far - near
    for name, steps in (
        ("columns", np.abs(np.diff(image, axis=1)).mean(0)),
        ("lines", np.abs(np.diff(image, axis=0)).mean(1)),
    ):
        usable = steps[: len(steps) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(0) + 1e-5
        values[f"steps every 8 {name}"] = np.log10(usable.max() / np.median(usable))
    return values
