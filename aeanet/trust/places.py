"""Where in an image more was taken away than its noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.trust.noise import Noise, share_shown
from aeanet.trust.pattern import pattern_amplitude
from aeanet.trust.report import PATTERN_LIMIT
from aeanet.trust.residual import LEAST_NOISE, Residual, residual, smoothness

ODD = 1.8  # times the expected noise; noise alone stays below 1.3 over a window
_WINDOW = 15  # px a side over which what was taken away is averaged
_LEAST_SHARE = 0.1  # of the variance of smooth noise that is taken to show
_STEP = 4  # px of the image a side that share a value
_LEAST = 3 * _STEP  # px: the smallest side of a place
_PATTERN = 0.5  # of the highest amplitude: the border of a pattern
_SHARPEST = 1.5  # px: the blur after which the brightness says how much noise to expect


@dataclass(frozen=True)
class Place:
    """A rectangle of an image in px, and what is to be said of it."""

    left: int
    top: int
    width: int
    height: int
    sentence: str


def warned_places(image: NDArray, result: NDArray, noise: Noise) -> list[Place]:
    """The places where more than noise was taken away: regular patterns first, then the others, the
    largest first.

    Args:
        image: (H, W) in [0, 1].
        result: the same field in the same units, on the same or a finer grid.
        noise: of the image.
    """
    taken = residual(image, result, noise)
    return places_in(taken, taken_over_noise(image, taken, noise))


def places_in(taken: Residual, ratio: NDArray) -> list[Place]:
    """`warned_places` of what was taken away, and what this is over the noise."""
    return [*pattern_places(taken), *odd_places(ratio, taken.image.shape)]


def taken_over_noise(image: NDArray, taken: Residual, noise: Noise) -> NDArray[np.float32]:
    """What was taken away over the noise that is expected at each brightness.

    Args:
        image: (H, W) in [0, 1].
        taken: what was taken away from it.
        noise: of the image.

    Returns:
        (ceil(H / 4), ceil(W / 4)): the root of the mean square over a window of 15 px. It is about
        1 where noise alone was taken away. All is NaN if the noise is not known.
    """
    height, width = image.shape
    shape = math.ceil(height / _STEP), math.ceil(width / _STEP)
    if not math.isfinite(noise.sd):
        return np.full(shape, np.nan, np.float32)
    result = np.ascontiguousarray(image, np.float32) - taken.image
    brightness = cv2.GaussianBlur(result, (0, 0), _SHARPEST)
    share = max(share_shown(smoothness(noise, taken.across)), _LEAST_SHARE)
    expected = np.sqrt(np.maximum(noise.variance(brightness) / share, LEAST_NOISE**2))

    # Offsets of whole lines are errors of the scan, and rightly removed.
    unit = (taken.image / expected).astype(np.float32)
    unit -= np.median(unit, axis=1, keepdims=True)
    ratio = np.sqrt(cv2.blur(unit * unit, (_WINDOW, _WINDOW)))
    return np.asarray(cv2.resize(ratio, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def odd_places(ratio: NDArray, shape: Sequence[int], most: int = 5) -> list[Place]:
    """The places where far more was taken away than the noise, and than elsewhere, the largest
    first.

    Args:
        ratio: of `taken_over_noise`.
        shape: (H, W) of the image.
        most: how many, at most.
    """

    def sentence(highest: float) -> str:
        return f"{highest:.1f} times the expected noise was taken away: structure may be among it."

    ratio = np.nan_to_num(ratio)
    limit = ODD * max(1.0, float(np.median(ratio)))
    return _places(ratio, limit, shape, sentence)[:most]


def pattern_places(taken: Residual, most: int = 5) -> list[Place]:
    """The places where a regular pattern is among what was taken away, the largest first."""
    if not taken.pattern > PATTERN_LIMIT:
        return []
    amplitude = pattern_amplitude(taken.image)
    limit = _PATTERN * float(amplitude.max())

    def sentence(_: float) -> str:
        return "A regular pattern is among what was taken away."

    return _places(amplitude, limit, taken.image.shape, sentence)[:most]


def _places(
    values: NDArray, limit: float, shape: Sequence[int], sentence: Callable[[float], str]
) -> list[Place]:
    """The places of an image where values on any grid over it exceed a limit."""
    # Neighbours that nearly touch are one place.
    near = cv2.dilate((values > limit).astype(np.uint8), np.ones((5, 5), np.uint8))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(near)

    # the grid may be coarser than the image, whose px a place is given in
    down, right = shape[0] / values.shape[0], shape[1] / values.shape[1]
    found = []
    for label in range(1, count):
        left, top, width, height, _ = map(int, boxes[label])

        # the box of a place may hold parts of others, which do not count for it
        inside = labels[top : top + height, left : left + width] == label
        highest = float(values[top : top + height, left : left + width][inside].max())
        place = Place(
            round(left * right),
            round(top * down),
            round(width * right),
            round(height * down),
            sentence(highest),
        )

        # by height times side: a wide place of moderate values comes before a high point
        if min(place.width, place.height) >= _LEAST:
            found.append((highest * math.sqrt(place.width * place.height), place))
    return [place for _, place in sorted(found, key=lambda one: -one[0])]
