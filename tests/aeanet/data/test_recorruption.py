"""Noise that is drawn like that of an image, and pairs whose noises are uncorrelated."""

import numpy as np
import pytest
from numpy.typing import NDArray

from aeanet.data.recorruption import draw_noise, recorrupt

SHAPE = (400, 500)


def _correlation(noise: NDArray, down: int, right: int) -> float:
    rows, columns = noise.shape
    first, second = noise[: rows - down, : columns - right], noise[down:, right:]
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize(("along", "across"), [(0.0, 0.0), (0.29, 0.0), (0.5, 0.3), (0.7, 0.0)])
def test_strength_and_correlation_are_those_asked_for(along: float, across: float) -> None:
    sd = np.full(SHAPE, 0.1, np.float32)
    sd[:, 250:] = 0.02
    noise = draw_noise(sd, along, across, np.random.default_rng(0))
    assert noise[:, :250].std() == pytest.approx(0.1, rel=0.02)
    assert noise[:, 250:].std() == pytest.approx(0.02, rel=0.02)
    even = noise / sd
    assert _correlation(even, 0, 1) == pytest.approx(along, abs=0.01)
    assert _correlation(even, 1, 0) == pytest.approx(across, abs=0.01)
    assert abs(_correlation(even, 0, 4)) < 0.01


def test_what_no_response_of_three_pixels_gives_is_brought_near() -> None:
    sd = np.ones(SHAPE, np.float32)
    most, none = (draw_noise(sd, given, 0.0, np.random.default_rng(0)) for given in (0.95, -0.3))
    assert _correlation(most, 0, 1) == pytest.approx(0.7, abs=0.01)
    assert abs(_correlation(none, 0, 1)) < 0.01


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_the_noises_of_input_and_target_are_uncorrelated(strength: float) -> None:
    """So a network that brings one to the other learns the truth: Pang et al., CVPR 2021."""
    random = np.random.default_rng(1)
    sd = np.full(SHAPE, 0.05, np.float32)
    truth = np.linspace(0.2, 0.8, SHAPE[1], dtype=np.float32) * np.ones(SHAPE, np.float32)
    image = truth + draw_noise(sd, 0.29, 0.0, random)
    noisier, target = recorrupt(image, draw_noise(sd, 0.29, 0.0, random), strength)
    noises = noisier - truth, target - truth
    for down, right in ((0, 0), (0, 1), (1, 0)):
        rows, columns = SHAPE[0] - down, SHAPE[1] - right
        first, second = noises[0][:rows, :columns], noises[1][down:, right:]
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01
    assert noises[0].var() == pytest.approx(0.05**2 * (1 + strength**2), rel=0.03)
