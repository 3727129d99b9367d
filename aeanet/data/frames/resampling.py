"""A frame interpolated at the places where the pixels of another one lie in it."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.upsampling import upsampled_shape

_BLOCK = 4096  # px a side of what is interpolated at once: OpenCV takes less than 32,768
_REACH = 5  # px around it that a kernel may need


def resample(
    frame: NDArray, displacement: NDArray, magnification: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A frame on the grid of the reference, or on a finer one.

    At a magnification of 1 the kernel is Lanczos' of eight taps, which changes the noise least.
    Above it is the cubic one of `upsample`, which networks know from their training.

    Args:
        frame: (H, W).
        displacement: (H, 2), (y, x) in px of each line: the pixel (i, j) of the reference lies at
            (i, j) + displacement[i] in the frame.
        magnification: result px per px of the frame; the grid is that of `upsample`.

    Returns:
        The image, (round(H * magnification), round(W * magnification)), which repeats the edges of
        the frame beyond them; and which of its pixels lie within the frame.
    """
    # pixel centres of the result in px of the reference; the upper left corners of both grids
    # coincide
    height, width = upsampled_shape(frame.shape, magnification)
    y, x = ((np.arange(length) + 0.5) / magnification - 0.5 for length in (height, width))

    # the row in the frame depends on the line alone, (h,), the column on the pixel too, (h, w)
    lines = np.arange(len(displacement))
    moved_y, moved_x = (np.interp(y, lines, axis) for axis in np.transpose(displacement))
    rows, columns = y + moved_y, x + moved_x[:, None]
    inside = (rows >= 0) & (rows <= frame.shape[0] - 1)
    inside = inside[:, None] & (columns >= 0) & (columns <= frame.shape[1] - 1)

    # in blocks, as OpenCV refuses larger images; each takes its own part of the frame
    kernel = cv2.INTER_LANCZOS4 if magnification == 1 else cv2.INTER_CUBIC
    image = np.empty((height, width), np.float32)
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            part = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            image[part] = _interpolated(frame, rows[part[0]], columns[part], kernel)
    return image, inside


def _interpolated(frame: NDArray, rows: NDArray, columns: NDArray, kernel: int) -> NDArray:
    """The frame at rows (h,) and columns (h, w), in px."""
    top, bottom = _span(rows, frame.shape[0])
    left, right = _span(columns, frame.shape[1])
    part = np.ascontiguousarray(frame[top:bottom, left:right], np.float32)
    x = (columns - left).astype(np.float32)
    y = np.broadcast_to((rows - top).astype(np.float32)[:, None], x.shape)
    edges = cv2.BORDER_REPLICATE
    return cv2.remap(part, x, np.ascontiguousarray(y), kernel, borderMode=edges)


def _span(positions: NDArray, length: int) -> tuple[int, int]:
    """First and last pixel, plus one, that are needed for these positions."""
    first = min(max(math.floor(positions.min()) - _REACH, 0), length - 1)
    last = min(max(math.ceil(positions.max()) + _REACH + 1, first + 1), length)
    return first, last
