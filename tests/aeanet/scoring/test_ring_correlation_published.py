"""Fourier ring correlation beside the package frc (tests only; `pip install frc`)."""

import numpy as np
import pytest
from scipy.signal.windows import tukey

from aeanet.scoring.ring_correlation import correlate_rings

# in no extra: it is another way to the same numbers, which aeanet itself does not use
frc = pytest.importorskip("frc", reason="the package frc is not installed")
SIDE = 384


def scans(period: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One field of structure, whose spectrum falls as a Gaussian, in two scans."""
    random = np.random.default_rng(seed)
    down, along = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)
    amplitude = np.exp(-((period * np.hypot(down, along)) ** 2))
    field = np.fft.ifft2(np.fft.fft2(random.standard_normal((SIDE, SIDE))) * amplitude).real
    one, other = (field + noise * random.standard_normal(field.shape) for _ in range(2))
    return one, other


@pytest.mark.parametrize(("period", "noise", "seed"), [(4, 0.2, 0), (6, 0.1, 1), (8, 0.3, 2)])
def test_rings_and_resolution_agree(period: float, noise: float, seed: int) -> None:
    one, other = scans(period, noise, seed)
    ours = correlate_rings(one, other)

    # the package wants images that fade at their borders
    window = np.outer(*2 * [tukey(SIDE, 0.5)])
    theirs = frc.two_frc(*((image - image.mean()) * window for image in (one, other)))
    theirs = theirs[1 : SIDE // 2]
    frequencies = np.arange(1, SIDE // 2) / SIDE
    at_ours = np.interp(ours.frequencies, frequencies, theirs)
    assert np.abs(at_ours - ours.values)[:-1].mean() < 0.02

    # It leaves smoothing to its users. What it calls the intersection is the middle of all rings
    # near 1/7, which scatters by some percent; this is where the curve falls below.
    smooth, middles = np.convolve(theirs, np.ones(5) / 5, "valid"), frequencies[2:-2]
    after = int(np.flatnonzero(smooth < 1 / 7)[0])
    around = slice(after - 1, after + 1)
    crossing = np.interp(-1 / 7, -smooth[around], middles[around])
    assert ours.resolution == pytest.approx(1 / crossing, rel=0.02)
