"""Aligned frames fused into one image, and the noise that is left in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames.alignment import AlignedFrames, align_frames
from aeanet.data.frames.resampling import resample


@dataclass(frozen=True)
class FusedFrames:
    """One image made of repeated scans.

    Attributes:
        pixels: (round(H * magnification), round(W * magnification)) float32, on the grid of
            `upsample` of the reference, and in its units.
        aligned: how the frames lie to one another, and which ones are left out.
        weight: (N,), the share of each frame; 0 for those that are left out.
        magnification: pixels of the image per pixel of a frame.
        residue: of the shape of `pixels`: a sample of the noise that is left, with its strength
            and its correlation. It is the difference of the means of every second frame and of the
            others, scaled, so the specimen is not in it. 0 where only one of them has pixels.
    """

    pixels: NDArray[np.float32]
    aligned: AlignedFrames
    weight: NDArray[np.float64]
    magnification: float
    residue: NDArray[np.float32]

    def noise(self) -> tuple[float, float, float]:
        """The noise that is left: its standard deviation, in the units of `pixels`, and the
        correlation of neighbours on a line and in a column.
        """
        # 0 is where nothing is known, not a value of the noise
        known = self.residue[self.residue != 0]
        variance = float(np.mean(np.square(known, dtype=np.float64))) if known.size else 0.0
        if variance == 0:
            return 0.0, 0.0, 0.0

        # a product with an unknown pixel is 0, so the mean over all is divided by the known share
        share = known.size / self.residue.size
        pairs = (
            (self.residue[:, 1:], self.residue[:, :-1]),
            (self.residue[1:], self.residue[:-1]),
        )
        along, across = (
            float(np.mean(a * b, dtype=np.float64)) / (share * variance) for a, b in pairs
        )
        return float(np.sqrt(variance)), along, across


def fuse_frames(frames: Sequence[NDArray], *, magnification: float = 1.0) -> FusedFrames:
    """Align repeated scans of one field, leave out the bad ones, and average the others.

    The weight of a frame is one over the variance of its noise. Frames that lie apart by parts of a
    pixel sample the specimen at different places, so above a magnification of 1 their mean has less
    of the aliasing of a single frame.

    Args:
        frames: two or more of one shape (H, W), finite, in any units.
        magnification: pixels of the image per pixel of a frame, 1 or more.

    Returns:
        The image and how it was made.

    Raises:
        FrameError: as `align_frames`.
        ValueError: for a magnification below 1.
    """
    if not magnification >= 1:
        raise ValueError(f"magnification is {magnification}, wanted 1 or more.")
    return fuse_aligned(frames, align_frames(frames), magnification)


def fuse_aligned(
    frames: Sequence[NDArray], aligned: AlignedFrames, magnification: float = 1.0
) -> FusedFrames:
    """`fuse_frames` for frames whose alignment is known."""
    # the weights with which the mean has the least variance
    weight = np.zeros(len(frames))
    weight[aligned.used] = 1 / np.maximum(aligned.noise[aligned.used], 1e-9) ** 2
    weight /= weight.sum()

    # Sums over every second frame, and over the others.
    halves: list[tuple[NDArray, NDArray]] = []
    for index, n in enumerate(aligned.used):
        image, inside = resample(frames[n], aligned.displacement[n], magnification)
        image = np.float32(aligned.gain[n]) * image + np.float32(aligned.offset[n])
        mine = np.float32(weight[n]) * inside
        if index < 2:
            halves.append((mine * image, mine))
        else:
            halves[index % 2][0][...] += mine * image
            halves[index % 2][1][...] += mine

    # The two means differ by noise alone. But for a common factor its variance is 1 / w1 + 1 / w2;
    # times the square of `share` it is that of the mean of all, 1 / (w1 + w2).
    (first, first_weight), (second, second_weight) = halves
    total = first_weight + second_weight
    pixels = (first + second) / np.maximum(total, 1e-12)
    means = first / np.maximum(first_weight, 1e-12) - second / np.maximum(second_weight, 1e-12)
    share = np.sqrt(first_weight * second_weight) / np.maximum(total, 1e-12)
    return FusedFrames(pixels, aligned, weight, magnification, share * means)
