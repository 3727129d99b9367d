"""The information bar of an SEM: the strip below the image with voltage, magnification and a scale bar drawn in it."""

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCES = (0, 8)  # grey levels of 255 that a drawn colour wanders: not at all, or as far as JPEG makes it
HEIGHTS = (0.015, 0.25)  # of the image
MIN_ROWS = 12
PLAIN = 0.97  # share of one colour in a row that is a line or bare background; rounded corners may take the rest
PAINTED = 0.4  # share of the background in any row of a bar, beside text and logo
IMAGE = 0.6  # most that one colour may have of the row above, the image's last
STRAY_ROWS = 2  # rows below the bar; Zeiss leaves one
INK_CONTRAST = 0.35  # of the image's range
INK = (0.003, 0.4)  # share of the bar
PURE = 0.25  # share of the ink in one colour: letters are drawn in one, specimens are not
MIN_GLYPHS = 8


def find_bar(image: NDArray) -> int:
    """The number of rows at the bottom of a grey image (H, W) that are an information bar, 0 if there is none.

    A bar has a straight upper edge from side to side, at which the image ends within one row; one background colour
    from there to the bottom; and on it many small figures of one other colour. Where any of that is in doubt there
    is none: rows of the bar that stay harm less than rows of the specimen that go. A bar that is drawn over the image
    without a background is no strip and stays.
    """
    low, high = float(image.min()), float(image.max())
    rows = int(image.shape[0] * HEIGHTS[1]) + 1
    if high == low or rows <= MIN_ROWS:
        return 0
    strip = np.rint((image[-rows:].astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    counts = np.stack([np.bincount(row, minlength=256) for row in strip])
    least = max(MIN_ROWS, int(image.shape[0] * HEIGHTS[0]))
    for tolerance in TOLERANCES:
        shares = _within(counts, tolerance) / strip.shape[1]
        uniform = shares.max(axis=1)
        edges = np.flatnonzero((uniform[1:] >= PLAIN) & (uniform[:-1] <= IMAGE)) + 1
        for edge in edges[rows - edges >= least]:
            background = int(shares[edge:].sum(axis=0).argmax())
            painted = (shares[edge:, background] >= PAINTED) | (uniform[edge:] >= PLAIN)
            if painted[:-STRAY_ROWS].all() and _is_written_on(strip[edge:], background):
                return rows - int(edge)
    return 0


def _within(counts: NDArray, tolerance: int) -> NDArray:
    """Histograms (N, 256) -> for every level, how many pixels lie within the tolerance of it."""
    total = np.pad(counts, ((0, 0), (tolerance + 1, tolerance))).cumsum(axis=1)
    return total[:, 2 * tolerance + 1 :] - total[:, : -2 * tolerance - 1]


def _is_written_on(bar: NDArray[np.uint8], background: int) -> bool:
    """Whether many small figures of one colour stand on the background."""
    ink = np.abs(bar.astype(np.int16) - background) > INK_CONTRAST * 255
    if not INK[0] <= ink.mean() <= INK[1]:
        return False
    colour = _within(np.bincount(bar[ink], minlength=256)[None], TOLERANCES[-1]).max()
    boxes = cv2.connectedComponentsWithStats(ink.astype(np.uint8))[2][1:]
    heights = boxes[:, cv2.CC_STAT_HEIGHT]
    glyphs = np.count_nonzero((heights > 3) & (heights < 0.6 * len(bar)))
    return bool(colour >= PURE * ink.sum() and glyphs >= MIN_GLYPHS)
