"""How far frames as a whole are shifted against one another: phase correlation of all pairs, and
the places that agree with most of them.
"""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.signal.windows import tukey
from skimage.registration import phase_cross_correlation

_SIDE = 512  # px: frames are made smaller to about this for the search
_ALL_PAIRS = 16  # frames, up to which all pairs are compared
_STEPS = 20  # per px of the smaller frames
_TAPER = 0.25  # share of a side over which the window falls to 0
_SMOOTH = 2.0  # frequencies: blur of the mean power
_NOISE_ROWS = 0.35  # cycles per px across lines, above which there is noise rather than structure
_ROUNDS = 100
_CLOSE = 0.05  # px: shifts closer than that to the places all have the same weight


def find_places(frames: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Where each frame lies, found from pairs of frames by phase correlation.

    The cross power of a pair is reduced to its phases, and each frequency has the weight that its
    signal has over the noise. The noise of a scan is white across its lines but correlated along
    them, so its power at a frequency along the lines is that of the highest frequencies across.

    Args:
        frames: N of (H, W) each.

    Returns:
        (N, 2), (y, x) in px: the pixel p of the first frame lies at p + places[n] in frame n.
    """
    factor = max(1, round(max(frames[0].shape) / _SIDE))
    spectra = _weighted_phases([_smaller(frame, factor) for frame in frames])
    number = len(frames)
    pairs = [pair for pair in combinations(range(number), 2) if _is_compared(*pair, number)]
    shifts = np.array([_shift(spectra[first], spectra[second]) for first, second in pairs])
    return factor * _robust_places(number, np.array(pairs), shifts)


def _is_compared(first: int, second: int, number: int) -> bool:
    """All pairs of a few frames; of many, those that are 1, 2, 4, 8 ... apart."""
    apart = second - first
    return number <= _ALL_PAIRS or apart & (apart - 1) == 0


def _smaller(frame: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = (length // factor for length in frame.shape)
    part = frame[: height * factor, : width * factor]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _weighted_phases(frames: list[NDArray[np.float32]]) -> list[NDArray[np.complex64]]:
    """The transform of each frame, its amplitudes replaced by one weight for all frames."""
    height, width = frames[0].shape
    window = np.outer(tukey(height, _TAPER), tukey(width, _TAPER)).astype(np.float32)
    spectra = [fft.fft2((frame - frame.mean()) * window) for frame in frames]
    power = np.mean([np.abs(spectrum) ** 2 for spectrum in spectra], axis=0)
    power = gaussian_filter(power, _SMOOTH, mode="wrap")

    # Wiener's weight: the share of the signal in the power.
    rows = np.abs(fft.fftfreq(height)) > _NOISE_ROWS
    noise = power[rows].mean(0) + 1e-12
    signal = np.maximum(power - noise, 0)
    weight = (signal / (signal + noise)).astype(np.float32)
    return [weight * spectrum / np.maximum(np.abs(spectrum), 1e-12) for spectrum in spectra]


def _shift(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """(y, x) in px: the pixel p of the first frame lies at p + shift in the second."""
    found, _, _ = phase_cross_correlation(
        first, second, space="fourier", normalization=None, upsample_factor=_STEPS
    )
    return -np.asarray(found, np.float64)


def _robust_places(number: int, pairs: NDArray, shifts: NDArray) -> NDArray[np.float64]:
    """The places (number, 2) from which the shifts of the pairs differ least, by the sum of the
    distances.

    A few wrong shifts hardly change it, as they would the sum of squares (Weiszfeld's method:
    least squares, each pair with the weight of one over its distance).
    """
    design = np.zeros((len(pairs), number))
    design[np.arange(len(pairs)), pairs[:, 0]] = -1
    design[np.arange(len(pairs)), pairs[:, 1]] = 1
    weight = np.ones((len(pairs), 1))
    places = np.zeros((number, 2))
    for _ in range(_ROUNDS):
        # The first frame is at 0.
        places[1:] = np.linalg.lstsq(weight * design[:, 1:], weight * shifts, rcond=None)[0]
        distance = np.linalg.norm(design @ places - shifts, axis=1)
        weight = np.sqrt(1 / np.maximum(distance, _CLOSE))[:, None]
    return places
