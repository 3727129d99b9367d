"""Registration of LR onto the grid of HR: the affine map between them (`alignment`), LR
interpolated by it, and checks of whether the result can be trusted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aeanet.data.alignment import (
    Image,
    Matrix,
    RegistrationError,
    align,
    blur,
    covered,
    magnification_of,
    warp,
)
from aeanet.imaging.given import as_array
from aeanet.imaging.metrics import psnr

# A pair beyond these limits is refused; true pairs have correlations of 0.95 and more.
MIN_SIDE = 80  # px; ORB finds nothing within 31 px of an edge
MIN_VALID = 0.2
MIN_CORRELATION = 0.5
MAX_RESIDUAL = 1.0  # LR px
SAME = 60.0  # dB; two exposures of one field never agree so well

_COPY = (
    "LR and HR are the same image, or one was computed from the other: two exposures of one field "
    "are wanted."
)
_BLOCK = 64  # HR px, side of the blocks whose displacements are measured


@dataclass(frozen=True)
class RegistrationReport:
    """How one pair was registered.

    Attributes:
        matches: feature matches given to RANSAC.
        inliers: how many of them agree on the placement.
        magnification: HR px per LR px (geometric mean over the two axes).
        residual: HR px; median, over blocks of the image, of the local displacement left after
            registration.
        psnr_before: dB of LR enlarged by `magnification` and centred on HR, over the pixels it
            covers.
        psnr_after: dB of the registered LR, over the valid pixels.
        valid_fraction: the part of the HR grid where LR is real.
        matrix: LR px -> HR px, 2x3.
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
    """LR and HR on one grid.

    Attributes:
        name: of the pair.
        lr, hr: (H, W) float32.
        mask: (H, W), True where the interpolation used LR pixels only.
        report: how the pair was registered.
    """

    name: str
    lr: Image
    hr: Image
    mask: NDArray[np.bool_]
    report: RegistrationReport


def register_pair(lr: NDArray, hr: NDArray, *, name: str = "") -> RegisteredPair:
    """Find where LR lies on HR, and interpolate it bicubically there. The intensities of LR are not
    changed.

    The same input gives the same bits. LR may show a larger or a smaller field than HR.

    Args:
        lr, hr: (H, W) from 0 to 1, each of any size from 80 x 80 on.
        name: of the pair.

    Returns:
        Both on the grid of HR, with the mask of the pixels that have LR data and a report of how
        well they match.

    Raises:
        RegistrationError: the result cannot be trusted; the message says why.
    """
    # one file given twice would register with no error at all
    lr, hr = _checked("LR", lr), _checked("HR", hr)
    if np.array_equal(lr, hr):
        raise RegistrationError(_COPY)

    # placed by features, then fitted to all pixels; it is trusted only if the images then agree
    matrix, matches, inliers = align(lr, hr)
    magnification = magnification_of(matrix)
    registered, mask = warp(lr, matrix, hr.shape), covered(lr.shape, matrix, hr.shape)
    residual = _check_agreement(registered, hr, mask, magnification)

    # a copy that was moved or enlarged shows only now
    after = psnr(registered, hr, mask)
    if after > SAME:
        raise RegistrationError(_COPY)

    # before: what is reached without a registration, to compare with
    report = RegistrationReport(
        matches=matches,
        inliers=inliers,
        magnification=magnification,
        residual=residual,
        psnr_before=_psnr_before(lr, hr, magnification),
        psnr_after=after,
        valid_fraction=float(mask.mean()),
        matrix=tuple(tuple(row) for row in matrix.tolist()),  # type: ignore[arg-type]
    )
    return RegisteredPair(name, registered, hr, mask, report)


def _checked(label: str, image: NDArray) -> Image:
    """The image as float32. Raises RegistrationError if it is no such image, or too small."""
    try:
        image = np.ascontiguousarray(as_array(image, label), dtype=np.float32)
    except ValueError as error:
        raise RegistrationError(str(error)) from error

    # NaN would pass the comparisons with the range, so it is looked for before them
    if image.ndim != 2 or image.size == 0:
        raise RegistrationError(f"{label} must be one grey image (H, W), got shape {image.shape}.")
    if not np.isfinite(image).all():
        raise RegistrationError(f"{label} holds NaN or infinite values; all pixels must be finite.")
    low, high = float(image.min()), float(image.max())
    if low < -0.5 or high > 1.5:  # an interpolated image may overshoot a little
        raise RegistrationError(f"{label} has intensities from {low:g} to {high:g}, wanted 0 to 1.")

    # near an edge no features are found, so little of a small image counts
    if min(image.shape) < MIN_SIDE:
        raise RegistrationError(
            f"{label} has {image.shape[1]} x {image.shape[0]} pixels; at least {MIN_SIDE} x "
            f"{MIN_SIDE} are needed."
        )
    return image


def _check_agreement(
    registered: Image, hr: Image, mask: NDArray[np.bool_], magnification: float
) -> float:
    """The residual of the report. Raises RegistrationError unless the images show one field."""
    # too few common pixels would agree by chance
    if mask.mean() < MIN_VALID:
        raise RegistrationError(
            f"LR covers only {mask.mean():.1%} of HR's field; at least {MIN_VALID:.0%} must be "
            "common to both."
        )

    # the contents first: a displacement means nothing between two fields
    correlation, residual = _agreement(registered, hr, mask, magnification)
    if correlation < MIN_CORRELATION:
        raise RegistrationError(
            f"After registration LR and HR correlate by {correlation:.2f} only, {MIN_CORRELATION} "
            "is wanted: they do not show the same field, or one is too noisy."
        )
    if residual > MAX_RESIDUAL * magnification:
        raise RegistrationError(
            f"After registration LR and HR are still {residual:.1f} HR px apart in the median, at "
            f"most {MAX_RESIDUAL * magnification:.1f} is wanted: the distortion is not an affine "
            "one."
        )
    return residual


def _agreement(
    registered: Image, hr: Image, mask: NDArray[np.bool_], magnification: float
) -> tuple[float, float]:
    """Correlation of the two images' structure, and the median local displacement between them in
    HR px.

    The displacement of a block is one least-squares step (Lucas and Kanade 1981). Blocks with too
    little structure are left out.
    """
    # Structure is a band-pass from 1 to 8 LR px, between the noise and the shading.
    lr, hr = (
        blur(image, magnification) - blur(image, 8 * magnification) for image in (registered, hr)
    )
    lr, hr = lr - lr[mask].mean(), hr - hr[mask].mean()
    lr_power, hr_power, product = (
        float(np.mean((a * b)[mask])) for a, b in ((lr, lr), (hr, hr), (lr, hr))
    )
    if min(lr_power, hr_power) < 1e-12 or product <= 0:
        return 0.0, float("inf")
    correlation = product / (lr_power * hr_power) ** 0.5

    # The normal equations of each block: a 2 x 2 matrix, solved by its determinant.
    hr = hr * np.float32(product / hr_power)
    gy, gx = (np.where(mask, part, 0) for part in np.gradient(hr))
    xx, xy, yy, xd, yd = (
        _block_sums(a * b) for a, b in ((gx, gx), (gx, gy), (gy, gy), (gx, lr - hr), (gy, lr - hr))
    )
    determinant = xx * yy - xy * xy
    structure = determinant / (xx + yy + 1e-30)  # close to the smaller eigenvalue
    clear = structure > 0.1 * np.median(structure)
    if not clear.any():
        return correlation, float("inf")
    dx = (yy * xd - xy * yd)[clear] / determinant[clear]
    dy = (xx * yd - xy * xd)[clear] / determinant[clear]
    return correlation, float(np.median(np.hypot(dx, dy)))


def _block_sums(values: NDArray) -> NDArray[np.float64]:
    """(H, W) -> the sums over blocks of `_BLOCK` px, those at the lower and right edge smaller."""
    rows, columns = (np.arange(0, length, _BLOCK) for length in values.shape)
    by_rows = np.add.reduceat(values.astype(np.float64), rows, axis=0)
    return np.add.reduceat(by_rows, columns, axis=1)


def _psnr_before(lr: Image, hr: Image, magnification: float) -> float:
    """PSNR of LR enlarged, its centre on that of HR."""
    y, x = (
        (size_hr - 1 - magnification * (size_lr - 1)) / 2
        for size_hr, size_lr in zip(hr.shape, lr.shape, strict=True)
    )
    placed: Matrix = np.array([[magnification, 0, x], [0, magnification, y]])
    return psnr(warp(lr, placed, hr.shape), hr, covered(lr.shape, placed, hr.shape))
