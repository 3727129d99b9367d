"""What the simulator draws: kinds of specimens, settings, examples of all of them; the same pixels
under one fingerprint.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from aeanet.data.synthetic import (
    FINGERPRINT,
    KINDS,
    Acquisition,
    Example,
    draw_scene,
    simulate_example,
    simulate_image,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_scenes_with_structure(kind: str) -> None:
    first, other = (draw_scene(np.random.default_rng(seed), (96, 160), kind) for seed in (3, 4))
    for scene in (first, other):
        assert scene.kind == kind
        assert scene.signal.shape == (96, 160)
        assert scene.signal.dtype == np.float32
        assert np.isfinite(scene.signal).all()
        assert scene.signal.min() >= 0
        assert scene.deviation > 0.005
    assert abs(np.corrcoef(first.signal.ravel(), other.signal.ravel())[0, 1]) < 0.6


def test_the_kind_is_drawn_if_none_is_given() -> None:
    assert len({draw_scene(np.random.default_rng(seed), (32, 32)).kind for seed in range(10)}) > 4


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    def example(seed: int) -> Example:
        rng = np.random.default_rng(seed)
        return simulate_example(
            draw_scene(rng, (160, 160)), Acquisition.draw(rng), rng, origin=(9, 20), crop=96
        )

    first, again, other = example(7), example(7), example(8)
    assert first.acquisition == again.acquisition != other.acquisition
    np.testing.assert_array_equal(first.lr, again.lr)
    np.testing.assert_array_equal(first.hr, again.hr)
    assert np.abs(first.hr - other.hr).max() > 0.1
    image, same = (simulate_image(7, (40, 52)) for _ in range(2))
    np.testing.assert_array_equal(image.lr, same.lr)
    np.testing.assert_array_equal(image.hr, same.hr)


def test_the_settings_drawn_cover_the_stated_ranges() -> None:
    rng = np.random.default_rng(0)
    drawn = [Acquisition.draw(rng, smooth_noise=True) for _ in range(3000)]
    ranges = {
        "magnification": (1, 4),
        "stretch": (0.985, 1.015),
        "spot": (0.27, 1.3),
        "astigmatism": (1, 2),
        "dwell": (0, 1),
        "binning": (0, 1),
        "band": (0, 0.3),
        "slow": (0, 1.3),
        "smoothing": (0, 1.3),
        "across": (0, 1.3),
        "resampled": (0, 0.5),
        "zoom": (1, 2),
        "brightness": (10, 235),
        "contrast": (4, 60),
        "gamma": (0.55, 1.82),
        "charging": (0, 0.6),
        "streaks": (0, 0.1),
        "jitter": (0, 0.3),
        "vibration": (0, 2),
        "hum": (0, 6),
        "spikes": (0, 0.001),
        "bits": (8, 16),
    }
    for name, (low, high) in ranges.items():
        values = np.array([getattr(settings, name) for settings in drawn])
        assert low <= values.min() <= low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) <= values.max() <= high, name
    for settings in drawn:
        kept = settings.noise_kept
        assert 0 <= settings.shot * kept / settings.frames <= 60
        assert 0 <= settings.read * math.sqrt(kept / settings.frames) <= 45
        assert 0 <= settings.stripes / math.sqrt(settings.frames) <= 6
    magnifications = np.array([settings.magnification for settings in drawn])
    assert np.mean(magnifications == 1) == pytest.approx(0.33, abs=0.04)
    assert np.mean(magnifications == 2) == pytest.approx(0.37, abs=0.04)
    # The noise where the signal is the mean of a usual scene: from nearly none to more than any
    # structure.
    noise = np.sqrt([float(s.noise_variance(2 * s.contrast + s.background)) for s in drawn])
    assert np.quantile(noise, 0.03) < 0.8
    assert np.quantile(noise, 0.97) > 25
    assert np.mean((noise > 3) & (noise < 8)) > 0.3


def test_a_magnification_can_be_asked_for() -> None:
    rng = np.random.default_rng(0)
    assert {Acquisition.draw(rng, 2.5).magnification for _ in range(20)} == {2.5}


def test_examples_of_all_kinds_and_settings_are_finite_images() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        scene = draw_scene(rng, (128, 128), kind)
        for _ in range(12):
            origin = tuple(rng.integers(0, 128 - 48 + 1, 2).tolist())
            example = simulate_example(scene, Acquisition.draw(rng), rng, origin=origin, crop=48)
            assert example.lr.shape == example.hr.shape == (48, 48)
            assert example.lr.dtype == example.hr.dtype == np.float32
            assert -0.3 < example.lr.min() <= example.lr.max() < 1.3
            assert 0 <= example.hr.min() <= example.hr.max() <= 1
            assert 0 <= example.noise < 0.5


PIXELS = {
    "particles": (0.6218, 0.0985, 0.6218, 0.0985),
    "porous": (0.2287, 0.0529, 0.2296, 0.0504),
    "mixed": (0.5955, 0.1127, 0.5947, 0.0756),
    "fibres": (0.2527, 0.0674, 0.2526, 0.0655),
    "foams": (0.2773, 0.1174, 0.2776, 0.1213),
    "grains": (0.4305, 0.0470, 0.4304, 0.0469),
    "layers": (0.5026, 0.0987, 0.5025, 0.0972),
    "lithography": (0.4427, 0.0749, 0.4422, 0.0664),
    "polished": (0.7013, 0.0939, 0.7011, 0.0925),
    "tissue": (0.2810, 0.0722, 0.2813, 0.0741),
    "leaves": (0.3472, 0.0658, 0.3477, 0.0675),
}
"""Kind -> mean and standard deviation of LR and of the target of an example."""


def test_the_pixels_are_those_that_the_fingerprint_names() -> None:
    """Trainings go on and records are compared under it: other pixels need another fingerprint."""
    assert FINGERPRINT == "6a46296569f46cc7e6242746735c5bf64c0d3865c58c3cecaaf3586dde246caf"
    assert tuple(PIXELS) == KINDS
    for seed, (kind, expected) in enumerate(PIXELS.items()):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, (64, 64), kind)
        example = simulate_example(scene, Acquisition.draw(rng), rng, origin=(8, 8), crop=48)
        found = [
            measure(image) for image in (example.lr, example.hr) for measure in (np.mean, np.std)
        ]
        assert found == pytest.approx(expected, abs=3e-4), kind
