"""Whether what a restoration took away repeats regularly, as an array of holes or pillars does and
noise does not.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from aeanet.trust.statistics import mean_power

_WINDOW = 64  # px: side of the windows of the spectrum
_AROUND = 11  # frequencies: side of the square whose median a peak is compared with
_SLOWEST = 0.12  # cycles per px; what repeats more slowly is not taken for noise
_BESIDE = 0.06  # cycles per px between the second peak and the line through the first
_FALSE_ALARMS = 0.01  # share of residuals of noise alone whose number is above 0
_AMPLITUDE = 8.0  # px: the blur that tells one place of a pattern from another
_ROUNDING = 1 / 12 / 255**2  # variance of rounding to 8 bits: a pattern below it cannot be seen


def lost_pattern(residual: NDArray[np.float32]) -> float:
    """How far a pattern stands out from the noise in a residual (H, W), both sides at least 64 px;
    above 0 it does.

    It is the logarithm (base 10) of a peak of the mean power spectrum over the frequencies around
    it, less that of what noise reaches in one of a hundred images (periodograms of Gaussian noise
    are exponentially distributed, their means over K windows are Gamma distributed). Interference
    along the scan also has peaks, but all in one direction. So the peak that counts is the highest
    one off the line through the origin and the highest of all.
    """
    height, _, number = _highest(residual)
    return float(np.log10(max(height, 1e-3) / _highest_of_noise(number)))


def pattern_amplitude(residual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where the pattern of `lost_pattern` is: the amplitude, (H, W), that the frequency of its peak
    has around each pixel.
    """
    _, (down, right), _ = _highest(residual)
    rows, columns = (np.arange(length, dtype=np.float32) for length in residual.shape)
    phase = 2 * np.pi * (down * rows[:, None] + right * columns)
    parts = (residual * wave(phase).astype(np.float32) for wave in (np.cos, np.sin))
    real, imaginary = (cv2.GaussianBlur(part, (0, 0), _AMPLITUDE) for part in parts)
    return np.asarray(2 * np.hypot(real, imaginary), np.float32)


def _highest(residual: NDArray[np.float32]) -> tuple[float, tuple[float, float], int]:
    """The peak that counts: its height over the frequencies around it, its frequency down and right
    in cycles per px, and the number of windows of the spectrum.
    """
    power, number = mean_power(residual, _WINDOW)
    power = np.fft.fftshift(power)
    height = power / (_median_around(power) + _ROUNDING)
    y, x = np.meshgrid(*(np.fft.fftshift(np.fft.fftfreq(_WINDOW)),) * 2, indexing="ij")
    height[np.hypot(y, x) < _SLOWEST] = 0

    # The line through the origin and the highest peak, and the highest peak beside it.
    highest = np.unravel_index(height.argmax(), height.shape)
    direction = np.array([y[highest], x[highest]])
    direction /= max(float(np.hypot(*direction)), 1e-9)
    height[np.abs(y * direction[1] - x * direction[0]) <= _BESIDE] = 0
    second = np.unravel_index(height.argmax(), height.shape)
    return float(height[second]), (float(y[second]), float(x[second])), number


def _median_around(power: NDArray) -> NDArray:
    """The median of the square around each frequency. The spectrum is periodic."""
    padded = np.pad(power.astype(np.float32), _AROUND // 2, mode="wrap")
    squares = np.lib.stride_tricks.sliding_window_view(padded, (_AROUND,) * 2)
    values = squares.reshape(*power.shape, _AROUND**2)
    middle = _AROUND**2 // 2
    return np.partition(values, middle, axis=-1)[..., middle]


@lru_cache
def _highest_of_noise(windows: int) -> float:
    """The height that the spectrum of noise, a mean over so many windows, exceeds in
    `_FALSE_ALARMS` of the cases.
    """
    frequencies = _WINDOW**2 // 2  # a real image has each twice
    return _exceeded(windows, _FALSE_ALARMS / frequencies) / _exceeded(windows, 0.5)


def _exceeded(windows: int, share: float) -> float:
    """What the sum of so many exponentially distributed numbers of mean 1 exceeds in that share of
    the cases: a quantile of the Gamma distribution, by bisection.
    """
    shape = torch.tensor(float(windows), dtype=torch.float64)
    low, high = 0.0, 2.0 * windows + 100.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if torch.special.gammaincc(shape, shape.new_tensor(middle)) > share:
            low = middle
        else:
            high = middle
    return high
