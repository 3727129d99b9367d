"""Repeated scans of one field, fused and then restored at the noise that is left."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames import FusedFrames, fuse_frames
from aeanet.imaging.exposure import Exposure
from aeanet.imaging.given import as_image, check_range
from aeanet.inference.exposure import find_exposure
from aeanet.inference.prediction import (
    RunOptions,
    exposure_for,
    known_magnification,
    reader,
    super_resolve_enlarged,
)
from aeanet.networks.base import Network
from aeanet.networks.registry import given_model


@dataclass(frozen=True)
class RestoredFrames:
    """What was made of repeated scans.

    Attributes:
        result: (round(H * magnification), round(W * magnification)) float32 in [0, 1].
        fused: the image from which it was restored, and how that was made.
        exposure: what the model was shown of this image.
    """

    result: NDArray[np.float32]
    fused: FusedFrames
    exposure: Exposure


def restore_frames(
    model: Network | str | os.PathLike[str],
    frames: Sequence[NDArray],
    *,
    magnification: float = 1.0,
    **options: Unpack[RunOptions],
) -> RestoredFrames:
    """Fuse repeated scans of one field (`fuse_frames`), and restore the image at the noise that is
    left.

    Hot, dead and other outlying pixels of each frame are replaced by the median around them before:
    they belong to the detector and not to the specimen, which drifts.

    Args:
        model: any network, on any device, or the name of a shipped model, such as "sem", or
            the path of a model or run.
        frames: two or more of one shape (H, W), floating point, intensities in [0, 1]. They may be
            tensors or lists of rows.
        magnification: result pixels per pixel of a frame.
        options: tile, flips, precision, group and progress, as in `super_resolve`.

    Returns:
        The result, on the field of the frame `fused.aligned.reference`, and the fused image.

    Raises:
        FrameError: as `align_frames`.
        ValueError: for any other image.
        PredictionError: for a magnification out of range.
        TilingError: for a tile that is too small.
        ModelError: for an unknown name.
    """
    model = given_model(model)
    magnification = known_magnification(model, magnification)
    frames = [as_image(frame) for frame in frames]
    for frame in frames:
        check_range(frame)
    fused = fuse_frames([without_outliers(f) for f in frames], magnification=magnification)
    return restore_fused(model, fused, **options)


def restore_fused(
    model: Network, fused: FusedFrames, **options: Unpack[RunOptions]
) -> RestoredFrames:
    """`restore_frames` for frames that are fused already, in intensities of [0, 1]."""
    # The frames were brought onto the grid of the result at once. No outlier is left to be kept.
    found = exposure_for(model, reader(fused.pixels), fused.pixels.shape)
    exposure = Exposure(found.low, found.high, found.used)
    shown = exposure.scale(fused.pixels)
    result = super_resolve_enlarged(
        model, shown, exposure, fused.magnification, "replace", **options
    )
    return RestoredFrames(result, fused, exposure)


def without_outliers(frame: NDArray) -> NDArray[np.float32]:
    """A frame whose outliers are replaced by the median around them."""
    found = find_exposure(reader(frame), frame.shape)
    clean = np.array(frame, np.float32)
    clean[found.rows, found.columns] = found.usual
    return clean
