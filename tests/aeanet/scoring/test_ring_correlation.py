"""Fourier ring correlation against what noise of a known spectrum lets expect."""

import math

import numpy as np
import pytest
from scipy.signal.windows import tukey

from aeanet.scoring.ring_correlation import correlate_lines, correlate_rings


def field(shape: tuple[int, int], period: float, seed: int) -> np.ndarray:
    """Random structure whose spectrum falls as a Gaussian."""
    down, along = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])
    amplitude = np.exp(-((period * np.hypot(down, along)) ** 2))
    white = np.random.default_rng(seed).standard_normal(shape)
    return np.fft.ifft2(np.fft.fft2(white) * amplitude).real


def scans(shape: tuple[int, int], period: float, noise: float) -> list[np.ndarray]:
    structure = field(shape, period, 0)
    return [
        structure + noise * np.random.default_rng(seed).standard_normal(shape) for seed in (1, 2)
    ]


def expected(period: float, noise: float) -> float:
    """The period at which signal over signal and noise is 1/7: the power of the signal is a sixth
    of that of the noise.
    """
    return period / math.sqrt(-0.5 * math.log(noise**2 / 6))


@pytest.mark.parametrize(("period", "noise"), [(4, 0.2), (6, 0.3), (8, 0.2)])
def test_two_scans_show_the_same_down_to_where_noise_prevails(period: float, noise: float) -> None:
    found = correlate_rings(*scans((320, 400), period, noise))
    assert found.resolution == pytest.approx(expected(period, noise), rel=0.04)
    signal = np.exp(-2 * (period * found.frequencies) ** 2)
    assert np.abs(found.values - signal / (signal + noise**2)).mean() < 0.03
    assert found.frequencies[-1] == pytest.approx(0.5, abs=1 / 320)


def test_a_shift_between_two_scans_does_not_count() -> None:
    one, other = scans((256, 256), 6, 0.2)
    moved = np.roll(other, (5, -3), (0, 1))
    together, apart = correlate_rings(one, other), correlate_rings(one, moved)
    assert apart.resolution == pytest.approx(together.resolution, rel=0.01)


@pytest.mark.parametrize(("period", "noise"), [(4, 0.2), (8, 0.2)])
def test_the_lines_of_one_scan_tell_what_two_scans_do(period: float, noise: float) -> None:
    one, _ = scans((512, 400), period, noise)
    assert correlate_lines(one).resolution == pytest.approx(expected(period, noise), rel=0.05)


def test_noise_along_the_lines_is_no_structure_and_smooth_noise_is() -> None:
    white = np.random.default_rng(0).standard_normal((256, 256))
    along = white + 0.5 * (np.roll(white, 1, 1) + np.roll(white, -1, 1))
    both = along + 0.5 * (np.roll(along, 1, 0) + np.roll(along, -1, 0))
    assert math.isnan(correlate_lines(along).resolution)
    assert correlate_lines(both).resolution < 5


def test_the_limits() -> None:
    same = field((128, 128), 1, 0)
    assert correlate_rings(same, same).resolution == 2
    one, other = (np.random.default_rng(seed).standard_normal((128, 128)) for seed in (0, 1))
    assert math.isnan(correlate_rings(one, other).resolution)
    with pytest.raises(ValueError, match="wanted one shape"):
        correlate_rings(same, same[1:])
    with pytest.raises(ValueError, match="63 x 128 px, wanted at least 64"):
        correlate_lines(same[:126])


def test_it_is_that_of_a_published_package() -> None:
    """`frc` of TU Delft, which needs a NumPy before 2. Its resolution is the mean over the rings
    near 1/7, so the curves are compared.
    """
    frc = pytest.importorskip("frc", reason="the package frc is not installed")
    for period in (4, 6, 9):
        one, other = scans((256, 256), period, 0.1)
        fading = tukey(256, 0.5)[:, None] * tukey(256, 0.5)
        theirs = frc.two_frc(*((image - image.mean()) * fading for image in (one, other)))[1:]
        values = correlate_rings(one, other).values
        assert np.abs(values - theirs)[theirs > 1 / 7].max() < 0.02
