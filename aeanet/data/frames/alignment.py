"""How the lines of each frame lie on a common grid, and which frames cannot be used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames.checks import bad_frames, copies, line_noise
from aeanet.data.frames.lines import SIGMA, better_splines, spline_basis
from aeanet.data.frames.others import beside_others
from aeanet.data.frames.resampling import resample
from aeanet.data.frames.shifts import find_places
from aeanet.errors import UserError
from aeanet.imaging.arithmetic import straight_line

MIN_SIDE = 64  # px
_MEDIAN_SQUARE = 0.4549  # of numbers with a normal distribution of variance 1
_ROUNDS = 6  # of the fit, at most
_LIKELY = 5.0  # by which the contrast changes at most, in a round
_SETTLED = 0.02  # px: change of a spline below which there is no further round


class FrameError(UserError):
    """Frames that cannot be aligned with one another."""


@dataclass(frozen=True)
class AlignedFrames:
    """How N frames (H, W) lie to one another.

    Attributes:
        reference: the frame on whose grid the others are brought: the one in the middle of them.
        displacement: (N, H, 2), (y, x) in px: the pixel (i, j) of the reference lies at
            (i, j) + displacement[n, i] in frame n.
        gain, offset: (N,) each: gain * frame + offset has the contrast and the brightness of the
            reference.
        noise: (N,), standard deviation of the noise of gain * frame + offset after a blur of 1 px,
            with all else that is unlike the other frames.
        left_out: frame -> why it is not used; its other numbers mean nothing.
    """

    reference: int
    displacement: NDArray[np.float64]
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]
    noise: NDArray[np.float64]
    left_out: dict[int, str]

    @property
    def used(self) -> list[int]:
        """The frames that are used, in their order."""
        return [n for n in range(len(self.gain)) if n not in self.left_out]


def align_frames(frames: Sequence[NDArray]) -> AlignedFrames:
    """Find the drift from scan to scan of one field and within each scan, and the bad frames.

    The shifts of whole frames come from the phase correlation of pairs (`shifts`), the slow
    displacement of their lines from a least-squares fit to the mean of the other frames (`lines`).
    They are counted from one of the frames, so a distortion of its own is not seen. Frames must
    overlap by half or more, or a shift may be taken for another one.

    Args:
        frames: two or more of one shape (H, W), finite, in any units.

    Returns:
        The displacements, what makes the frames equally bright, and which ones are left out.

    Raises:
        FrameError: fewer than two frames are given or can be used, they differ in size, or one is
            no such image.
    """
    images = _checked(frames)
    left_out = _useless(images)
    _check_enough(len(images), left_out)
    alignment = _Alignment(images, [n for n in range(len(images)) if n not in left_out])

    # Bad frames spoil the mean with which the others are compared, so each time anew.
    alignment.improve()
    while bad := alignment.bad_frames():
        left_out |= bad
        _check_enough(len(images), left_out)
        alignment.leave_out(bad)
        alignment.improve()
    return alignment.result(left_out)


class _Alignment:
    """An alignment in the making.

    Inside, the frames have a mean of 0 and a contrast of 1, that of what is coarser than the noise.

    Args:
        images: all frames, (H, W) float32 each.
        used: those that are aligned.
    """

    def __init__(self, images: list[NDArray[np.float32]], used: list[int]) -> None:
        # the blur leaves the specimen, so the contrast is not that of the noise
        self.used, number = used, len(images)
        coarse = [_blur(image, 4 * SIGMA) for image in images]
        self.means = np.array([image.mean() for image in coarse], np.float64)
        self.contrasts = np.array([image.std() or 1.0 for image in coarse], np.float64)
        self.images = [
            ((image - mean) / contrast).astype(np.float32)
            for image, mean, contrast in zip(images, self.means, self.contrasts, strict=True)
        ]
        self.blurred = [_blur(image, SIGMA) for image in self.images]
        self.gain, self.offset = np.ones(number), np.zeros(number)

        # at first each frame moves as a whole: B-splines of equal coefficients are constant
        self.basis = spline_basis(images[0].shape[0])
        places = np.zeros((number, 2))
        places[used] = find_places([images[n] for n in used])
        self.splines = np.repeat(places[:, :, None], self.basis.shape[1], axis=2)
        self._choose_reference()

    def improve(self) -> None:
        """Fit the displacements, gains and offsets of all frames that are used."""
        for _ in range(_ROUNDS):
            # one round: each frame is fitted to the mean of the others as they lie before it
            before = self.splines.copy()
            frames, inside = self._on_one_grid(self.blurred)
            compared = zip(self.used, beside_others(frames, inside), strict=True)
            for n, (frame, others, shared) in compared:
                if not shared.any():
                    continue

                # frame = slope * others + level is undone; the slope is limited, since a frame that
                # shows something else may fit any
                self.splines[n] = better_splines(
                    frame - others, others, shared, self.basis, self.splines[n]
                )
                slope, level = straight_line(others[shared], frame[shared])
                slope = min(max(slope, 1 / _LIKELY), _LIKELY)
                self.gain[n] /= slope
                self.offset[n] = (self.offset[n] - level) / slope

            # All are counted from the reference, and from the usual contrast.
            self.splines = self.splines - self.splines[self.reference]
            usual = np.median(self.gain[self.used])
            self.gain, self.offset = self.gain / usual, self.offset / usual
            if np.abs(self.splines - before)[self.used].max() < _SETTLED:
                break

    def bad_frames(self) -> dict[int, str]:
        """Those that are unlike the others, with the reason."""
        noise = np.array([self.gain[n] * line_noise(self.images[n]) for n in self.used])
        found = bad_frames(*self._on_one_grid(self.images), noise)
        return {self.used[index]: reason for index, reason in found.items()}

    def leave_out(self, bad: Iterable[int]) -> None:
        """Go on without some frames."""
        self.used = [n for n in self.used if n not in set(bad)]
        self._choose_reference()

    def result(self, left_out: dict[int, str]) -> AlignedFrames:
        """What was found."""
        # The median hardly counts the few pixels that changed. For normal noise the mean square
        # follows from it.
        noise = np.full(len(self.images), np.nan)
        frames, inside = self._on_one_grid(self.blurred)
        squares = []
        for frame, others, shared in beside_others(frames, inside):
            squares.append(np.median((frame - others)[shared] ** 2) / _MEDIAN_SQUARE)
        noise[self.used] = _own_noise(np.array(squares))

        # (N, H, 2), from the splines of y and x
        displacement = np.stack([self.basis @ spline.T for spline in self.splines])

        # From the units of each frame to those of the reference.
        gain = self.gain / self.contrasts
        offset = self.offset - gain * self.means
        unit, level = gain[self.reference], offset[self.reference]
        return AlignedFrames(
            self.reference,
            displacement,
            gain / unit,
            (offset - level) / unit,
            noise / unit,
            left_out,
        )

    def _choose_reference(self) -> None:
        """The frame nearest to the median of all places, so that most of its field is common; the
        displacements are counted from it.
        """
        places = self.splines[self.used].mean(2)
        distance = np.linalg.norm(places - np.median(places, axis=0), axis=1)
        self.reference = self.used[int(distance.argmin())]
        self.splines = self.splines - self.splines[self.reference]

    def _on_one_grid(
        self, images: list[NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The frames that are used, equally bright, and where each lies within its field."""
        frames, inside = [], []
        for n in self.used:
            frame, within = resample(images[n], self.basis @ self.splines[n].T)
            frames.append(np.float32(self.gain[n]) * frame + np.float32(self.offset[n]))
            inside.append(within)
        return np.stack(frames), np.stack(inside)


def _blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _own_noise(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The noise of each frame from the mean square of its difference from the mean of the others,
    which has noise too.
    """
    others = len(squares) - 1
    share = np.full((others + 1, others + 1), 1 / others**2)
    np.fill_diagonal(share, 1)
    variance = np.linalg.lstsq(share, squares, rcond=None)[0]
    return np.sqrt(np.maximum(variance, 0.05 * squares))


def _checked(frames: Sequence[NDArray]) -> list[NDArray[np.float32]]:
    """The frames as float32, of one shape."""
    images = [np.ascontiguousarray(frame, np.float32) for frame in frames]
    if len(images) < 2:
        raise FrameError(f"Frames of one field are wanted, two or more; got {len(images)}.")

    # the first frame says which size all have; messages count from 1
    for n, image in enumerate(images):
        if image.ndim != 2 or image.shape != images[0].shape:
            raise FrameError(
                f"Frames of one size (H, W) are wanted: the first has shape {images[0].shape}, "
                f"number {n + 1} has {image.shape}."
            )
        if not np.isfinite(image).all():
            raise FrameError(f"Frame {n + 1} holds NaN or infinite values.")
    if min(images[0].shape) < MIN_SIDE:
        raise FrameError(
            f"Frames of at least {MIN_SIDE} x {MIN_SIDE} px are wanted, got "
            f"{images[0].shape[1]} x {images[0].shape[0]}."
        )
    return images


def _useless(images: list[NDArray[np.float32]]) -> dict[int, str]:
    """Frames without content of their own, with the reason."""
    left_out = {
        n: f"it has the noise of frame {first + 1}, so it is a copy of it"
        for n, first in copies(images).items()
    }
    for n, image in enumerate(images):
        if image.min() == image.max():
            left_out[n] = "it has one value throughout"
    return left_out


def _check_enough(number: int, left_out: dict[int, str]) -> None:
    """Raise FrameError unless two frames are left."""
    if number - len(left_out) < 2:
        reasons = "; ".join(f"frame {n + 1}: {reason}" for n, reason in sorted(left_out.items()))
        raise FrameError(f"Fewer than two of {number} frames can be used ({reasons}).")
