"""Simulated scans against what the settings say: noise, blur, places, ranges, and the same bits for
the same seed.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from aeanet.data.synthetic import (
    HR_SPOT,
    Acquisition,
    Example,
    Scene,
    draw_scene,
    scan_image,
    simulate_example,
    simulate_image,
)
from aeanet.imaging.upsampling import upsample

NOISELESS = Acquisition(
    magnification=1,
    spot=HR_SPOT,
    band=0,
    brightness=120,
    contrast=40,
    shot=0,
    read=0,
    jitter=0,
    bits=16,
)


def _scene(signal: np.ndarray) -> Scene:
    """A scene whose signal is in grey levels if brightness and contrast are its own mean and
    deviation.
    """
    return Scene("test", signal.astype(np.float32), float(signal.mean()), float(signal.std()))


def _scan(
    scene: Scene, settings: Acquisition, crop: int, origin: tuple[int, int] = (0, 0), seed: int = 0
) -> Example:
    return simulate_example(scene, settings, np.random.default_rng(seed), origin=origin, crop=crop)


def _as_drawn(scene: Scene, **settings: float) -> Acquisition:
    """Settings in which a signal of 1 is one grey level above `background`, black is 20."""
    return dataclasses.replace(
        NOISELESS,
        brightness=20 + scene.mean,
        contrast=scene.deviation,
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"shot": 0.8, "read": 2.0, "band": 0.15},
        {"shot": 3.0, "read": 0.0, "band": 0.0, "background": 10.0},
        {"shot": 4.0, "read": 6.0, "band": 0.3, "frames": 4},
        {"shot": 0.8, "read": 2.0, "band": 0.25, "smoothing": 0.6},
    ],
)
def test_noise_has_the_variance_and_the_correlation_of_the_settings(
    settings: dict[str, float],
) -> None:
    levels, side = (10.0, 40.0, 90.0, 170.0), 400
    scene = _scene(np.repeat(levels, side // 4)[:, None] * np.ones((1, side)))
    acquisition = _as_drawn(scene, **settings)
    example = _scan(scene, acquisition, side)
    band = settings["band"]
    expected_mean = []
    for index, level in enumerate(levels):
        noise = example.lr[index * 100 + 10 : (index + 1) * 100 - 10] * 255 - (20 + level)
        expected = acquisition.noise_variance(level + acquisition.background)
        expected_mean.append(expected)
        assert noise.mean() == pytest.approx(0, abs=5 * math.sqrt(expected / noise.size * 3))
        assert noise.var() == pytest.approx(expected, rel=0.05)
        if not acquisition.smoothing:
            along = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
            two_apart = (noise[:, 2:] * noise[:, :-2]).mean() / noise.var()
            across = (noise[1:] * noise[:-1]).mean() / noise.var()
            assert along == pytest.approx(2 * band / (1 + 2 * band**2), abs=0.025)
            assert two_apart == pytest.approx(band**2 / (1 + 2 * band**2), abs=0.025)
            assert across == pytest.approx(0, abs=0.025)
    assert example.noise * 255 == pytest.approx(math.sqrt(np.mean(expected_mean)), rel=0.02)


@pytest.mark.parametrize(
    ("settings", "along", "across"),
    [
        # Gaussian filters of a standard deviation s correlate neighbours by exp(-1 / (4 s^2)),
        # if they are wide enough for their weights to be sampled.
        ({"slow": 0.9}, 0.734, 0),
        ({"across": 0.9}, 0, 0.734),
        ({"smoothing": 0.9, "across": 0.8}, 0.734, 0.842),
        # Weights 0.15, 0.7, 0.15: twice 0.105 over 0.535.
        ({"resampled": 0.3}, 0.393, 0.393),
        ({"zoom": 2.0}, 0.67, 0.67),
    ],
)
def test_smooth_noise_has_the_variance_and_the_correlation_of_the_settings(
    settings: dict[str, float], along: float, across: float
) -> None:
    side = 400
    scene = _scene(np.tile([99.0, 101.0], (side, side // 2)))
    acquisition = dataclasses.replace(NOISELESS, read=12.0, contrast=1e-3, **settings)
    noise = _scan(scene, acquisition, side).lr[10:-10, 10:-10] * 255 - 120
    assert noise.var() == pytest.approx(acquisition.noise_variance(0.0), rel=0.05)
    found = [(v[:, 1:] * v[:, :-1]).mean() / noise.var() for v in (noise, noise.T)]
    assert found == pytest.approx([along, across], abs=0.03)


def test_the_noise_of_the_default_settings_is_that_of_measured_micrographs() -> None:
    # 0.66 to 1.0 grey levels per grey level, a correlation of 0.25 to 0.31 along the line.
    settings = Acquisition()
    assert 0.66 < float(settings.noise_variance(100.0) - settings.noise_variance(0.0)) / 100 < 1.0
    assert 0.25 < 2 * settings.band / (1 + 2 * settings.band**2) < 0.31


def _wave(side: int, frequency: tuple[float, float]) -> np.ndarray:
    """100 + 50 cos(2 pi (fy y + fx x)), frequencies in cycles per px."""
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    return 100 + 50 * np.cos(2 * np.pi * (frequency[0] * y + frequency[1] * x))


@pytest.mark.parametrize("magnification", [1.0, 2.0, 3.3, 8.0])
@pytest.mark.parametrize("frequency", [(0.0, 0.06), (0.05, 0.0), (0.04, -0.03)])
def test_lr_is_the_scene_times_the_analytic_transfer_function(
    magnification: float, frequency: tuple[float, float]
) -> None:
    spot, ratio, axis, dwell, binning, band = 0.5, 1.6, 0.7, 0.8, 0.5, 0.2
    scene = _scene(_wave(240, frequency))
    settings = _as_drawn(
        scene,
        magnification=magnification,
        spot=spot,
        astigmatism=ratio,
        axis=axis,
        dwell=dwell,
        binning=binning,
        band=band,
    )
    shape = (int(240 / magnification), int(240 / magnification))
    lr = scan_image(scene, settings, np.random.default_rng(0), shape).lr * 255
    fy, fx = np.array(frequency) * magnification  # cycles per LR px
    along, across = (
        math.cos(axis) * fx + math.sin(axis) * fy,
        math.cos(axis) * fy - math.sin(axis) * fx,
    )
    transfer = math.exp(-2 * math.pi**2 * spot**2 * (along**2 * ratio + across**2 / ratio))
    transfer *= (
        np.sinc(fx * dwell)
        * np.sinc(fy * binning)
        * (1 + 2 * band * math.cos(2 * math.pi * fx))
        / (1 + 2 * band)
    )
    place = magnification * (np.arange(lr.shape[0]) + 0.5) - 0.5
    phase = 2 * np.pi * (frequency[0] * place[:, None] + frequency[1] * place[None])
    edge = (
        math.ceil(24 / magnification) + 2
    )  # beyond the edges the scene is mirrored, and the wave is not
    inner = slice(edge, -edge)
    np.testing.assert_allclose(
        lr[inner, inner], (120 + 50 * transfer * np.cos(phase))[inner, inner], atol=0.1
    )


def test_the_target_is_the_scene_under_the_spot_of_a_good_scan() -> None:
    for frequency in ((0.0, 0.2), (0.15, 0.1)):
        scene = _scene(_wave(160, frequency))
        hr = _scan(scene, _as_drawn(scene, magnification=2.0, spot=0.5), 160).hr * 255
        transfer = math.exp(-2 * math.pi**2 * HR_SPOT**2 * (frequency[0] ** 2 + frequency[1] ** 2))
        expected = 120 + transfer * (_wave(160, frequency) - 100)
        np.testing.assert_allclose(hr[24:-24, 24:-24], expected[24:-24, 24:-24], atol=0.1)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("magnification", [1.0, 1.37, 2.0, 3.0])
def test_lr_lies_on_the_grid_of_its_target(magnification: float, registered: bool) -> None:
    # A scene of many small leaves: where there are few, the correlation's window shifts its peak.
    scene = draw_scene(np.random.default_rng(10), (320, 320), "leaves")
    settings = dataclasses.replace(
        NOISELESS, magnification=magnification, registered=registered, stretch=1.01
    )
    # A sharper spot at 3x would alias, and what is aliased has no place.
    settings = dataclasses.replace(settings, vibration=0.8, spot=0.85 if magnification > 1 else 0.6)
    for turn in (0, 1, 6):
        settings = dataclasses.replace(settings, turn=turn)
        example = _scan(scene, settings, 192, (60, 50))
        window = np.outer(np.hanning(192), np.hanning(192))
        images = (window * (image - image.mean()) for image in (example.hr, example.lr))
        shift, _, _ = phase_cross_correlation(*images, upsample_factor=100, normalization=None)
        assert np.abs(shift).max() < 0.05


def test_turns_are_the_symmetries_of_the_square() -> None:
    scene = draw_scene(np.random.default_rng(2), (128, 128), "polished")
    plain = _scan(scene, NOISELESS, 128).hr
    seen = []
    for turn in range(8):
        hr = _scan(scene, dataclasses.replace(NOISELESS, turn=turn), 128).hr
        image = plain.T if turn & 1 else plain
        image = image[::-1] if turn & 2 else image
        image = image[:, ::-1] if turn & 4 else image
        np.testing.assert_allclose(hr, image, atol=2e-3)
        seen.append(hr)
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(seen) for b in seen[:i])


def test_lr_is_interpolated_as_the_program_does_it() -> None:
    """A crop is that of the whole enlarged image, if its random place on the grid of LR is the same
    (one in four).
    """
    scene = draw_scene(np.random.default_rng(5), (256, 256), "leaves")
    settings = dataclasses.replace(NOISELESS, magnification=2.0, spot=0.4)
    whole = scan_image(scene, settings, np.random.default_rng(0), (128, 128))
    expected = upsample(whole.lr, 2.0)[64:160, 96:192]
    crops = [_scan(scene, settings, 96, (64, 96), seed).lr for seed in range(16)]
    differences = [float(np.abs(crop - expected).max()) for crop in crops]
    # Not zero: the scene is not limited to its sampling, so its interpolation depends a little on
    # what lies around.
    assert min(differences) < 0.1 / 255
    assert 0 < np.sum(np.array(differences) < 5 / 255) < 10


def test_a_clean_image_at_1x_is_its_own_target() -> None:
    scene = draw_scene(np.random.default_rng(3), (160, 160), "mixed")
    for changes in (
        {},
        {"band": 0.3},
        {"spot": 1.3, "dwell": 1.0},
        {"spot": 0.4, "smoothing": 0.5},
        {"slow": 0.9, "across": 0.7, "resampled": 0.4},
        {"gamma": 0.6},
    ):
        setting = dataclasses.replace(NOISELESS, **changes)  # type: ignore[arg-type]
        example = _scan(scene, setting, 96, (30, 30))
        assert -10 * math.log10(float(((example.lr - example.hr) ** 2).mean())) > 60


@pytest.mark.parametrize("zoom", [1.3, 2.0])
def test_the_target_of_a_digital_zoom_has_the_contrast_that_the_zoom_leaves(zoom: float) -> None:
    for frequency in (0.04, 0.1):
        scene = _scene(_wave(240, (0.0, frequency)))
        settings = _as_drawn(scene, spot=0.75, zoom=zoom)
        image = scan_image(scene, settings, np.random.default_rng(0), (240, 240))
        wave = np.exp(2j * np.pi * frequency * np.arange(40, 190))
        lr, hr = (
            2 * ((values[100, 40:190] - 120 / 255) * wave).mean() for values in (image.lr, image.hr)
        )
        assert abs(lr) * 255 == pytest.approx(abs(hr) * 255, rel=2e-3)
        assert np.angle(lr / hr) == pytest.approx(0, abs=1e-3)


def test_defocus_at_2x_is_undone_in_the_target_up_to_a_limit() -> None:
    sharp, soft, lost = (
        dataclasses.replace(NOISELESS, magnification=2.0, spot=s).target_axes()
        for s in (0.4, 0.9, 1.3)
    )
    assert sharp == pytest.approx((HR_SPOT, HR_SPOT))
    assert soft == pytest.approx((HR_SPOT, HR_SPOT))
    assert min(lost) > 1.5


def test_disturbed_lines_change_lr_and_not_the_target() -> None:
    scene = draw_scene(np.random.default_rng(4), (192, 192), "porous")
    clean = _scan(scene, NOISELESS, 128, (20, 20))
    for name, value in {
        "stripes": 3,
        "jitter": 0.4,
        "streaks": 0.1,
        "hum": 4,
        "spikes": 1e-3,
        "read": 3,
    }.items():
        example = _scan(scene, dataclasses.replace(NOISELESS, **{name: value}), 128, (20, 20))
        np.testing.assert_array_equal(example.hr, clean.hr)
        assert np.abs(example.lr - clean.lr).max() > 0.01, name
    stripes = _scan(scene, dataclasses.replace(NOISELESS, stripes=3), 128, (20, 20)).lr - clean.lr
    assert stripes.mean(axis=1).std() * 255 == pytest.approx(3, rel=0.25)
    assert (stripes - stripes.mean(axis=1, keepdims=True)).std() * 255 < 0.2
    for name, value in {"charging": 0.6, "vibration": 1.0}.items():
        example = _scan(scene, dataclasses.replace(NOISELESS, **{name: value}), 128, (20, 20))
        assert np.abs(example.hr - clean.hr).max() > 0.05, name
        np.testing.assert_allclose(example.lr, example.hr, atol=0.02)


@pytest.mark.parametrize("bits", [8, 12])
def test_whole_images_have_the_bits_and_the_grid_of_the_program(bits: int) -> None:
    settings = Acquisition(magnification=1.5, stretch=1.01, registered=True, turn=1, bits=bits)
    image = simulate_image(2, (50, 71), kind="fibres", acquisition=settings)
    levels = image.lr * (2**bits - 1)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert image.lr.shape == (50, 71)
    assert image.hr.shape == upsample(image.lr, image.magnification).shape
    assert (image.acquisition.stretch, image.acquisition.registered) == (1.0, False)
    assert np.corrcoef(image.hr.ravel(), upsample(image.lr, 1.5).ravel())[0, 1] > 0.7


def test_what_cannot_be_simulated_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got 16 x 64"):
        draw_scene(rng, (16, 64))
    with pytest.raises(ValueError, match="kind is 'wood', wanted one of particles"):
        draw_scene(rng, (32, 32), "wood")
    with pytest.raises(ValueError, match="crop of 40 px"):
        _scan(draw_scene(rng, (48, 48)), NOISELESS, 40, (10, 0))
    for wrong, message in (
        ({"magnification": 0.5}, "1 to 8"),
        ({"magnification": 8.1}, "1 to 8"),
        ({"bits": 7}, "8 to 16"),
        ({"frames": 0}, "1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            Acquisition(**wrong)  # type: ignore[arg-type]
