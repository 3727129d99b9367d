"""The information bar of an SEM: the strip below the image that shows voltage, magnification and a
scale bar.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import fraction

# Grey levels of 255 by which a drawn colour varies: none, or as many as in JPEG files.
TOLERANCES = (0, 8)
HEIGHTS = (0.015, 0.25)  # of the image
MIN_ROWS = 12
# Share of one colour in a row that is a line or bare background; rounded corners may take the rest.
PLAIN = 0.97
PAINTED = 0.4  # share of the background in any row of a bar, beside text and logo
IMAGE = 0.6  # most that one colour may have of the row above, the image's last
STRAY_ROWS = 2  # rows below the bar; Zeiss leaves one
INK_CONTRAST = 0.35  # of the image's range
INK = (0.003, 0.4)  # share of the bar
PURE = 0.25  # share of the ink in one colour: letters are drawn in one, specimens are not
MIN_GLYPHS = 8


def find_bar(image: NDArray) -> int:
    """The number of rows at the bottom of a grey image (H, W) that are an information bar, or 0.

    A bar has a straight upper edge from side to side, at which the image ends within one row. It
    has one background colour from there to the bottom, and on it many small figures of one other
    colour. If any of this is in doubt, the result is 0: a bar that is left does less harm than
    specimen that is cut off. A bar that is drawn over the image without a background is not found.
    """
    # grey levels of 255, of that part of the image in which a bar can begin
    low, high = float(image.min()), float(image.max())
    rows = int(image.shape[0] * HEIGHTS[1]) + 1
    if high == low or rows <= MIN_ROWS:
        return 0
    strip = 255 * fraction(image[-rows:], low, high)
    least = max(MIN_ROWS, int(image.shape[0] * HEIGHTS[0]))

    # An edge is a plain row below one that is not. It counts if all below it is painted or plain.
    ordered = np.sort(strip, axis=1)
    width = strip.shape[1]
    for tolerance in TOLERANCES:
        plain = _in_one_colour(ordered, math.ceil(PLAIN * width), tolerance)
        specimen = ~_in_one_colour(ordered, math.floor(IMAGE * width) + 1, tolerance)
        edges = np.flatnonzero(plain[1:] & specimen[:-1]) + 1

        # from the highest edge down, while as many rows lie below it as a bar has at least
        for edge in edges[rows - edges >= least]:
            bar = strip[edge:]
            background, _ = _most_common(bar, tolerance)
            painted = (np.abs(bar - background) <= tolerance).mean(axis=1) >= PAINTED
            filled = (painted | plain[edge:])[:-STRAY_ROWS].all()
            if filled and _is_written_on(bar, background):
                return len(bar)
    return 0


def is_drawn(strip: NDArray) -> bool:
    """Whether the last rows of an image have the background of a bar, so that the bar of which its
    maker tells was not cut off before.
    """
    low, high = float(strip.min()), float(strip.max())
    if high == low:
        return False
    values = 255 * fraction(strip, low, high)
    return _most_common(values, TOLERANCES[-1])[1] >= PAINTED * values.size


def _in_one_colour(
    ordered: NDArray[np.float64], number: int, tolerance: float
) -> NDArray[np.bool_]:
    """Whether so many values of a row lie within the tolerance of one level, (rows,); the values of
    each row are in order.
    """
    # in order, so many values lie within the tolerance where the first and the last of them do
    last = ordered[:, number - 1 :]
    first = ordered[:, : last.shape[1]]
    return np.asarray((last <= first + 2 * tolerance).any(axis=1))


def _most_common(values: NDArray[np.float64], tolerance: float) -> tuple[float, int]:
    """The level with the most values within the tolerance of it, and their number."""
    ordered = np.sort(values, axis=None)

    # from each value on, a window as wide as the tolerance to both sides
    ends = np.searchsorted(ordered, ordered + 2 * tolerance, side="right")
    counts = ends - np.arange(ordered.size)
    first = int(counts.argmax())
    return float(ordered[first]) + tolerance, int(counts[first])


def _is_written_on(bar: NDArray[np.float64], background: float) -> bool:
    """Whether many small figures of one colour stand on the background."""
    ink = np.abs(bar - background) > INK_CONTRAST * 255
    if not INK[0] <= ink.mean() <= INK[1]:
        return False
    _, pure = _most_common(bar[ink], TOLERANCES[-1])
    figures = cv2.connectedComponentsWithStats(ink.astype(np.uint8))[2][1:]
    heights = figures[:, cv2.CC_STAT_HEIGHT]
    glyphs = np.count_nonzero((heights > 3) & (heights < 0.6 * len(bar)))
    return bool(pure >= PURE * ink.sum() and glyphs >= MIN_GLYPHS)
