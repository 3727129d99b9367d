"""Repeated scans as pairs to learn from without a clean image: each scan with the mean of the
others, whose noise is independent of its own (Noise2Noise: Lehtinen et al., ICML 2018).
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames.alignment import AlignedFrames, align_frames
from aeanet.data.frames.resampling import resample
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair, RegistrationReport

_NOT_MOVED = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def pairs_of_frames(frames: Mapping[str, NDArray]) -> PairSet:
    """Align repeated scans of one field, and lay beside each of them the mean of the others.

    The scan stays as it was recorded, so a network learns its noise; the others are interpolated at
    its pixels, and brought to its contrast and brightness.

    Args:
        frames: two or more of one shape (H, W), finite, by name.

    Returns:
        A pair for each scan, the mean as its HR, at a magnification of 1; its mask is where at
        least half of the others lie. Bad frames are in `refused`, with the reason.

    Raises:
        FrameError: as `align_frames`.
    """
    names, images = list(frames), list(frames.values())
    aligned = align_frames(images)
    pairs = []
    for number in aligned.used:
        mean, inside = _mean_of_others(images, aligned, number)
        scan = np.asarray(images[number], np.float32)
        pairs.append(pair_of(names[number], scan, mean, inside))
    refused = {names[number]: f"{why}." for number, why in aligned.left_out.items()}
    return PairSet(pairs, refused)


def pair_of(
    name: str,
    scan: NDArray[np.float32],
    target: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> RegisteredPair:
    """A scan and what it is to become, on the same grid, as a pair."""
    share = float(mask.mean())
    report = RegistrationReport(0, 0, 1.0, math.nan, math.nan, math.nan, share, _NOT_MOVED)
    return RegisteredPair(name, scan, target, mask, report)


def _mean_of_others(
    frames: list[NDArray], aligned: AlignedFrames, number: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The mean of the other frames at the pixels of one, (H, W), and where at least half of them
    lie.
    """
    shape = frames[number].shape
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    others = [other for other in aligned.used if other != number]
    for other in others:
        image, inside = resample(frames[other], _from_one_to_another(aligned, number, other))
        image = np.float32(aligned.gain[other]) * image + np.float32(aligned.offset[other])
        total += image * inside
        count += inside

    mean = total / np.maximum(count, 1)
    mean = (mean - np.float32(aligned.offset[number])) / np.float32(aligned.gain[number])
    return mean.astype(np.float32), count >= max(1, len(others) / 2)


def _from_one_to_another(aligned: AlignedFrames, one: int, other: int) -> NDArray[np.float64]:
    """(H, 2), (y, x) in px: the pixel (i, j) of one frame lies at (i, j) + displacement[i] in the
    other.
    """
    to_one, to_other = aligned.displacement[one], aligned.displacement[other]
    lines = np.arange(len(to_one))

    # The line of the reference that each line of the first frame shows.
    shown = np.interp(lines, lines + to_one[:, 0], lines)
    change = to_other - to_one
    return np.stack([np.interp(shown, lines, axis) for axis in change.T], axis=1)
