"""Repeated scans, fused and restored, against the truth that the simulator knows."""

import numpy as np
import pytest
import torch

import aeanet
from aeanet.data.frames import FrameError
from aeanet.data.synthetic import Acquisition, simulate_frames
from aeanet.imaging.metrics import psnr
from aeanet.inference.frames import restore_frames
from aeanet.inference.prediction import PredictionError, super_resolve
from aeanet.networks.registry import load_model

SHAPE = (160, 192)


@pytest.mark.parametrize("magnification", [1.0, 2.0])
def test_eight_frames_are_better_than_one(magnification: float) -> None:
    """By 2.5 dB at least, though they drift; and the network is better than the mean alone."""
    settings = Acquisition(magnification=magnification)
    series = simulate_frames(7, 8, SHAPE, kind="porous", acquisition=settings)
    model = load_model("sem")
    found = restore_frames(model, list(series.frames), magnification=magnification, flips=1)
    assert not found.fused.aligned.left_out
    reference = found.fused.aligned.reference
    truth = series.truth(reference)
    assert found.result.shape == truth.shape
    assert found.result.dtype == np.float32

    one = super_resolve(model, series.frames[reference], magnification=magnification, flips=1)
    inner = np.zeros(truth.shape, bool)
    inner[24:-24, 24:-24] = True
    scores = [psnr(image, truth, inner) for image in (one, found.fused.pixels, found.result)]
    assert scores[2] - scores[0] > 2.5
    assert scores[2] - scores[1] > 0.5


def test_a_hot_pixel_leaves_no_trace() -> None:
    """It lies at one place of the detector, and so at another place of the specimen each time."""
    series = simulate_frames(8, 4, SHAPE, kind="grains")
    hot = series.frames * np.float32(0.01)
    clean = aeanet.restore_frames("sem", list(hot), flips=1)
    hot[:, 80, 90] = 1.0
    found = aeanet.restore_frames("sem", list(hot), flips=1)
    assert np.abs(found.result - clean.result).max() < 0.1 * clean.exposure.used
    assert found.exposure.used == pytest.approx(clean.exposure.used, rel=0.02)


def test_what_cannot_be_restored_is_refused() -> None:
    frames = list(simulate_frames(9, 2, (64, 80)).frames)
    with pytest.raises(FrameError, match="two or more; got 1"):
        aeanet.restore_frames("sem", frames[:1])
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        aeanet.restore_frames("sem", [255 * frame for frame in frames])
    with pytest.raises(ValueError, match=r"wanted floating point of shape \(H, W\)"):
        aeanet.restore_frames("sem", [np.stack([frame] * 3, 2) for frame in frames])
    with pytest.raises(PredictionError, match="wanted a number from"):
        aeanet.restore_frames("sem", frames, magnification=0)
    with pytest.raises(ValueError, match="wanted 1 or more"):
        aeanet.fuse_frames(frames, magnification=0.5)


def test_frames_may_be_tensors_or_lists() -> None:
    """As images may be for `super_resolve`."""
    frames = list(simulate_frames(9, 2, (64, 80)).frames)
    expected = aeanet.restore_frames("sem", frames, flips=1).result
    given = [torch.from_numpy(frames[0]), frames[1].tolist()]
    np.testing.assert_array_equal(aeanet.restore_frames("sem", given, flips=1).result, expected)
