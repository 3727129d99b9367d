"""Where more was taken away than noise."""

import cv2
import numpy as np
import pytest
from noisy import noise_along_lines, smooth

from aeanet.trust import estimate_noise
from aeanet.trust.places import Place, odd_places, pattern_places, taken_over_noise
from aeanet.trust.residual import Residual, residual


@pytest.mark.parametrize("blur", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_has_no_places(seed: int, blur: float) -> None:
    """Nor has noise that is smooth across lines."""
    clean = smooth(seed, (203, 259))
    noise = noise_along_lines(clean.shape, seed)
    if blur:
        noise = cv2.GaussianBlur(noise, (0, 0), blur)
    image = clean + 0.05 * noise / noise.std()
    taken = residual(image, clean, estimate_noise(image))
    ratio = taken_over_noise(image, taken, estimate_noise(image))
    assert ratio.shape == (51, 65)
    assert np.median(ratio) == pytest.approx(1, abs=0.25 if blur else 0.15)
    assert odd_places(ratio, image.shape) == []
    assert pattern_places(taken) == []


def test_structure_that_was_taken_away_is_found_where_it_is() -> None:
    clean = smooth(0, (240, 320))
    rows, columns = np.mgrid[:240, :320]
    lost = 0.15 * np.sign(np.sin(columns / 4)) * ((abs(rows - 60) < 30) & (abs(columns - 200) < 40))
    image = clean + lost + 0.03 * noise_along_lines(clean.shape, 1)
    noise = estimate_noise(clean + 0.03 * noise_along_lines(clean.shape, 1))
    taken = Residual((image - clean).astype(np.float32), {}, 0.0)
    (place,) = odd_places(taken_over_noise(image, taken, noise), image.shape)
    assert close(place, (160, 30, 80, 60), 24)
    assert "times the expected noise was taken away" in place.sentence


def test_a_pattern_that_was_taken_away_is_found_where_it_is() -> None:
    rows, columns = np.mgrid[:240, :320]
    inside = (abs(rows - 150) < 50) & (abs(columns - 90) < 60)
    pattern = np.sin(2 * np.pi * columns / 4) * np.sin(2 * np.pi * rows / 4) * inside
    taken = (0.2 * pattern + 0.03 * noise_along_lines(rows.shape, 2)).astype(np.float32)
    (place,) = pattern_places(Residual(taken, {}, 1.0))
    assert close(place, (30, 100, 120, 100), 16)
    assert pattern_places(Residual(taken, {}, 0.0)) == []


def close(place: Place, wanted: tuple[int, int, int, int], by: int) -> bool:
    """Whether the edges of a place lie within `by` px of those of (left, top, width, height)."""
    left, top, width, height = wanted
    found = (place.left, place.top, place.left + place.width, place.top + place.height)
    edges = np.subtract(found, (left, top, left + width, top + height))
    return bool(abs(edges).max() <= by)
