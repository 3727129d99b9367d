"""The affine map from LR to HR: found by features as in the paper (ORB, RANSAC), then fitted to all
pixels.

Coordinates are (x, y) in pixels with pixel centres at integers; a matrix is 2x3 and maps LR
coordinates to HR ones.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.errors import UserError

Image = NDArray[np.float32]
Matrix = NDArray[np.float64]

# Unrelated micrographs have 4 to 8 inliers; true pairs have about 100.
MIN_INLIERS = 15
MAGNIFICATIONS = (0.9, 8.0)
MAX_ANISOTROPY = 1.15

_FEATURES = 3000
_FAST_THRESHOLDS = (20, 10, 5)  # grey levels of 255; the lower ones for images of little contrast
_ENOUGH_INLIERS = 45
_BEST_MATCHES = 0.15
_LEAST_MATCHES = 100  # where 15 % would be fewer
_REPROJECTION = 2.0  # LR px
_SIGMAS = (2.0, 0.7)  # LR px: first as wide as the error of the features, then sharp
_ITERATIONS = 30
_CONVERGED = 0.005  # HR px at the corners


class RegistrationError(UserError):
    """A pair that does not register, or whose registration cannot be trusted."""


def align(lr: Image, hr: Image) -> tuple[Matrix, int, int]:
    """The matrix, the number of feature matches, and how many of these agree on it.

    Raises:
        RegistrationError: no placement is found, or an implausible one.
    """
    try:
        matrix, matches, inliers = _match(lr, hr)
        _check_plausible(matrix)
        for sigma in _SIGMAS:
            matrix = _refine(lr, hr, matrix, sigma)
    except (cv2.error, np.linalg.LinAlgError) as error:
        raise RegistrationError(
            f"LR and HR cannot be registered: {' '.join(str(error).split())}."
        ) from error
    _check_plausible(matrix)
    return matrix, matches, inliers


def warp(image: Image, matrix: Matrix, shape: tuple[int, ...]) -> Image:
    """`image` interpolated bicubically on a grid of `shape`, to which `matrix` maps it; edges are
    repeated.
    """
    flags, edges = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(image, _inverse(matrix), shape[::-1], flags=flags, borderMode=edges)
    return np.asarray(warped, np.float32)


def covered(
    lr_shape: tuple[int, ...], matrix: Matrix, shape: tuple[int, ...], margin: float = 1.0
) -> NDArray[np.bool_]:
    """True where the LR position is `margin` px or more within LR's outermost pixel centres; a
    cubic kernel needs 1.
    """
    x, y = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
    inside = np.ones(shape, dtype=bool)
    for row, length in zip(_inverse(matrix), lr_shape[::-1], strict=True):
        position = row[0] * x + row[1] * y + row[2]
        inside &= (position >= margin) & (position <= length - 1 - margin)
    return inside


def magnification_of(matrix: Matrix) -> float:
    """HR px per LR px, the geometric mean over the two axes."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def blur(image: Image, sigma: float) -> Image:
    """Gaussian blur, sigma in px."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _check_plausible(matrix: Matrix) -> None:
    # HR is the finer of the two, or as fine as LR, but for the error of a registration
    magnification = magnification_of(matrix)
    least, most = MAGNIFICATIONS
    if not least <= magnification <= most:
        hint = "; are the two files swapped?" if magnification < 1 else "."
        raise RegistrationError(
            f"HR has {magnification:.2f} times the magnification of LR, between {least} and {most} "
            f"is wanted{hint}"
        )

    # singular values: the magnifications in the two directions that differ most
    largest, smallest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if largest > MAX_ANISOTROPY * smallest:
        raise RegistrationError(
            f"The magnification differs by a factor {largest / smallest:.2f} between two "
            f"directions, at most {MAX_ANISOTROPY} is plausible: the features found do not fit "
            "together."
        )


# Features: the paper's ORB, brute-force Hamming matches, the best 15 %, RANSAC (on an affine: 6
# parameters, not 8).


def _match(lr: Image, hr: Image) -> tuple[Matrix, int, int]:
    """The coarse matrix, the matches given to RANSAC and how many of them agree."""
    best: tuple[Matrix | None, int, int] = (None, 0, 0)
    for threshold in _FAST_THRESHOLDS:
        best = max(best, _match_once(lr, hr, threshold), key=lambda found: found[2])
        if best[2] >= _ENOUGH_INLIERS:
            break
    matrix, matches, inliers = best
    if matrix is None or inliers < MIN_INLIERS:
        raise RegistrationError(
            f"Only {inliers} of {matches} matched features agree on one placement, {MIN_INLIERS} "
            "are needed: LR and HR do not show the same field, or have too little structure."
        )
    return matrix, matches, inliers


def _match_once(lr: Image, hr: Image, threshold: int) -> tuple[Matrix | None, int, int]:
    # ten levels down to 1 / 1.2^9 = 1 / 5.2, so that a feature is found at either magnification
    orb = cv2.ORB.create(_FEATURES, scaleFactor=1.2, nlevels=10, fastThreshold=threshold)
    lr_points, lr_words = orb.detectAndCompute(_for_features(lr), None)
    hr_points, hr_words = orb.detectAndCompute(_for_features(hr), None)
    if lr_words is None or hr_words is None:
        return None, 0, 0

    # mutual nearest neighbours only, and of these the most alike
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(lr_words, hr_words)
    matches = sorted(matches, key=lambda match: match.distance)
    matches = matches[: max(_LEAST_MATCHES, int(_BEST_MATCHES * len(matches)))]
    # an affine map has six unknowns, and each match gives two equations
    if len(matches) < 3:
        return None, len(matches), 0

    # From HR to LR, so that the tolerance is in LR px: the coarser image limits the accuracy at any
    # magnification.
    inverse, agree = cv2.estimateAffine2D(
        np.array([hr_points[match.trainIdx].pt for match in matches]),
        np.array([lr_points[match.queryIdx].pt for match in matches]),
        method=cv2.RANSAC,
        ransacReprojThreshold=_REPROJECTION,
        maxIters=10_000,
        confidence=0.9999,
    )

    # a map that flattens the image fits a few points, and cannot be inverted
    if inverse is None or abs(np.linalg.det(inverse[:, :2])) < 1e-6:
        return None, len(matches), 0
    return _inverse(np.asarray(inverse, np.float64)), len(matches), int(agree.sum())


def _for_features(image: Image) -> NDArray[np.uint8]:
    """8 bits, smoothed and with full contrast, as FAST corners need it."""
    smooth = blur(image, 1.0)
    low, high = np.percentile(smooth, (0.5, 99.5))
    return np.clip((smooth - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


# The sub-pixel fit: least squares over all pixels of LR(x) = gain * HR(x + d(x)) + offset, d
# affine, linearised in d.


def _refine(lr: Image, hr: Image, matrix: Matrix, sigma: float) -> Matrix:
    """The fit with both images smoothed by `sigma` LR px. Gradients are those of HR, so LR's noise
    does not bias it.
    """
    # the same detail is left in both: the blur is equal in LR px
    magnification = magnification_of(matrix)
    lr, hr = blur(lr, sigma), blur(hr, sigma * magnification)

    # The same pixels are fitted while the matrix changes: away from the edge, and no denser than
    # the smoothing needs.
    fitted = np.zeros(hr.shape, dtype=bool)
    step = max(1, round(magnification * sigma / 2))
    fitted[::step, ::step] = covered(lr.shape, matrix, hr.shape, margin=4)[::step, ::step]

    # of HR alone, so they are the same in all steps
    columns = _derivatives(hr, fitted)
    normal = columns @ columns.T
    # the unknowns have different units, so the condition is that of the scaled matrix
    size = np.sqrt(np.outer(normal.diagonal(), normal.diagonal()) + 1e-30)
    if np.linalg.cond(normal / size) > 1e10:
        return matrix  # too little structure in common to improve on the features

    # Gauss-Newton: what the warped LR shows at x belongs at x + d(x) on HR's grid
    centre = np.array(hr.shape[::-1]) / 2
    for _ in range(_ITERATIONS):
        pixels = warp(lr, matrix, hr.shape)[fitted].astype(np.float64)
        # linear in gain * d rather than in d, so the shifts are divided by the gain below
        gain, _offset, *shifts = np.linalg.solve(normal, columns @ pixels)
        if gain < 0.05:
            break  # the images have nothing in common; the checks will refuse them
        # d is affine about the centre, and follows the map so far
        linear, shift = np.hsplit(np.reshape(shifts, (2, 3)) / gain, [2])
        about_centre = matrix - np.outer(centre, [0, 0, 1])
        matrix = matrix + linear @ about_centre + shift * [0, 0, 1]
        if np.abs(linear).sum(axis=1) @ centre + np.abs(shift).max() < _CONVERGED:
            break
    return matrix


def _derivatives(hr: Image, fitted: NDArray[np.bool_]) -> Matrix:
    """The unknowns' derivatives at the fitted pixels, (8, pixels): gain, offset, and the six of d
    about the centre.
    """
    gy, gx = (np.asarray(part, np.float64)[fitted] for part in np.gradient(hr))
    rows, cols = np.nonzero(fitted)
    x, y = cols - hr.shape[1] / 2, rows - hr.shape[0] / 2
    return np.stack([hr[fitted], np.ones(len(x)), gx * x, gx * y, gx, gy * x, gy * y, gy])
