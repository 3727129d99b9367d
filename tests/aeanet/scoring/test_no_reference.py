"""Scores without a truth, against the noise and the blur that were put in."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from toys import aeanet

from aeanet import score_without_reference
from aeanet.data.synthetic import simulate_image

CLEAN = simulate_image(5, (200, 240), kind="particles").hr
NOISE = 0.06


def scan(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(CLEAN.shape)
    return (CLEAN + NOISE * noise).astype(np.float32)


def test_the_truth_as_the_result() -> None:
    score = score_without_reference(scan(0), CLEAN)
    assert score.noise == pytest.approx(NOISE, rel=0.1)
    assert score.noise_left < 0.1 * NOISE
    assert score.taken == pytest.approx(1, abs=0.1)
    assert abs(score.structure) < 0.15
    assert score.resolution_left is None


def test_a_result_in_which_nothing_was_done_and_one_that_lost_structure() -> None:
    image = scan(0)
    same = score_without_reference(image, image)
    assert same.noise_left == pytest.approx(same.noise)
    assert same.taken < 0.1
    lost = score_without_reference(image, cv2.GaussianBlur(CLEAN, (0, 0), 8))
    assert lost.taken > 1.1
    assert lost.structure > 0.3


def test_brightness_and_contrast_of_the_result_do_not_count() -> None:
    image = scan(0)
    usual = score_without_reference(image, CLEAN)
    brighter = score_without_reference(image, 0.3 + 2 * CLEAN)
    for name, value in vars(usual).items():
        assert value is None or getattr(brighter, name) == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_a_result_of_another_field_is_seen() -> None:
    image = scan(0)
    assert score_without_reference(image, CLEAN).likeness > 0.9
    other = simulate_image(6, CLEAN.shape, kind="particles").hr
    assert score_without_reference(image, other).likeness < 0.5
    assert score_without_reference(image, np.full_like(CLEAN, 0.5)).likeness == 0


def test_two_scans_tell_what_a_result_resolves() -> None:
    """Less noise shows finer structure; results of twice the pixels are measured in those of the
    image.
    """
    scans = [scan(seed) for seed in (0, 1)]
    rng = np.random.default_rng(2)
    better = [CLEAN + NOISE / 4 * rng.standard_normal(CLEAN.shape) for _ in range(2)]
    score = score_without_reference(scans[0], better[0], second=scans[1], second_result=better[1])
    assert score.resolution_left is not None
    assert 2 <= score.resolution_left < 0.9 * score.resolution
    twice = [cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for image in better]
    fine = score_without_reference(scans[0], twice[0], second=scans[1], second_result=twice[1])
    assert fine.resolution_left == pytest.approx(score.resolution_left, rel=0.05)


@pytest.mark.parametrize(
    ("image", "result", "others", "message"),
    [
        (CLEAN, CLEAN[::2, ::2], {}, "smaller than"),
        (CLEAN[:100], CLEAN[:100], {}, "wanted .H, W. of at least 128 px"),
        (CLEAN, np.where(CLEAN > 0.5, np.nan, CLEAN), {}, "result has pixels that are not finite"),
        (CLEAN, CLEAN, {"second": CLEAN}, "one of them is missing"),
        (CLEAN, CLEAN, {"second": CLEAN[1:], "second_result": CLEAN}, "wanted one shape"),
        (CLEAN, CLEAN, {"second": CLEAN, "second_result": CLEAN}, "is the image itself"),
    ],
)
def test_bad_input(
    image: np.ndarray, result: np.ndarray, others: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_without_reference(image, result, **others)


def test_the_command(tmp_path: Path) -> None:
    files = []
    for name, pixels in {"a": scan(0), "a-result": CLEAN, "b": scan(1), "b-result": CLEAN}.items():
        files.append(tmp_path / f"{name}.png")
        Image.fromarray((255 * pixels).clip(0, 255).astype(np.uint8)).save(files[-1])
    image, result, *second = files

    shown = aeanet("score", image, result)
    assert shown.exit_code == 0, shown.output
    noise = float(shown.stdout.split()[1])
    assert noise == pytest.approx(255 * NOISE, rel=0.15)
    assert "that of the result needs a second scan" in shown.stdout

    record = json.loads(aeanet("score", image, result, "--second", *second, "--json").stdout)
    assert record["resolution_left"] == 2
    assert record["noise"] * record["range"] == pytest.approx(noise, rel=0.01)

    stack = tmp_path / "stack.tif"
    levels = [np.asarray(Image.open(file)) for file in (second[0], image)]
    tifffile.imwrite(stack, np.stack(levels), photometric="minisblack", metadata=None)
    assert aeanet("score", stack, stack, "--image", 2).stdout.startswith(shown.stdout[:11])
    other = tmp_path / "other.png"
    Image.fromarray(np.asarray(Image.open(result))[::-1].copy()).save(other)
    assert "other.png hardly resembles" in aeanet("score", image, other).stderr

    # a flat image has no resolution, which is a number that is not finite and not a missing one
    flat = tmp_path / "flat.png"
    Image.fromarray(np.full(CLEAN.shape, 100, np.uint8)).save(flat)
    assert "Resolution: none found before" in aeanet("score", flat, flat).stdout
    record = json.loads(aeanet("score", flat, flat, "--json").stdout)
    assert (record["resolution"], record["resolution_left"]) == ("NaN", None)

    failed = aeanet("score", image, tmp_path / "c.png")
    assert failed.exit_code == 1
    assert "c.png" in failed.stderr
