"""Which of several frames are copies of one another or unlike the others, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames.lines import SIGMA
from aeanet.data.frames.others import beside_others
from aeanet.imaging.arithmetic import in_blocks

MIN_COMMON = 0.3  # share of a frame that most of the others show too
MIN_CORRELATION = 0.5  # of its structure with that of the others, over that of the usual frame
UNRELATED = 0.15  # a lower correlation is one of fields that have nothing in common
SAME_NOISE = 0.8  # a higher correlation of their noise is one of a frame and its copy
MIN_SHARPNESS = 0.8  # contrast of its finest structure, over that of the usual frame
MAX_CHANGED = 0.15  # share of its area

_STRUCTURE = (1.5, 8.0)  # px: blurs between which there is structure
_FINEST = (0.7, 2.0)
_BLOCK = 16  # px
_SAMPLES = 16_384  # of the noise of a frame, about
_TIMES = 3.0  # as large as usual is the mean square of the difference in a changed block
# The sixth difference across lines, divided so that noise keeps its variance.
_ACROSS = np.array([[-1], [6], [-15], [20], [-15], [6], [-1]], np.float32) / math.sqrt(924)


@dataclass(frozen=True)
class Likeness:
    """How a frame compares with the mean of the others.

    Attributes:
        common: share of the frame that most of the others show too.
        correlation: of their structures.
        sharpness: covariance of their finest structures over that of their structures, which the
            noise does not change.
        difference: its mean square, blurred, in blocks of 16 px; NaN where they cannot be compared.
    """

    common: float
    correlation: float
    sharpness: float
    difference: NDArray[np.float64]


def line_noise(frame: NDArray[np.float32]) -> float:
    """Standard deviation of the noise of a frame, about: by differences across lines, of which the
    specimen has the least share.
    """
    return 1.4826 * float(np.median(np.abs(_across_lines(frame))))


def copies(frames: Sequence[NDArray[np.float32]]) -> dict[int, int]:
    """The frames that have the noise of an earlier one, and which one that is.

    No two scans have the same noise, so a copy is found though it was saved with another contrast,
    brightness or bit depth.

    Args:
        frames: (H, W) each, as they were read.
    """
    samples = []
    for frame in frames:
        noise = _across_lines(frame).ravel()
        noise = noise[:: max(noise.size // _SAMPLES, 1)]
        # Edges are limited to what noise reaches, since scans of one field share them.
        limit = 3 * line_noise(frame) or np.inf
        noise = np.clip(noise, -limit, limit)
        samples.append(noise / max(float(np.linalg.norm(noise)), 1e-30))

    directions = np.stack(samples)
    same = np.triu(np.abs(directions @ directions.T) > SAME_NOISE, 1)
    return {int(n): int(same[:, n].argmax()) for n in np.flatnonzero(same.any(0))}


def bad_frames(
    frames: NDArray[np.float32], inside: NDArray[np.bool_], noise: NDArray[np.float64]
) -> dict[int, str]:
    """The frames that are unlike the others, with the reason.

    Of two frames that show one field nobody can say which one is bad.

    Args:
        frames: (N, H, W), on one grid and equally bright.
        inside: (N, H, W), where each lies within its field.
        noise: (N,), of each before it was interpolated (`line_noise`), in the units of `frames`.
    """
    # the sharpness is measured against the others, so their share of it is divided out
    found = [_compare(*each) for each in beside_others(frames, inside)]
    usual_correlation = float(np.median([each.correlation for each in found]))
    sharpness = _own_share(np.array([each.sharpness for each in found]))

    # What is usual in a block depends on the specimen there, and on the noise of both.
    own = np.maximum(noise, 1e-6) ** 2
    expected = own + (own.sum() - own) / (len(own) - 1) ** 2
    blocks = np.stack([each.difference for each in found]) / expected[:, None, None]
    blocks = blocks[:, np.isfinite(blocks).any(0)]
    blocks = blocks / np.maximum(np.nanmedian(blocks, axis=0), 1e-12)

    # the gravest first: of a frame of another field sharpness and changes mean nothing
    reasons: dict[int, str] = {}
    for n, each in enumerate(found):
        known = blocks[n][np.isfinite(blocks[n])]
        changed = float(np.mean(known > _TIMES)) if known.size else 0.0
        if each.common < MIN_COMMON:
            reasons[n] = f"no more than {each.common:.0%} of its field is common to the others"
        elif each.correlation < max(MIN_CORRELATION * usual_correlation, UNRELATED):
            reasons[n] = "it does not show what the others show"
        elif sharpness[n] < MIN_SHARPNESS:
            share = f"{max(sharpness[n], 0):.0%}"
            reasons[n] = f"it is blurred: fine structure has {share} of the usual contrast"
        elif changed > MAX_CHANGED:
            reasons[n] = f"{changed:.0%} of its area differ from the others by more than noise"
    return reasons


def _across_lines(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each pixel with three lines on either side what its column has beside its structure."""
    return np.asarray(cv2.filter2D(frame, cv2.CV_32F, _ACROSS)[3:-3], np.float32)


def _compare(frame: NDArray, others: NDArray, shared: NDArray[np.bool_]) -> Likeness:
    common = float(shared.mean())
    if common < MIN_COMMON:
        return Likeness(common, 0.0, 0.0, np.full_like(_block_means(frame), np.nan))

    # products with the others: noise, which is independent, adds nothing to them in the mean
    mine, theirs = (_band(image, *_STRUCTURE)[shared] for image in (frame, others))
    structure = float(mine @ theirs)
    correlation = structure / max(float(np.linalg.norm(mine) * np.linalg.norm(theirs)), 1e-12)
    mine, theirs = (_band(image, *_FINEST)[shared] for image in (frame, others))
    sharpness = float(mine @ theirs) / max(structure, 1e-12)

    # a block with a pixel that cannot be compared would have too small a mean
    difference = cv2.GaussianBlur(frame - others, (0, 0), SIGMA)
    squares = _block_means(difference**2 * shared)
    whole = _block_means(shared.astype(np.float32)) == 1
    return Likeness(common, correlation, sharpness, np.where(whole, squares, np.nan))


def _own_share(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factors of which each product is one times the mean of the others, over their median.

    Two frames have one product, which does not tell their factors apart.
    """
    others = len(products) - 1
    if others == 1:
        return np.ones(2)
    products = np.maximum(products, 1e-12)
    factors = np.sqrt(products)
    for _ in range(20):
        # The root of two steps, since each alone may swing about the solution.
        better = products * others / np.maximum(factors.sum() - factors, 1e-12)
        factors = np.sqrt(factors * better)
    return factors / np.median(factors)


def _band(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """What a blur of `low` px leaves and one of `high` px takes away."""
    narrow, wide = (cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (low, high))
    return np.asarray(narrow - wide, np.float32)


def _block_means(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The means of whole blocks, (rows, columns)."""
    means: NDArray[np.float64] = in_blocks(values.astype(np.float64), _BLOCK).mean((1, 3))
    return means
