"""Simulated pairs: what a microscopist would measure on them, and what the demo relies on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio
from skimage.registration import phase_cross_correlation

from aeanet.data.synthetic import SimulatedPair, simulate_pair

SHAPE = (240, 320)
SEEDS = (11, 1, 0)  # an aggregate, a porous body, beads with particles


@pytest.fixture(scope="module")
def pairs() -> list[SimulatedPair]:
    """One pair of each kind of specimen."""
    return [simulate_pair(seed, shape=SHAPE) for seed in SEEDS]


def _on_hr_grid(pair: SimulatedPair) -> np.ndarray:
    """LR (H, W) warped by the true matrix onto the HR grid."""
    size = pair.hr.shape[::-1]
    return cv2.warpAffine(
        pair.lr, np.array(pair.matrix), size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def _lr_noise(pair: SimulatedPair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(noise, intensity, flat) on the part of the LR grid that HR covers, in grey levels of 255.

    The noise is LR minus the nearly clean HR brought onto the LR grid; flat is True away from
    edges.
    """
    hr = cv2.GaussianBlur(pair.hr * 255, (0, 0), 0.8)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    rows, columns = pair.lr.shape
    inside = (
        slice(rows // 4 + 12, 3 * rows // 4 - 12),
        slice(columns // 4 + 12, 3 * columns // 4 - 12),
    )
    expected = cv2.warpAffine(hr, np.array(pair.matrix), (columns, rows), flags=flags)[inside]
    noise = pair.lr[inside] * 255 - expected
    smooth = cv2.GaussianBlur(expected, (0, 0), 1.5)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return noise - cv2.GaussianBlur(noise, (0, 0), 4), expected, slope < np.quantile(slope, 0.6)


def _high_frequency(image: np.ndarray) -> float:
    """Standard deviation (grey levels of 255) of an image after a second difference along both
    axes.
    """
    mask = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 6
    return float(cv2.filter2D(image * 255, cv2.CV_32F, mask)[4:-4, 4:-4].std())


def test_same_seed_same_bits() -> None:
    first, again = simulate_pair(5, shape=(96, 128)), simulate_pair(5, shape=(96, 128))
    assert first.name == again.name
    assert first.matrix == again.matrix
    np.testing.assert_array_equal(first.lr, again.lr)
    np.testing.assert_array_equal(first.hr, again.hr)


def test_other_seed_other_specimen() -> None:
    first, other = simulate_pair(5, shape=(96, 128)), simulate_pair(6, shape=(96, 128))
    assert first.name != other.name
    assert abs(np.corrcoef(first.hr.ravel(), other.hr.ravel())[0, 1]) < 0.5


def test_the_kind_of_specimen_is_drawn_from_the_seed() -> None:
    assert [simulate_pair(seed, shape=(64, 64)).name.split("-")[0] for seed in SEEDS] == [
        "aggregate",
        "porous",
        "mixed",
    ]


@pytest.mark.parametrize("shape", [(32, 32), (96, 128), (131, 77)])
def test_pixels_are_eight_bit_grey_levels(shape: tuple[int, int]) -> None:
    for pair in (simulate_pair(seed, shape=shape) for seed in SEEDS):
        for image in (pair.lr, pair.hr):
            assert image.shape == shape
            assert image.dtype == np.float32
            assert 0 <= image.min() < image.max() <= 1
            np.testing.assert_array_equal(image, (np.rint(image * 255) / 255).astype(np.float32))


def test_a_shape_too_small_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels, got 16 x 400"):
        simulate_pair(0, shape=(16, 400))


def test_grey_levels_are_those_of_real_micrographs(pairs: list[SimulatedPair]) -> None:
    for pair in pairs:
        for image in (pair.lr * 255, pair.hr * 255):
            assert 50 < image.mean() < 100
            assert 8 < image.std() < 28
            assert image.min() > 15
            assert image.max() < 250


def test_lr_noise_is_correlated_along_the_scan_line_only(pairs: list[SimulatedPair]) -> None:
    # Real pairs: about 0.29 along the line, 0.01 across it (0.27 and -0.02 after the high-pass used
    # here).
    for pair in pairs:
        noise, _, flat = _lr_noise(pair)
        variance = noise[flat].var()
        along = (noise[:, 1:] * noise[:, :-1])[flat[:, 1:] & flat[:, :-1]].mean() / variance
        across = (noise[1:] * noise[:-1])[flat[1:] & flat[:-1]].mean() / variance
        assert along == pytest.approx(0.27, abs=0.09)
        assert across == pytest.approx(0.0, abs=0.09)


def test_noise_grows_with_intensity(pairs: list[SimulatedPair]) -> None:
    for pair in pairs:
        noise, intensity, flat = _lr_noise(pair)
        low, high = np.quantile(intensity[flat], [0.25, 0.75])
        assert noise[flat & (intensity > high)].std() > 1.2 * noise[flat & (intensity < low)].std()


def test_lr_is_much_noisier_than_hr(pairs: list[SimulatedPair]) -> None:
    for pair in pairs:
        assert _high_frequency(pair.lr) > 2 * _high_frequency(pair.hr)


def test_lr_has_half_the_magnification(pairs: list[SimulatedPair]) -> None:
    for pair in pairs:
        linear = np.array(pair.matrix)[:, :2]
        np.testing.assert_allclose(np.linalg.svd(linear, compute_uv=False), 2, atol=0.06)
        # The middle of the LR field is the middle of the HR field, but for the shift of at most 18
        # px and some drift.
        rows, columns = SHAPE
        middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
        assert np.abs(np.array(pair.matrix) @ [*middle, 1] - middle).max() < 19


def test_the_true_matrix_aligns_the_pair(pairs: list[SimulatedPair]) -> None:
    inner = slice(24, -24), slice(24, -24)
    for pair in pairs:
        rows, columns = SHAPE
        aligned = _on_hr_grid(pair)
        nominal = np.array([[2, 0, -(columns - 1) / 2], [0, 2, -(rows - 1) / 2]])
        unaligned = cv2.warpAffine(pair.lr, nominal, (columns, rows), flags=cv2.INTER_CUBIC)
        before, after = (
            peak_signal_noise_ratio(pair.hr[inner], x[inner], data_range=1)
            for x in (unaligned, aligned)
        )
        assert after > before + 1
        assert 30 < after < 38
        shift, _, _ = phase_cross_correlation(
            cv2.GaussianBlur(pair.hr, (0, 0), 1.5)[inner],
            cv2.GaussianBlur(aligned, (0, 0), 1.5)[inner],
            upsample_factor=20,
            normalization=None,
        )
        assert np.abs(shift).max() < 0.35


def test_hr_shows_detail_that_lr_cannot(pairs: list[SimulatedPair]) -> None:
    # Beyond the LR Nyquist frequency (a quarter of a cycle per HR px) the upsampled LR no longer
    # follows HR.
    for pair in pairs:
        window = np.outer(np.hanning(SHAPE[0]), np.hanning(SHAPE[1]))
        spectra = [
            np.fft.fft2((image - image.mean()) * window) for image in (pair.hr, _on_hr_grid(pair))
        ]
        radius = np.hypot(
            *np.meshgrid(np.fft.fftfreq(SHAPE[0]), np.fft.fftfreq(SHAPE[1]), indexing="ij")
        )
        cross, power = (spectra[0] * spectra[1].conj()).real, [np.abs(s) ** 2 for s in spectra]

        def correlation(
            ring: np.ndarray, cross: np.ndarray = cross, power: list[np.ndarray] = power
        ) -> float:
            return float(cross[ring].sum() / np.sqrt(power[0][ring].sum() * power[1][ring].sum()))

        assert correlation((radius > 0) & (radius < 0.04)) > 0.95
        assert correlation((radius > 0.27) & (radius < 0.4)) < 0.3
