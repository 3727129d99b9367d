"""Registration of LR onto the grid of HR: ORB and RANSAC as in the paper, then a sub-pixel fit,
then checks.

Coordinates are (x, y) in pixels with pixel centres at integers; a matrix is 2x3 and maps LR
coordinates to HR ones.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.errors import UserError
from aeanet.imaging.metrics import psnr

Image = NDArray[np.float32]
Matrix = NDArray[np.float64]

# A pair beyond these limits is refused. Unrelated micrographs have 4 to 8 inliers; true pairs have
# about 100, and correlations of 0.95 and more.
MIN_SIDE = 80  # px; ORB finds nothing within 31 px of an edge
MIN_INLIERS = 15
MAGNIFICATIONS = (0.9, 8.0)
MAX_ANISOTROPY = 1.15
MIN_VALID = 0.2
MIN_CORRELATION = 0.5
MAX_RESIDUAL = 1.0  # LR px
SAME = 60.0  # dB; two exposures of one field never agree so well

_COPY = "LR and HR are the same image, or one was computed from the other: two exposures of one field are wanted."

_FEATURES = 3000
_FAST_THRESHOLDS = (20, 10, 5)  # grey levels of 255; the lower ones for images of little contrast
_ENOUGH_INLIERS = 45
_BEST_MATCHES = 0.15
_LEAST_MATCHES = 100  # where 15 % would be fewer
_REPROJECTION = 2.0  # LR px
_BLOCK = 64  # HR px, side of the blocks whose displacements are measured


class RegistrationError(UserError):
    """A pair that does not register, or whose registration cannot be trusted."""


@dataclass(frozen=True)
class RegistrationReport:
    """How one pair was registered.

    matches        feature matches given to RANSAC, `inliers` of which agree on the placement
    magnification  HR px per LR px (geometric mean over the two axes)
    residual       HR px: median, over blocks of the image, of the local displacement left after
    registration psnr_before    dB of LR enlarged by `magnification` and centred on HR, over the
    pixels it covers
    psnr_after     dB of the registered LR, over the valid pixels
    valid_fraction the part of the HR grid where LR is real
    matrix         LR px -> HR px, 2x3
    """

    matches: int
    inliers: int
    magnification: float
    residual: float
    psnr_before: float
    psnr_after: float
    valid_fraction: float
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class RegisteredPair:
    """LR and HR, (H, W) float32 on the HR grid; `mask` (H, W) is True where the interpolation used
    LR pixels only.
    """

    name: str
    lr: Image
    hr: Image
    mask: NDArray[np.bool_]
    report: RegistrationReport


def register_pair(lr: NDArray, hr: NDArray, *, name: str = "") -> RegisteredPair:
    """Find where LR lies on HR, and interpolate it bicubically there. The intensities of LR are not
    changed.

    `lr` and `hr` are (H, W) from 0 to 1, each of any size from 80 x 80 on. LR may show a larger or
    a smaller field than HR. The same input gives the same bits. `name` is that of the pair.

    Returns both on the grid of HR, with the mask of the pixels that have LR data and a report of
    how well they match. Raises RegistrationError with the reason if the result cannot be trusted.
    """
    lr, hr = _checked("LR", lr), _checked("HR", hr)
    for label, image in (("LR", lr), ("HR", hr)):
        if min(image.shape) < MIN_SIDE:
            raise RegistrationError(
                f"{label} has {image.shape[1]} x {image.shape[0]} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed."
            )
    if np.array_equal(lr, hr):
        raise RegistrationError(_COPY)
    try:
        matrix, matches, inliers = _match(lr, hr)
        _check_plausible(matrix)
        matrix = _refine(lr, hr, matrix)
    except (cv2.error, np.linalg.LinAlgError) as error:
        raise RegistrationError(
            f"LR and HR cannot be registered: {' '.join(str(error).split())}."
        ) from error
    _check_plausible(matrix)
    registered, mask = _warp(lr, matrix, hr.shape), _valid(lr.shape, matrix, hr.shape)
    if mask.mean() < MIN_VALID:
        raise RegistrationError(
            f"LR covers only {mask.mean():.1%} of HR's field; at least {MIN_VALID:.0%} must be common to both."
        )
    correlation, residual = _agreement(registered, hr, mask, _magnification(matrix))
    if correlation < MIN_CORRELATION:
        raise RegistrationError(
            f"After registration LR and HR correlate by {correlation:.2f} only, {MIN_CORRELATION} is wanted: "
            "they do not show the same field, or one is too noisy."
        )
    if residual > MAX_RESIDUAL * _magnification(matrix):
        raise RegistrationError(
            f"After registration LR and HR are still {residual:.1f} HR px apart in the median, at most "
            f"{MAX_RESIDUAL * _magnification(matrix):.1f} is wanted: the distortion is not an affine one."
        )
    after = psnr(registered, hr, mask)
    if after > SAME:
        raise RegistrationError(_COPY)
    report = RegistrationReport(
        matches=matches,
        inliers=inliers,
        magnification=_magnification(matrix),
        residual=residual,
        psnr_before=_psnr_before(lr, hr, _magnification(matrix)),
        psnr_after=after,
        valid_fraction=float(mask.mean()),
        matrix=tuple(tuple(float(v) for v in row) for row in matrix),  # type: ignore[arg-type]
    )
    return RegisteredPair(name, registered, hr, mask, report)


def _checked(label: str, image: NDArray) -> Image:
    image = np.ascontiguousarray(image, dtype=np.float32)
    if image.ndim != 2 or image.size == 0:
        raise RegistrationError(f"{label} must be one grey image (H, W), got shape {image.shape}.")
    if not np.isfinite(image).all():
        raise RegistrationError(f"{label} holds NaN or infinite values; all pixels must be finite.")
    low, high = float(image.min()), float(image.max())
    if low < -0.5 or high > 1.5:  # an interpolated image may overshoot a little
        raise RegistrationError(f"{label} has intensities from {low:g} to {high:g}, wanted 0 to 1.")
    return image


def _warp(image: Image, matrix: Matrix, shape: tuple[int, ...]) -> Image:
    """`image` interpolated on a grid of `shape`, to which `matrix` maps it; edges are repeated."""
    inverse = _inverse(matrix)
    size = (shape[1], shape[0])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, inverse, size, flags=flags, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _blur(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _valid(
    lr_shape: tuple[int, ...], matrix: Matrix, shape: tuple[int, ...], margin: float = 1.0
) -> NDArray[np.bool_]:
    """True where the LR position is `margin` px or more within LR's outermost pixel centres; a
    cubic kernel needs 1.
    """
    inverse = _inverse(matrix)
    x, y = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
    inside = np.ones(shape, dtype=bool)
    for row, limit in zip(
        inverse, (lr_shape[1] - 1 - margin, lr_shape[0] - 1 - margin), strict=True
    ):
        position = row[0] * x + row[1] * y + row[2]
        inside &= (position >= margin) & (position <= limit)
    return inside


# Features: the paper's ORB, brute-force Hamming matches, the best 15 %, RANSAC (on an affine: 6
# parameters, not 8).


def _match(lr: Image, hr: Image) -> tuple[Matrix, int, int]:
    """The coarse matrix, the matches given to RANSAC and how many of them agree."""
    best: tuple[Matrix | None, int, int] = (None, 0, 0)
    for threshold in _FAST_THRESHOLDS:
        found = _match_once(lr, hr, threshold)
        if found[2] > best[2]:
            best = found
        if best[2] >= _ENOUGH_INLIERS:
            break
    matrix, matches, inliers = best
    if matrix is None or inliers < MIN_INLIERS:
        raise RegistrationError(
            f"Only {inliers} of {matches} matched features agree on one placement, {MIN_INLIERS} are needed: "
            "LR and HR do not show the same field, or have too little structure."
        )
    return matrix, matches, inliers


def _match_once(lr: Image, hr: Image, threshold: int) -> tuple[Matrix | None, int, int]:
    orb = cv2.ORB.create(_FEATURES, scaleFactor=1.2, nlevels=10, fastThreshold=threshold)
    lr_points, lr_words = orb.detectAndCompute(_for_features(lr), None)
    hr_points, hr_words = orb.detectAndCompute(_for_features(hr), None)
    if lr_words is None or hr_words is None:
        return None, 0, 0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(lr_words, hr_words)
    matches = sorted(matches, key=lambda match: match.distance)
    matches = matches[: max(_LEAST_MATCHES, int(_BEST_MATCHES * len(matches)))]
    if len(matches) < 3:
        return None, len(matches), 0
    source = np.array([hr_points[match.trainIdx].pt for match in matches])
    target = np.array([lr_points[match.queryIdx].pt for match in matches])
    # From HR to LR, so that the tolerance is in LR px: the coarser image limits the accuracy at any
    # magnification.
    inverse, agree = cv2.estimateAffine2D(
        source,
        target,
        method=cv2.RANSAC,
        ransacReprojThreshold=_REPROJECTION,
        maxIters=10_000,
        confidence=0.9999,
    )
    if inverse is None or abs(np.linalg.det(inverse[:, :2])) < 1e-6:
        return None, len(matches), 0
    return _inverse(np.asarray(inverse, np.float64)), len(matches), int(agree.sum())


def _for_features(image: Image) -> NDArray[np.uint8]:
    """8 bits, smoothed and with full contrast, as FAST corners need it."""
    smooth = _blur(image, 1.0)
    low, high = np.percentile(smooth, (0.5, 99.5))
    return np.clip((smooth - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


# The sub-pixel fit: least squares over all pixels of LR(x) = gain * HR(x + d(x)) + offset, d
# affine, linearised in d.


def _refine(lr: Image, hr: Image, matrix: Matrix) -> Matrix:
    for sigma in (2.0, 0.7):  # LR px: first as wide as the error of the features, then sharp
        matrix = _refine_at(lr, hr, matrix, sigma)
    return matrix


def _refine_at(lr: Image, hr: Image, matrix: Matrix, sigma: float) -> Matrix:
    """The fit with both images smoothed by `sigma` LR px. Gradients are those of HR, so LR's noise
    does not bias it.
    """
    magnification = _magnification(matrix)
    lr, hr = _blur(lr, sigma), _blur(hr, sigma * magnification)
    # The same pixels are fitted while the matrix changes: away from the edge, and no denser than
    # the smoothing needs.
    fitted = np.zeros(hr.shape, dtype=bool)
    step = max(1, round(magnification * sigma / 2))
    fitted[::step, ::step] = _valid(lr.shape, matrix, hr.shape, margin=4)[::step, ::step]
    columns = _columns(hr, fitted)
    normal = columns @ columns.T
    if (
        np.linalg.cond(normal / np.sqrt(np.outer(normal.diagonal(), normal.diagonal()) + 1e-30))
        > 1e10
    ):
        return matrix  # too little structure in common to improve on the features
    centre = np.array([hr.shape[1], hr.shape[0]]) / 2
    for _ in range(30):
        gain, _offset, *shifts = np.linalg.solve(
            normal, columns @ _warp(lr, matrix, hr.shape)[fitted].astype(np.float64)
        )
        if gain < 0.05:
            break  # the images have nothing in common; the checks will refuse them
        shift = np.reshape(shifts, (2, 3)) / gain
        matrix = (
            matrix
            + shift[:, :2] @ (matrix - np.outer(centre, [0, 0, 1]))
            + np.outer(shift[:, 2], [0, 0, 1])
        )
        if (
            np.abs(shift[:, :2]).sum(axis=1) @ centre + np.abs(shift[:, 2]).max() < 0.005
        ):  # px at the corners
            break
    return matrix


def _columns(hr: Image, fitted: NDArray[np.bool_]) -> Matrix:
    """The unknowns' derivatives at the fitted pixels, (8, pixels): gain, offset, and the six of d
    about the centre.
    """
    gy, gx = (np.asarray(part, np.float64) for part in np.gradient(hr))
    rows, cols = np.nonzero(fitted)
    x, y = cols - hr.shape[1] / 2, rows - hr.shape[0] / 2
    gx, gy = gx[fitted], gy[fitted]
    return np.stack([hr[fitted], np.ones(len(x)), gx * x, gx * y, gx, gy * x, gy * y, gy])


# Whether the result can be trusted.


def _magnification(matrix: Matrix) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _check_plausible(matrix: Matrix) -> None:
    magnification = _magnification(matrix)
    largest, smallest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if not MAGNIFICATIONS[0] <= magnification <= MAGNIFICATIONS[1]:
        hint = "; are the two files swapped?" if magnification < 1 else "."
        raise RegistrationError(
            f"HR has {magnification:.2f} times the magnification of LR, between {MAGNIFICATIONS[0]} and "
            f"{MAGNIFICATIONS[1]} is wanted{hint}"
        )
    if largest > MAX_ANISOTROPY * smallest:
        raise RegistrationError(
            f"The magnification differs by a factor {largest / smallest:.2f} between two directions, "
            f"at most {MAX_ANISOTROPY} is plausible: the features found do not fit together."
        )


def _agreement(
    registered: Image, hr: Image, mask: NDArray[np.bool_], magnification: float
) -> tuple[float, float]:
    """Correlation of the two images' structure, and the median local displacement between them in
    HR px.

    Structure is a band-pass from 1 to 8 LR px, between the noise and the shading. The displacement
    of a block is one least-squares step (Lucas and Kanade 1981). Blocks with too little structure
    are left out.
    """
    lr, hr = (
        _blur(image, magnification) - _blur(image, 8 * magnification) for image in (registered, hr)
    )
    lr, hr = lr - lr[mask].mean(), hr - hr[mask].mean()
    lr_power, hr_power, product = (
        float(np.mean((a * b)[mask])) for a, b in ((lr, lr), (hr, hr), (lr, hr))
    )
    if min(lr_power, hr_power) < 1e-12 or product <= 0:
        return 0.0, float("inf")
    hr = hr * np.float32(product / hr_power)
    gy, gx = (np.where(mask, part, 0) for part in np.gradient(hr))
    xx, xy, yy, xd, yd = (
        _block_sums(a * b) for a, b in ((gx, gx), (gx, gy), (gy, gy), (gx, lr - hr), (gy, lr - hr))
    )
    determinant = xx * yy - xy * xy
    structure = determinant / (xx + yy + 1e-30)  # close to the smaller eigenvalue
    clear = structure > 0.1 * np.median(structure)
    if not clear.any():
        return product / (lr_power * hr_power) ** 0.5, float("inf")
    dx, dy = (
        (p * q - xy * r)[clear] / determinant[clear] for p, q, r in ((yy, xd, yd), (xx, yd, xd))
    )
    return product / (lr_power * hr_power) ** 0.5, float(np.median(np.hypot(dx, dy)))


def _block_sums(values: NDArray) -> NDArray[np.float64]:
    """(H, W) -> the sums over blocks of `_BLOCK` px, those at the lower and right edge smaller."""
    rows, columns = (np.arange(0, length, _BLOCK) for length in values.shape)
    return np.add.reduceat(
        np.add.reduceat(values.astype(np.float64), rows, axis=0), columns, axis=1
    )


def _psnr_before(lr: Image, hr: Image, magnification: float) -> float:
    offset = [
        (size_hr - 1 - magnification * (size_lr - 1)) / 2
        for size_hr, size_lr in zip(hr.shape, lr.shape, strict=True)
    ]
    placed = np.array([[magnification, 0, offset[1]], [0, magnification, offset[0]]])
    return psnr(_warp(lr, placed, hr.shape), hr, _valid(lr.shape, placed, hr.shape))
