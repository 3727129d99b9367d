"""Repeated scans as pairs: what a network is shown, and what it is to learn."""

import numpy as np
import pytest
from numpy.typing import NDArray

from aeanet.data.frames import FrameError
from aeanet.data.frames.pairs import pairs_of_frames
from aeanet.data.pairs import PairSet
from aeanet.data.synthetic.frames import SimulatedFrames, simulate_frames


@pytest.fixture(scope="module")
def simulated() -> SimulatedFrames:
    return simulate_frames(3, 4, (192, 224), kind="porous")


@pytest.fixture(scope="module")
def found(simulated: SimulatedFrames) -> PairSet:
    # one is recorded at another contrast and brightness
    frames = dict(zip("abcd", simulated.frames, strict=True))
    return pairs_of_frames(frames | {"b": 0.8 * frames["b"] + 0.1})


def _error(image: NDArray, truth: NDArray, mask: NDArray) -> float:
    return float(np.sqrt(np.mean(np.square(image - truth)[mask])))


def test_the_scan_is_as_recorded_and_the_mean_lies_on_it(
    simulated: SimulatedFrames, found: PairSet
) -> None:
    """The mean of three has the noise of one over the root of three, where the truth is that of the
    scan: at its place, and in its brightness.
    """
    assert [pair.name for pair in found.pairs] == list("abcd")
    assert not found.refused
    for number, pair in enumerate(found.pairs):
        gain, offset = (0.8, 0.1) if pair.name == "b" else (1.0, 0.0)
        scan = gain * simulated.frames[number] + offset
        np.testing.assert_array_equal(pair.lr, scan.astype(np.float32))
        assert pair.report.magnification == 1.0
        assert pair.mask.mean() > 0.9

        truth = gain * simulated.truth(number) + offset
        ratio = _error(pair.hr, truth, pair.mask) / _error(pair.lr, truth, pair.mask)
        assert ratio < 1.1 / np.sqrt(3), (pair.name, ratio)


def test_the_noise_of_the_mean_is_independent_of_the_scan(
    simulated: SimulatedFrames, found: PairSet
) -> None:
    for number, pair in enumerate(found.pairs):
        gain, offset = (0.8, 0.1) if pair.name == "b" else (1.0, 0.0)
        truth = gain * simulated.truth(number) + offset
        noises = [(image - truth)[pair.mask] for image in (pair.lr, pair.hr)]
        assert abs(np.corrcoef(*noises)[0, 1]) < 0.03, pair.name


def test_bad_scans_are_left_out_with_the_reason(simulated: SimulatedFrames) -> None:
    frames = dict(zip("abcd", simulated.frames, strict=True))
    other = simulate_frames(9, 1, (192, 224), kind="leaves").frames[0]
    found = pairs_of_frames(frames | {"other": other})
    assert [pair.name for pair in found.pairs] == list("abcd")
    assert list(found.refused) == ["other"]
    with pytest.raises(FrameError):
        pairs_of_frames({"a": frames["a"]})
