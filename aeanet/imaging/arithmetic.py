"""Small sums over images: a line through their values, and blocks of them."""

import numpy as np
from numpy.typing import NDArray


def straight_line(x: NDArray, y: NDArray) -> tuple[float, float]:
    """Slope and level of the line y = slope * x + level through points (N,), by least squares."""
    x_mean, y_mean = x.mean(dtype=np.float64), y.mean(dtype=np.float64)
    centred = x - x_mean
    slope = float(centred @ (y - y_mean) / max(float(centred @ centred), 1e-12))
    return slope, float(y_mean - slope * x_mean)


def pairs_apart(image: NDArray, distance: int, axis: int) -> tuple[NDArray, NDArray]:
    """Of an image (H, W), the pixels that have another one so many pixels further along an axis,
    and these others. Both are views.
    """
    if axis == 0:
        return image[:-distance], image[distance:]
    return image[:, :-distance], image[:, distance:]


def in_blocks(values: NDArray, side: int) -> NDArray:
    """(H, W) -> the whole blocks in it, (rows, side, columns, side)."""
    rows, columns = (length // side for length in values.shape)
    return values[: rows * side, : columns * side].reshape(rows, side, columns, side)


def correlation(first: NDArray, second: NDArray) -> float:
    """Of two arrays of one shape; 0 where one of them is constant."""
    if first.std() < 1e-6 or second.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
