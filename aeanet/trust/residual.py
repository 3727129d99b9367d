"""What a restoration took away from an image: whether it looks like noise, or like structure."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.arithmetic import correlation, pairs_apart
from aeanet.trust.noise import BLOCK, Noise, block_means, estimate_noise, squared_gradient
from aeanet.trust.pattern import lost_pattern

_KERNEL = 5  # px: side of the filter that makes the result as blurred as the image
_EDGE = 4  # px at the border that do not count
_FITTED = 50_000  # pixels, at most, to which the filter is fitted
LEAST_NOISE = 0.5 / 255  # a noise below half a grey level of 8 bits is that of the rounding


@dataclass(frozen=True)
class Residual:
    """Image minus result, and how much it resembles noise.

    Attributes:
        image: (H, W) on the grid of the image, in its units; the result is first blurred as the
            image is.
        numbers: by name, what is compared with training (`reference.Reference`). A residual that is
            noise alone has about 0 in each: the logarithm (base 10) of its standard deviation over
            the noise's; that of the variance of its means over blocks of 8 x 8 over what its own
            correlation lets expect; the correlation, over blocks, of its variance with the
            structure of the result, after the dependence of noise on brightness is taken out; and
            the logarithm of one plus the noise left in the result over that of the image.
        pattern: of `pattern.lost_pattern`: whether it repeats regularly in two directions.
        along, across: correlation of neighbours on a line and in a column.
    """

    image: NDArray[np.float32]
    numbers: dict[str, float]
    pattern: float
    along: float = 0.0
    across: float = 0.0


def residual(image: NDArray, restored: NDArray, noise: Noise) -> Residual:
    """Compare an image (H, W) with its restoration on the same or a finer grid of the same field,
    both in [0, 1].

    Both sides of the image are at least `statistics.SMALLEST` px.
    """
    # on the grid of the image and as blurred as it, so that only what was taken away differs
    image = np.ascontiguousarray(image, np.float32)
    same = np.ascontiguousarray(restored, np.float32)
    if same.shape != image.shape:
        same = np.asarray(
            cv2.resize(same, image.shape[::-1], interpolation=cv2.INTER_AREA), np.float32
        )
    taken = image - _blurred_alike(same, image)

    # In units of the noise that is expected at each brightness. Offsets of whole lines are errors
    # of the scan, and rightly removed.
    inner = slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE)
    brightness = cv2.GaussianBlur(same, (0, 0), 1.5)
    expected = np.sqrt(np.maximum(noise.variance(brightness), LEAST_NOISE**2))[inner]
    unit = taken[inner] / expected
    unit = unit - unit.mean(1, keepdims=True)

    # of noise alone each number is about 0
    along, across = (_of_neighbours(unit, axis) for axis in (1, 0))
    left = estimate_noise(same).sd
    numbers = {
        "strength": math.log10(math.sqrt(float(np.mean(unit * unit))) + 0.03),
        "low": _slow(unit),
        "structure": _structure(unit, brightness[inner]),
        "left": math.log10(1 + left / max(noise.sd, LEAST_NOISE)),
    }
    return Residual(taken, numbers, lost_pattern(taken), along, across)


def _blurred_alike(
    restored: NDArray[np.float32], image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The result through the 5 x 5 filter that brings it closest to the image, by least squares."""
    # (rows, columns, 5, 5): the neighbourhoods of every so many pixels
    half = _KERNEL // 2
    padded = cv2.copyMakeBorder(restored, half, half, half, half, cv2.BORDER_REFLECT_101)
    step = max(1, math.isqrt(image.size // _FITTED))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_KERNEL, _KERNEL))[::step, ::step]

    # A row for each place in the filter.
    samples = windows.transpose(2, 3, 0, 1).astype(np.float64, order="C").reshape(_KERNEL**2, -1)
    target = image[::step, ::step].astype(np.float64).ravel()
    mean_sample, mean_target = samples.mean(1), target.mean()
    samples -= mean_sample[:, None]
    target = target - mean_target

    # Where the image does not tell, the filter stays near the one that changes nothing.
    unchanged = np.zeros(_KERNEL**2)
    unchanged[_KERNEL**2 // 2] = 1
    gram = samples @ samples.T
    ridge = (1e-4 * np.trace(gram) / len(gram) + 1e-9) * np.eye(len(gram))
    change = np.linalg.solve(gram + ridge, samples @ (target - unchanged @ samples))
    weights = unchanged + change

    # the fit was without the means, so the offset is what these leave
    offset = np.float32(mean_target - float(mean_sample @ weights))
    kernel = weights.reshape(_KERNEL, _KERNEL).astype(np.float32)
    return offset + cv2.filter2D(restored, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)


def _slow(unit: NDArray) -> float:
    """Logarithm of the variance of block means over that of noise with the same correlation along
    the line.
    """
    variance = float(np.mean(unit * unit)) + 1e-12
    along = [float(np.mean(unit[:, lag:] * unit[:, :-lag])) / variance for lag in (1, 2)]
    expected = variance / BLOCK**2 * max(1 + 2 * sum(along), 0.2)
    return math.log10(float(np.var(block_means(unit))) / expected + 0.1)


def smoothness(noise: Noise, across: float) -> float:
    """The correlation across lines, 0 or more, that the noise and what was taken away both have.
    That of an image with weak noise is the specimen's, and a lost structure has its own.
    """
    return max(min(noise.across, across), 0.0)


def _of_neighbours(unit: NDArray, axis: int) -> float:
    """Correlation of pixels that are neighbours along an axis."""
    variance = float(np.mean(unit * unit)) + 1e-12
    near, far = pairs_apart(unit, 1, axis)
    return float(np.mean(far * near)) / variance


def _structure(unit: NDArray, brightness: NDArray) -> float:
    """Correlation, over blocks, of the logarithms of the residual's variance and of the result's
    squared gradient.
    """
    gradient = squared_gradient(brightness)
    # In float32 the rounding of a constant's mean would pass for a deviation.
    energies = (
        block_means(np.square(unit, dtype=np.float64)) + 1e-3,
        block_means(gradient.astype(np.float64)) + 1e-7,
    )
    return correlation(*(np.log(energy) for energy in energies))
