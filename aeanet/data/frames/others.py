"""Each of several aligned frames beside the mean of the others, whose noise is independent of
its own.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_EDGE = 3  # px beyond which hardly any kernel or blur reaches from outside a frame


def beside_others(
    frames: NDArray[np.float32], inside: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]]:
    """Each frame, the mean of the others, and where they can be compared: (H, W) each.

    They are compared where at least half of the others lie within their fields, as the frame does.

    Args:
        frames: (N, H, W), N at least 2, on one grid and equally bright.
        inside: (N, H, W), where each lies within its field.
    """
    count = inside.sum(0, dtype=np.float32)
    total = np.zeros(frames.shape[1:], np.float32)
    for frame, within in zip(frames, inside, strict=True):
        total += frame * within

    for frame, within in zip(frames, inside, strict=True):
        others = count - within
        mean = (total - frame * within) / np.maximum(others, 1)
        mean = np.where(others > 0, mean, frame)  # no edge, which a blur would spread
        shared = within & (others >= max(1, (len(frames) - 1) / 2))
        yield frame, mean, _without_edge(shared)


def _without_edge(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A region without its pixels within `_EDGE` px of its border."""
    square = np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8)
    outside = cv2.BORDER_CONSTANT
    inner = cv2.erode(region.astype(np.uint8), square, borderType=outside, borderValue=0)
    return np.asarray(inner, bool)
