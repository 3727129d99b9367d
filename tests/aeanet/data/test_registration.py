"""Registration against an analytic texture sampled at known places, simulated scans and real
pairs.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aeanet.data import alignment
from aeanet.data.pairs import find_pairs, load_pairs
from aeanet.data.registration import RegistrationError, register_pair
from aeanet.data.synthetic import simulate_pair
from aeanet.imaging.upsampling import upsample
from aeanet.io.images import read_image


def scan(
    shape: tuple[int, int], matrix: np.ndarray, spot: float, noise: float, seed: int = 0
) -> np.ndarray:
    """What a scan sees whose pixel (x, y) lies at `matrix` (x, y, 1) of an endless texture given in
    HR px.

    The texture is a sum of waves, so that its value at any position and its blur by a Gaussian spot
    (HR px) are exact.
    """
    random = np.random.default_rng(seed)
    length, angle, phase = (
        random.uniform(5, 60, 150),
        random.uniform(0, 2 * np.pi, 150),
        random.uniform(0, 2 * np.pi, 150),
    )
    fx, fy = 2 * np.pi / length * np.cos(angle), 2 * np.pi / length * np.sin(angle)
    height = np.sqrt(length) * np.exp(-((2 * np.pi / length * spot) ** 2) / 2)
    along_x = np.exp(1j * np.outer(np.arange(shape[1]), fx * matrix[0, 0] + fy * matrix[1, 0]))
    along_y = np.exp(1j * np.outer(np.arange(shape[0]), fx * matrix[0, 1] + fy * matrix[1, 1]))
    start = height * np.exp(1j * (fx * matrix[0, 2] + fy * matrix[1, 2] + phase))
    image = 0.5 + 0.003 * ((along_y * start) @ along_x.T).real
    return np.clip(image + np.random.default_rng(seed + 1).normal(0, noise, shape), 0, 1).astype(
        np.float32
    )


def corner_errors(found: np.ndarray, truth: np.ndarray, hr_shape: tuple[int, int]) -> np.ndarray:
    """How far (HR px) the found matrix puts the LR positions of HR's four corners from those
    corners.
    """
    height, width = hr_shape
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    back = np.linalg.solve(truth[:, :2], (corners - truth[:, 2]).T).T
    return np.hypot(*(back @ found[:, :2].T + found[:, 2] - corners).T)


HR_SHAPE = (360, 480)
HR_SCAN = scan(HR_SHAPE, np.eye(3)[:2], 0.7, 0.01)


@settings(max_examples=40)
@given(
    magnification=st.floats(1.5, 4),
    rotation=st.floats(-0.05, 0.05),
    shear=st.floats(-0.02, 0.02),
    stretch=st.floats(0.98, 1.02),
    shift=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
    field=st.sampled_from([1.0, 1.4]),
)
def test_any_affine_placement_is_found(
    magnification: float,
    rotation: float,
    shear: float,
    stretch: float,
    shift: tuple[float, float],
    field: float,
) -> None:
    lr_shape = tuple(int(field * size / magnification) for size in HR_SHAPE)
    turn = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    linear = magnification * turn @ np.array([[stretch, shear], [0, 1 / stretch]])
    middle = [(np.array(shape[::-1]) - 1) / 2 for shape in (lr_shape, HR_SHAPE)]
    truth = np.column_stack([linear, middle[1] + shift - linear @ middle[0]])
    pair = register_pair(scan(lr_shape, truth, 0.5 * magnification, 0.03), HR_SCAN)
    found = np.array(pair.report.matrix)
    assert corner_errors(found, truth, HR_SHAPE).max() < 0.5
    assert abs(pair.report.magnification / magnification - 1) < 0.003
    assert pair.report.residual < 0.5
    # The mask is where the four LR pixels on either axis, of which a cubic kernel makes a value,
    # all exist.
    y, x = np.mgrid[: HR_SHAPE[0], : HR_SHAPE[1]].astype(float)
    place = np.linalg.solve(
        found[:, :2], np.stack([x.ravel() - found[0, 2], y.ravel() - found[1, 2]])
    )
    first, limit = np.floor(place) - 1, np.array([[lr_shape[1]], [lr_shape[0]]])
    exists = ((first >= 0) & (first + 3 < limit)).all(axis=0).reshape(HR_SHAPE)
    assert (
        np.mean(exists != pair.mask) < 1e-3
    )  # only where a position falls on a pixel's very centre
    assert pair.report.valid_fraction == pytest.approx(pair.mask.mean())


def test_lr_values_are_bicubic_and_nothing_else() -> None:
    """Each value against the convolution sum of Keys (1981), a = -0.75, written out."""
    truth = np.array([[2.02, 0.03, -3.3], [-0.02, 1.98, 4.1]])
    lr = scan((180, 240), truth, 1.0, 0.05)
    pair = register_pair(lr, HR_SCAN)
    np.testing.assert_array_equal(pair.hr, HR_SCAN)
    matrix, a = np.array(pair.report.matrix), -0.75

    def weight(t: float) -> float:
        t = abs(t)
        return (
            (a + 2) * t**3 - (a + 3) * t**2 + 1
            if t <= 1
            else a * (t**3 - 5 * t**2 + 8 * t - 4)
            if t < 2
            else 0
        )

    rows, columns = np.nonzero(pair.mask)
    for k in np.random.default_rng(1).integers(0, len(rows), 100):
        x, y = np.linalg.solve(matrix[:, :2], np.array([columns[k], rows[k]]) - matrix[:, 2])
        near = [
            (i, j) for i in range(int(y) - 1, int(y) + 3) for j in range(int(x) - 1, int(x) + 3)
        ]
        expected = sum(float(lr[i, j]) * weight(y - i) * weight(x - j) for i, j in near)
        assert pair.lr[rows[k], columns[k]] == pytest.approx(expected, abs=1e-4)


def test_upsample_is_the_kernel_of_registration() -> None:
    truth = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])
    lr = scan((180, 240), truth, 1.0, 0.03)
    pair = register_pair(lr, HR_SCAN)
    error = corner_errors(np.array(pair.report.matrix), truth, HR_SHAPE).max()
    plain = upsample(lr, 2)
    np.testing.assert_allclose(pair.lr[pair.mask], plain[pair.mask], atol=0.3 * error + 1e-5)
    # Placed in the centre already, so before and after are both the PSNR of plain enlargement.
    expected = peak_signal_noise_ratio(HR_SCAN[pair.mask], plain[pair.mask], data_range=1)
    assert pair.report.psnr_after == pytest.approx(expected, abs=0.1)
    assert pair.report.psnr_before == pytest.approx(expected, abs=0.1)


def test_psnr_before_is_that_of_the_centred_enlargement() -> None:
    lr = scan((180, 240), np.array([[2.0, 0, 6.5], [0, 2.0, -3.5]]), 1.0, 0.02)
    report = register_pair(lr, HR_SCAN).report
    inner = slice(2, -2)
    expected = peak_signal_noise_ratio(
        HR_SCAN[inner, inner], upsample(lr, 2)[inner, inner], data_range=1
    )
    assert report.psnr_before == pytest.approx(expected, abs=0.1)
    assert report.psnr_after > report.psnr_before + 10


@pytest.mark.parametrize("seed", range(3))
def test_simulated_scans_with_the_larger_field_in_lr(seed: int) -> None:
    simulated = simulate_pair(seed, shape=(480, 640))
    pair = register_pair(simulated.lr, simulated.hr, name=simulated.name)
    errors = corner_errors(
        np.array(pair.report.matrix), np.asarray(simulated.matrix, float), simulated.hr.shape
    )
    assert errors.max() < 0.5
    assert pair.name == simulated.name
    assert pair.mask.mean() > 0.95
    assert pair.report.psnr_after > pair.report.psnr_before


def test_the_same_input_gives_the_same_bits_on_any_number_of_threads() -> None:
    simulated = simulate_pair(4, shape=(480, 640))
    threads = cv2.getNumThreads()
    results = []
    try:
        for count in (1, 2, 2):
            cv2.setNumThreads(count)
            pair = register_pair(simulated.lr, simulated.hr)
            results.append((pair.report, pair.lr.tobytes(), pair.mask.tobytes()))
    finally:
        cv2.setNumThreads(threads)
    assert results[0] == results[1] == results[2]


def test_gain_and_offset_of_one_image_do_not_move_it() -> None:
    truth = np.array([[2.0, 0.01, 3.3], [0, 1.99, -2.1]])
    lr = scan((180, 240), truth, 1.0, 0.02)
    pair = register_pair(0.5 * lr + 0.3, HR_SCAN)
    assert corner_errors(np.array(pair.report.matrix), truth, HR_SHAPE).max() < 0.5
    assert pair.lr.min() > 0.25  # intensities are left as they were


def refusal(lr: np.ndarray, hr: np.ndarray) -> str:
    with pytest.raises(RegistrationError) as error:
        register_pair(lr, hr)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_refusals_tell_the_true_reason() -> None:
    half = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])
    lr = scan((180, 240), half, 1.0, 0.02)
    assert "do not show the same field" in refusal(
        lr, scan(HR_SHAPE, np.eye(3)[:2], 0.7, 0.01, seed=1)
    )
    assert "too little structure" in refusal(np.full((180, 240), 0.5), HR_SCAN)
    assert "too little structure" in refusal(lr, np.random.default_rng(0).random(HR_SHAPE))
    assert "swapped" in refusal(HR_SCAN, lr)
    aside = np.array([[2.0, 0, 600], [0, 2.0, 380]])  # 360 x 340 of HR's 960 x 720 px are common
    assert "covers only 17" in refusal(
        scan((360, 480), aside, 1.0, 0.02), scan((720, 960), np.eye(3)[:2], 0.7, 0.01)
    )
    assert "two directions" in refusal(
        scan((180, 171), half @ np.diag([1.4, 1, 1]), 1.0, 0.02), HR_SCAN
    )
    assert "5 x 5" in refusal(lr, np.ones((5, 5)))
    assert "shape (3, 180, 240)" in refusal(np.stack([lr] * 3), HR_SCAN)
    assert "NaN" in refusal(np.where(lr > 0.6, np.nan, lr), HR_SCAN)
    assert "the distortion is not an affine one" in refusal(lr, bent(5))


def test_features_that_agree_on_a_wrong_placement_are_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lr = scan((180, 240), np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]), 1.0, 0.02)
    wrong = np.array([[2.0, 0, 80.0], [0, 2.0, -60.0]])
    monkeypatch.setattr(alignment, "_match", lambda lr, hr: (wrong, 100, 100))
    assert "correlate" in refusal(lr, HR_SCAN)


def bent(amplitude: float) -> np.ndarray:
    """HR_SCAN with every place moved by up to `amplitude` px along both axes, in slow waves."""
    y, x = np.mgrid[: HR_SHAPE[0], : HR_SHAPE[1]].astype(np.float32)
    return cv2.remap(
        HR_SCAN, x + amplitude * np.sin(y / 40), y + amplitude * np.sin(x / 40), cv2.INTER_CUBIC
    )


@pytest.mark.parametrize("amplitude", [0.5, 1.5])
def test_the_residual_is_the_displacement_that_no_affine_fit_removes(amplitude: float) -> None:
    pair = register_pair(
        scan((180, 240), np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]), 1.0, 0.01), bent(amplitude)
    )
    y, x = (values.ravel() for values in np.mgrid[: HR_SHAPE[0], : HR_SHAPE[1]])
    moved = amplitude * np.column_stack([np.sin(y / 40), np.sin(x / 40)])
    affine = np.column_stack([x, y, np.ones(len(x))])
    left = moved - affine @ np.linalg.lstsq(affine, moved, rcond=None)[0]
    assert pair.report.residual == pytest.approx(np.median(np.hypot(*left.T)), rel=0.3)


def inner_scores(pair) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """PSNR and SSIM of the registered LR, 24 px from the edge and where it is real."""
    inner = slice(24, -24)
    lr, hr, mask = pair.lr[inner, inner], pair.hr[inner, inner], pair.mask[inner, inner]
    psnr = -10 * np.log10(np.mean((lr[mask].astype(float) - hr[mask]) ** 2))
    return psnr, structural_similarity(lr, hr, data_range=1, full=True)[1][mask].mean()


@pytest.mark.real_data
def test_real_pairs_reach_what_a_good_affine_fit_gives(real_pairs: Path) -> None:
    """All register; a good affine fit gives 31.6 to 35.9 dB on single pairs and 33.85 dB, SSIM
    0.811 in the mean.
    """
    found = load_pairs(real_pairs)
    assert found.refused == {}
    assert len(found.pairs) == 32
    scores = np.array([inner_scores(pair) for pair in found.pairs])
    assert scores[:, 0].min() > 31.6
    assert scores.mean(axis=0)[0] >= 33.8
    assert scores.mean(axis=0)[1] >= 0.81
    for pair in found.pairs:
        assert abs(pair.report.magnification - 2) < 0.02
        assert pair.report.residual < 1
        assert pair.report.psnr_after > pair.report.psnr_before
        assert pair.report.valid_fraction > 0.95


@pytest.mark.real_data
def test_real_images_of_other_fields_are_refused(real_pairs: Path) -> None:
    pairs = {pair.name: pair for pair in find_pairs(real_pairs)}
    for lr, hr in (("01", "34"), ("16", "02"), ("35", "37")):
        assert "do not show the same field" in refusal(
            read_image(pairs[lr].lr).pixels, read_image(pairs[hr].hr).pixels
        )
