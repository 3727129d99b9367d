"""Smooth images, and noise as a scan has it."""

import cv2
import numpy as np
from numpy.typing import NDArray


def smooth(seed: int = 0, shape: tuple[int, int] = (160, 200)) -> NDArray[np.float64]:
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), 6)
    return 0.45 + 0.12 * field / field.std()


def noise_along_lines(shape: tuple[int, ...], seed: int, band: float = 0.2) -> NDArray[np.float64]:
    """Standard deviation 1; neighbours on a line correlate by 2 band / (1 + 2 band^2)."""
    kernel = np.array([[band, 1, band]])
    white = np.random.default_rng(seed).standard_normal(shape)
    return cv2.filter2D(white, -1, kernel / np.sqrt((kernel**2).sum()))
