"""Bicubic enlargement of an image or of any region of it, with the same bits for both."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.given import as_array

SHARPNESS = -0.75  # the cubic kernel's free parameter, OpenCV's, so that of registered pairs


def upsample(lr: NDArray, magnification: float) -> NDArray[np.float32]:
    """Enlarge an image by bicubic interpolation, edges repeated.

    The centre of LR pixel x comes to lie at `magnification * (x + 0.5) - 0.5`. The kernel is that
    of `registration.register_pair`.

    Args:
        lr: (H, W), finite.
        magnification: above 0.

    Returns:
        (round(H * magnification), round(W * magnification)).

    Raises:
        ValueError: for any other image or magnification.
    """
    lr = as_array(lr)
    if lr.ndim != 2 or lr.size == 0 or not np.isfinite(lr).all():
        raise ValueError(f"a finite grey image (H, W) is wanted, got shape {lr.shape}.")
    rows, columns = (slice(0, length) for length in upsampled_shape(lr.shape, magnification))
    return upsample_region(
        lambda rows, columns: lr[rows, columns], lr.shape, magnification, rows, columns
    )


def upsampled_shape(shape: Sequence[int], magnification: float) -> tuple[int, int]:
    """(H, W) of the result.

    Raises:
        ValueError: for a magnification that is not above 0.
    """
    if not 0 < magnification < math.inf:
        raise ValueError(f"magnification is {magnification}, wanted a number above 0.")
    height, width = (max(1, round(length * magnification)) for length in shape)
    return height, width


def upsample_region(
    read: Callable[[slice, slice], NDArray],
    shape: Sequence[int],
    magnification: float,
    rows: slice,
    columns: slice,
) -> NDArray[np.float32]:
    """Rows and columns of the enlarged image. `read` gives any region of the LR image, whose shape
    is (H, W).

    Each pixel is computed from sixteen LR pixels by the same operations in the same order, whatever
    the region.
    """
    row_taps, row_weights = taps(rows, shape[0], magnification)
    column_taps, column_weights = taps(columns, shape[1], magnification)

    # All LR pixels that the region depends on, and the four of each row, then of each column.
    top, left = int(row_taps.min()), int(column_taps.min())
    region = read(slice(top, int(row_taps.max()) + 1), slice(left, int(column_taps.max()) + 1))
    source = np.asarray(region, np.float32)
    tall = _weighted(source, row_taps - top, row_weights[:, :, None], axis=0)
    return _weighted(tall, column_taps - left, column_weights[:, None, :], axis=1)


def _weighted(source: NDArray, taps: NDArray, weights: NDArray, axis: int) -> NDArray[np.float32]:
    """The sum of rows or columns of an image, those of each tap times its weights, in place: a new
    array costs as much as the sum.
    """
    total = np.take(source, taps[0], axis)
    total *= weights[0]
    for indices, weight in zip(taps[1:], weights[1:], strict=True):
        part = np.take(source, indices, axis)
        part *= weight
        total += part
    return total


def middle(
    shape: Sequence[int], enlarged: Sequence[int], side: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The middle of an image of `shape`, at most `side` px along each axis, and where it lies in
    the same image enlarged to the shape `enlarged`.
    """
    small, large = [], []
    for length, longer in zip(shape, enlarged, strict=True):
        start = max(length - side, 0) // 2
        stop = start + min(length, side)
        small.append(slice(start, stop))
        large.append(slice(round(start * longer / length), round(stop * longer / length)))
    return (small[0], small[1]), (large[0], large[1])


def taps(
    span: slice, length: int, magnification: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The four LR indices of each position in `span`, edges repeated, and their weights, (4,
    positions) each.
    """
    centre = (np.arange(span.start, span.stop) + 0.5) / magnification - 0.5
    base = np.floor(centre)
    offset = centre - base

    # the cubic kernel in its two parts, up to a distance of one pixel and from there to two
    distance = np.abs(np.stack([offset + 1, offset, 1 - offset, 2 - offset]))
    near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance**2 + 1
    far = SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
    weights = np.where(distance <= 1, near, far)
    indices = base.astype(np.intp) + np.arange(-1, 3)[:, None]
    return indices.clip(0, length - 1), weights.astype(np.float32)
