"""A single noisy image as what a network learns from: with more noise as its input, and with the
same noise taken off as its target.

Where y = x + e has noise e of covariance C, and n is drawn with the covariance C too, the noises of
y + a n and y - n / a are uncorrelated. So a network that brings the first to the second learns x,
as with a second scan (Recorrupted-to-Recorrupted: Pang et al., CVPR 2021).
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

STRENGTH = 0.5  # a: the smaller, the nearer the input is to the image, and the noisier the target
_MOST = 0.7  # correlation of neighbours: a detector's response of three pixels gives no more


def recorrupt(
    image: NDArray[np.float32], noise: NDArray[np.float32], strength: float = STRENGTH
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Input and target.

    Args:
        image: (H, W).
        noise: (H, W), drawn independently, with the covariance of the image's.
        strength: a.
    """
    return image + np.float32(strength) * noise, image - noise / np.float32(strength)


def draw_noise(
    sd: NDArray[np.float32], along: float, across: float, random: np.random.Generator
) -> NDArray[np.float32]:
    """Normally distributed noise, whose neighbours correlate as a detector's response of three
    pixels makes them.

    Args:
        sd: (H, W), its standard deviation at each pixel.
        along, across: correlation of neighbours on a line and in a column; what lies outside
            0 to 0.7 is brought there.
        random: draws it.
    """
    height, width = sd.shape
    white = random.standard_normal((height + 2, width + 2), dtype=np.float32)
    correlated = cv2.sepFilter2D(white, cv2.CV_32F, _response(along), _response(across))
    return sd * np.asarray(correlated[1:-1, 1:-1], np.float32)


def _response(correlation: float) -> NDArray[np.float32]:
    """Three taps, [b, 1, b] over their norm: white noise stays of variance 1, and its neighbours
    correlate by 2 b / (1 + 2 b^2).
    """
    wanted = min(max(correlation, 0.0), _MOST)
    side = wanted / (1 + math.sqrt(1 - 2 * wanted**2))
    taps = np.array([side, 1, side], np.float32)
    return np.asarray(taps / np.linalg.norm(taps), np.float32)
