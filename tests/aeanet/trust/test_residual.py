"""The noise of an image, and what a restoration took away."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from noisy import noise_along_lines, smooth

from aeanet.data.synthetic import WholeImage
from aeanet.io.images import read_image
from aeanet.networks.registry import build_model
from aeanet.trust import (
    Noise,
    assess,
    estimate_noise,
    write_residual,
)
from aeanet.trust.noise import share_shown
from aeanet.trust.pattern import lost_pattern
from aeanet.trust.residual import residual


@pytest.mark.parametrize("sd", [0.01, 0.04, 0.15])
@pytest.mark.parametrize("band", [0.0, 0.2])
def test_the_noise_of_a_smooth_image_is_found_within_a_tenth(sd: float, band: float) -> None:
    clean = smooth()
    noise = estimate_noise(clean + sd * noise_along_lines(clean.shape, 1, band))
    assert noise.sd == pytest.approx(sd, rel=0.1)
    assert noise.along == pytest.approx(2 * band / (1 + 2 * band**2), abs=0.08)
    if sd > 0.01:  # weaker noise does not hide the specimen's own correlation
        assert abs(noise.across) < 0.15


def test_shot_noise_grows_with_the_brightness() -> None:
    clean = smooth(shape=(400, 400))
    noise = estimate_noise(
        clean + np.sqrt(0.004 * clean) * np.random.default_rng(1).standard_normal(clean.shape)
    )
    assert noise.slope == pytest.approx(0.004, rel=0.3)
    assert noise.variance(np.array([0.5]))[0] == pytest.approx(0.002, rel=0.15)


@pytest.mark.parametrize(
    ("sigmas", "sd"),
    [((0.0, 0.0), 0.05), ((0.7, 0.0), 0.05), ((0.0, 0.7), 0.03), ((0.6, 0.8), 0.02)],
)
def test_smooth_noise_is_found_whole_by_coarse_differences(
    sigmas: tuple[float, float], sd: float
) -> None:
    """White noise after Gaussian filters along and across, (sigma, sigma), which correlate
    neighbours by what each filter shares with itself one pixel on.
    """
    clean = smooth(shape=(300, 300))
    white, expected = np.random.default_rng(2).standard_normal(clean.shape), []
    for axis, sigma in enumerate(sigmas):
        kernel = np.exp(-0.5 * (np.arange(-5, 6) / max(sigma, 0.01)) ** 2)
        kernel /= np.sqrt((kernel**2).sum())
        white = cv2.filter2D(white, -1, kernel[None] if axis == 0 else kernel[:, None])
        expected.append(float(kernel[1:] @ kernel[:-1]))

    found = estimate_noise(clean + sd * white)
    assert found.coarse == pytest.approx(sd, rel=0.12)
    assert (found.along, found.across) == pytest.approx(tuple(expected), abs=0.07)
    assert found.sd == pytest.approx(sd * np.sqrt(share_shown(expected[1])), rel=0.15)


def test_the_noise_of_simulated_images_is_found(images: list[WholeImage]) -> None:
    strong = [
        image for image in images if image.noise > 0.015 and not image.acquisition.software_smooths
    ]
    ratios = np.array([estimate_noise(image.lr).sd / image.noise for image in strong])
    assert len(ratios) >= 10
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(ratios - 1) < 0.2) >= 0.75


def test_noise_alone_that_was_taken_away_looks_like_noise() -> None:
    clean = smooth()
    noise = Noise(sd=0.05, slope=0.0, offset=0.0025, along=0.37, across=0.0)
    found = residual(clean + 0.05 * noise_along_lines(clean.shape, 3), clean, noise)
    assert np.abs(list(found.numbers.values())).max() < 0.15, found.numbers


def test_the_report_names_smooth_noise_and_its_strength() -> None:
    clean = smooth(shape=(300, 300))
    white = np.random.default_rng(4).standard_normal(clean.shape)
    filtered = cv2.GaussianBlur(white, (0, 0), 0.8)
    for noise, named in (
        (filtered / filtered.std(), True),
        (noise_along_lines(white.shape, 4), False),
    ):
        report = assess(build_model("unet"), clean + 0.03 * noise, clean)
        assert report.smooth == named
        assert report.record()["smooth"] == named
        line = report.summary()
        assert ("It is smooth" in line) == named
        assert float(line.split()[1].rstrip("%")) == pytest.approx(3, rel=0.2)

    # Differences of a fine texture are correlated like smooth noise, but it was not taken away.
    texture = 0.45 + 0.03 * filtered / filtered.std()
    assert not assess(build_model("unet"), texture + 0.002 * white, texture).smooth


def test_structure_that_was_taken_away_shows() -> None:
    cells = (np.indices((160, 200)) // 40).sum(0) % 2
    clean = 0.4 + 0.2 * cells
    image = clean + 0.03 * noise_along_lines(clean.shape, 3)
    noise = Noise(sd=0.03, slope=0.0, offset=0.0009, along=0.37, across=0.0)
    good, bad = (
        residual(image, result, noise).numbers
        for result in (clean, cv2.GaussianBlur(image, (0, 0), 4))
    )
    assert abs(good["strength"]) < 0.05 < 0.1 < bad["strength"]
    assert abs(good["structure"]) < 0.2 < bad["structure"]
    kept = residual(image, image, noise).numbers
    assert kept["strength"] < -0.5
    assert kept["left"] > 0.2


@pytest.mark.parametrize("shape", [(64, 64), (160, 192)])
def test_noise_alone_seldom_has_a_pattern(shape: tuple[int, int]) -> None:
    """One of a hundred is above 0; of 40, more than 3 are with a probability below 0.1 %."""
    noise = (0.03 * noise_along_lines(shape, seed).astype(np.float32) for seed in range(40))
    assert sum(lost_pattern(image) > 0 for image in noise) <= 3


def test_a_blur_of_the_image_is_not_taken_for_lost_structure() -> None:
    """A result is sharper than its image, which a 5 x 5 filter explains."""
    clean = np.clip(smooth() + 0.2 * ((np.indices((160, 200)) // 16).sum(0) % 2), 0, 1)
    image = cv2.GaussianBlur(clean, (0, 0), 0.8) + 0.03 * noise_along_lines(clean.shape, 4)
    noise = Noise(sd=0.03, slope=0.0, offset=0.0009, along=0.37, across=0.0)
    assert np.abs(list(residual(image, clean, noise).numbers.values())).max() < 0.2


def test_a_result_on_a_finer_grid_is_compared_on_that_of_the_image() -> None:
    clean = smooth(shape=(240, 320))
    image = cv2.resize(clean, (160, 120), interpolation=cv2.INTER_AREA) + 0.05 * noise_along_lines(
        (120, 160), 5
    )
    found = residual(image, clean, Noise(0.05, 0.0, 0.0025, 0.37, 0.0))
    assert found.image.shape == (120, 160)
    assert abs(found.numbers["strength"]) < 0.1


def test_the_picture_of_a_residual_has_0_at_mid_grey(tmp_path: Path) -> None:
    clean = smooth()
    noise = (0.05 * noise_along_lines(clean.shape, 3)).astype(np.float32)
    found = residual(clean + noise, clean, Noise(0.05, 0.0, 0.0025, 0.37, 0.0))
    half = write_residual(tmp_path / "residual.tif", found)
    back = read_image(tmp_path / "residual.tif")
    assert back.dtype == np.uint16
    values = (back.pixels - 0.5) * 2 * half
    within = np.abs(found.image) < half
    assert within.mean() > 0.99
    np.testing.assert_allclose(values[within], found.image[within], atol=half / 20_000)
