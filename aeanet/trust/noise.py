"""The noise of a micrograph, estimated from the image alone.

Noise of a scan is white across lines and, by the limited bandwidth of the detector, correlated
along them. So it is measured by differences across lines, where the specimen changes least.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_SMOOTH = 2.0  # px: the blur after which differences show the specimen rather than the noise
BLOCK = 8  # px: side of the blocks whose variances are compared
_FLAT = 0.25  # share of the blocks that count, those with the least structure
_BINS = 8  # classes of brightness
_LEAST = 24  # px: the smallest side of an image whose noise is estimated
# The sixth difference, divided so that noise keeps its variance.
_ACROSS = np.array([-1, 6, -15, 20, -15, 6, -1], np.float32) / np.float32(math.sqrt(924))
# The sum of the squared autocorrelation of `_ACROSS`: a block has so many times fewer independent
# numbers.
_REDUNDANCY = 3.1


@dataclass(frozen=True)
class Noise:
    """Noise in units of the image's range, 0 for black to 1 for white.

    Attributes:
        sd: standard deviation, root of the mean variance over the image.
        slope: change of the variance per change of the brightness; shot noise has a positive one.
        offset: variance at black. The variance at the brightness g is about offset + slope * g.
        along: correlation of neighbours on a line. across: of neighbours in a column; where the
            noise is weak, changes of the specimen count too.
        coarse: standard deviation by differences of pixels that are three apart, which smooth noise
            does not escape, as it does those of neighbours; but changes of the specimen count more.
    """

    sd: float
    slope: float
    offset: float
    along: float
    across: float
    coarse: float = math.nan

    def variance(self, brightness: NDArray) -> NDArray:
        """The variance at each brightness, at least a tenth of the mean variance."""
        return np.maximum(self.offset + self.slope * brightness, 0.1 * self.sd**2)


def estimate_noise(image: NDArray) -> Noise:
    """The noise of an image (H, W) on the grid of its detector, intensities in [0, 1].

    In nine of ten simulated images with a noise above 1.5 % of the range `sd` is within 15 %.
    Weaker noise seems stronger than it is where the specimen has fine texture. An image smaller
    than 24 px, or not finite, has no estimate: all numbers are NaN.
    """
    # too small for blocks of every brightness, or without a meaning
    image = np.ascontiguousarray(image, np.float32)
    if image.ndim != 2 or min(image.shape) < _LEAST or not np.isfinite(image).all():
        return Noise(*(math.nan,) * 5)

    # the blur shows the specimen: how bright each block is, and how much structure it has
    smooth = cv2.GaussianBlur(image, (0, 0), _SMOOTH)

    # Away from the border, in the blocks with the least structure, differences across lines are
    # noise.
    inner = slice(3, -3), slice(3, -3)
    differences = cv2.filter2D(image, cv2.CV_32F, _ACROSS[:, None])[inner]
    flat, level = _flat_blocks(smooth[inner])
    differences = differences - _line_means(differences, flat)
    along, _ = _correlation(differences, flat)

    # The variance is a line over the brightness, as of shot noise; its mean is that of all blocks.
    variances = block_means(differences * differences) / _median_share(along)
    slope, offset = _line_fit(*_by_brightness(level[flat], variances[flat]))
    variance = float(np.mean(np.maximum(offset + slope * level, 0)))
    across, coarse = _far_apart(image, flat)
    return Noise(math.sqrt(variance), slope, offset, along, across, coarse)


def _median_share(along: float) -> float:
    """The median over the mean of the variances of blocks of noise, a chi-squared distribution."""
    freedom = BLOCK**2 / (_REDUNDANCY * (1 + 2 * along**2))
    # as Wilson and Hilferty approximate it
    return (1 - 2 / (9 * freedom)) ** 3


def share_shown(across: float) -> float:
    """The share of the variance of noise that differences across lines show, where neighbours in a
    column correlate by `across`, 0 to 1, as Gaussian smoothing correlates them.
    """
    lags = np.arange(1, len(_ACROSS))
    own = np.correlate(_ACROSS, _ACROSS, "full")[len(_ACROSS) :]
    return float(1 + 2 * np.sum(own * across ** (lags**2.0)))


def squared_gradient(image: NDArray) -> NDArray:
    """(H, W), by Sobel's filter."""
    along, across = (
        np.asarray(cv2.Sobel(image, cv2.CV_32F, dx, 1 - dx, scale=1 / 8)) for dx in (1, 0)
    )
    return along * along + across * across


def block_means(values: NDArray) -> NDArray:
    """The means of the whole blocks of 8 x 8, (rows, columns), in the dtype of `values`."""
    rows, columns = (length // BLOCK for length in values.shape)
    whole = np.ascontiguousarray(values[: rows * BLOCK, : columns * BLOCK])
    # five times as fast as numpy's mean over two axes
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA))


def _flat_blocks(smooth: NDArray) -> tuple[NDArray, NDArray]:
    """The blocks with the least structure among those of their brightness.

    Returns:
        Which they are, and the brightness of all blocks, (rows, columns) each.
    """
    gradient = squared_gradient(smooth)
    level, structure = block_means(smooth), block_means(gradient)
    order = np.argsort(level, axis=None, kind="stable")
    flat = np.zeros(level.size, bool)
    for members in np.array_split(order, _BINS):
        if members.size:
            number = max(1, round(_FLAT * members.size))
            flat[members[np.argsort(structure.flat[members], kind="stable")[:number]]] = True
    return flat.reshape(level.shape), level


def _line_means(values: NDArray, flat: NDArray) -> NDArray:
    """The mean of each line over its flat part, (H, 1): offsets of whole lines are not noise of
    pixels.
    """
    mask = np.kron(flat, np.ones((BLOCK, BLOCK), bool))
    rows, columns = mask.shape
    weight = mask.sum(1)
    means = np.zeros((values.shape[0], 1), np.float32)
    enough = weight >= 4 * BLOCK
    means[:rows][enough, 0] = (values[:rows, :columns] * mask).sum(1)[enough] / weight[enough]
    return means


def _by_brightness(level: NDArray, variance: NDArray) -> tuple[NDArray, NDArray]:
    """Mean brightness and median variance of the blocks of each class of brightness."""
    classes = np.array_split(np.argsort(level, kind="stable"), _BINS)
    pairs = [(level[c].mean(), np.median(variance[c])) for c in classes if c.size]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def _line_fit(x: NDArray, y: NDArray) -> tuple[float, float]:
    """Slope and offset of a line through points, outliers with less weight."""
    if len(x) < 3 or float(np.ptp(x)) < 0.02:
        return 0.0, float(np.median(y))

    # weights of one over the error make squares into absolute errors
    weight = np.ones_like(y)
    slope = offset = 0.0
    for _ in range(5):
        slope, offset = np.polyfit(x, y, 1, w=np.sqrt(weight))
        error = np.abs(y - (offset + slope * x))
        weight = 1 / np.maximum(error, 0.05 * np.abs(y).mean() + 1e-12)
    return float(slope), float(offset)


def _correlation(values: NDArray, flat: NDArray) -> tuple[float, float]:
    """Of neighbours on a line, over the flat blocks, and the variance there."""
    left, right = values[:, :-1], values[:, 1:]
    products = block_means(left * right)
    squares = block_means(0.5 * (left * left + right * right))
    inside = flat[: products.shape[0], : products.shape[1]]
    total = float(squares[inside].sum())
    if not total > 0:
        return 0.0, 0.0
    return float(products[inside].sum()) / total, total / np.count_nonzero(inside)


def _far_apart(image: NDArray, flat: NDArray) -> tuple[float, float]:
    """The correlation of neighbours in a column, and the standard deviation, by differences along
    lines between pixels too far apart to be correlated.
    """
    wide = image[:, 3:-3] - 0.5 * (image[:, :-6] + image[:, 6:])
    # turned, so that neighbours on a line of it are neighbours in a column of the image
    wide = np.ascontiguousarray(wide[3:-3].T)
    correlation, variance = _correlation(wide, np.ascontiguousarray(flat.T))
    return correlation, math.sqrt(variance / 1.5)  # 1 + 1/4 + 1/4 of independent pixels
