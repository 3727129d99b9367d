"""The slow drift within a frame: the displacement of each of its lines from a template.

Least squares over all pixels of frame(p) = template(p + d(line)), linearised in d (Lucas and
Kanade 1981). d is a smooth function of the line: cubic B-splines whose coefficients bend little
(P-splines, Eilers and Marx 1996).
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

SIGMA = 1.0  # px: blur before the fit, which takes away noise more than structure
# About so many px have one independent number: by the blur, and as neighbours on a line correlate.
_INDEPENDENT = 1.6 * 4 * np.pi * SIGMA**2
_SPACING = 24.0  # lines between the knots, at least
_MOST = 16  # intervals between knots, at most
_BEND = 0.15  # px: usual second difference of coefficients
_USUAL = 3.0  # standard deviations beyond which a pixel counts less


def spline_basis(lines: int) -> NDArray[np.float64]:
    """Cubic B-splines with equally spaced knots, (lines, coefficients)."""
    intervals = int(np.clip(lines / _SPACING, 1, _MOST))
    step = (lines - 1) / intervals
    knots = step * np.arange(-3, intervals + 4)
    at = np.clip(np.arange(lines), 0, (lines - 1) * (1 - 1e-9))
    return BSpline.design_matrix(at, knots, 3).toarray()


def better_splines(
    difference: NDArray,
    template: NDArray,
    inside: NDArray[np.bool_],
    basis: NDArray,
    before: NDArray,
) -> NDArray[np.float64]:
    """Better coefficients (2, K) of the displacements (y, x) of the lines of a frame.

    Args:
        difference: (H, W), the frame, resampled with the displacements `before`, less the
            template, both blurred by `SIGMA`.
        template: (H, W), blurred alike. Its noise is independent of that of the frame.
        inside: (H, W), the pixels that count.
        basis: (H, K), of `spline_basis`.
        before: (2, K).
    """
    # along y, then along x, as the displacements are ordered
    gradient = [cv2.Sobel(template, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (0, 1)]

    # Pixels that differ by more than noise does, such as those of a charging event, count less.
    size = np.abs(difference)
    sd = 1.4826 * float(np.median(size[inside][::7])) + 1e-6
    weight = inside / np.maximum(size / (_USUAL * sd), 1)
    weight = weight / (sd**2 * _INDEPENDENT)

    # The normal equations of a line are sums over its pixels; the splines join the lines.
    count = basis.shape[1]
    normal = np.zeros((2, count, 2, count))
    right = np.zeros((2, count))
    # the prior: second differences of the coefficients are about `_BEND`
    bend = np.diff(np.eye(count), 2, axis=0) / _BEND

    # Solved for is by how much `before` is too large. The prior is that of the better coefficients,
    # before - change, so `before` stands on the right side too.
    for a in range(2):
        weighted = weight * gradient[a]
        right[a] = basis.T @ (weighted * difference).sum(1) + bend.T @ (bend @ before[a])
        for b in range(2):
            normal[a, :, b] = basis.T @ ((weighted * gradient[b]).sum(1)[:, None] * basis)
        normal[a, :, a] += bend.T @ bend + 1e-6 * np.eye(count)
    size_of_all = 2 * count
    change = np.linalg.solve(normal.reshape(size_of_all, size_of_all), right.ravel())
    return before - change.reshape(2, count)
