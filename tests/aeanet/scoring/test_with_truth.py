"""Scores against a truth that is not aligned, beside those of a comparison whose place is known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from toys import aeanet

from aeanet import score_with_truth, score_without_reference
from aeanet.data.alignment import RegistrationError
from aeanet.data.synthetic import simulate_image
from aeanet.imaging.upsampling import upsample
from aeanet.scoring.with_truth import TruthError

CLEAN = simulate_image(5, (400, 480), kind="particles").hr[:400, :480]
RANDOM = np.random.default_rng(0)
HALF = cv2.resize(CLEAN, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
IMAGE = (HALF + 0.05 * RANDOM.standard_normal(HALF.shape)).clip(0, 1).astype(np.float32)
RESULT = np.asarray(cv2.GaussianBlur(upsample(IMAGE, 2), (0, 0), 1.5), np.float32)
PART = np.s_[38:-14, 22:-40]  # of the field, which the truth shows


def test_a_part_of_the_field_is_compared_where_it_lies() -> None:
    """To the precision of the registration, a few hundredths of a pixel."""
    truth = CLEAN[PART]
    score = score_with_truth(IMAGE, RESULT, truth)
    enlarged = [image[PART].clip(0, 1) for image in (upsample(IMAGE, 2), RESULT)]
    at_place = [peak_signal_noise_ratio(truth, image, data_range=1.0) for image in enlarged]
    assert (score.psnr_bicubic, score.psnr) == pytest.approx(at_place, abs=0.15)
    similarity = structural_similarity(enlarged[1], truth, data_range=1.0, gaussian_weights=True)
    assert score.ssim == pytest.approx(similarity, abs=0.02)
    assert score.delta_psnr > 1


def test_brightness_and_contrast_do_not_count() -> None:
    usual = score_with_truth(IMAGE, RESULT, CLEAN)
    other = score_with_truth(0.1 + 0.5 * IMAGE, 0.3 + 0.4 * RESULT, CLEAN)
    assert other.psnr == pytest.approx(usual.psnr, abs=0.1)
    assert other.psnr_bicubic == pytest.approx(usual.psnr_bicubic, abs=0.1)


def test_an_inverted_result_is_told() -> None:
    with pytest.raises(TruthError, match="its contrast is inverted"):
        score_with_truth(IMAGE, 1 - RESULT, CLEAN)
    assert score_without_reference(IMAGE, 1 - RESULT).likeness < -0.9


def test_what_cannot_be_compared() -> None:
    with pytest.raises(TruthError, match="no finite grey image"):
        score_with_truth(IMAGE, RESULT[None], CLEAN)
    with pytest.raises(TruthError, match="with values that are not finite"):
        score_with_truth(IMAGE, np.where(RESULT > 0.5, np.nan, RESULT), CLEAN)
    other = simulate_image(6, CLEAN.shape, kind="porous").hr
    with pytest.raises(RegistrationError):
        score_with_truth(IMAGE, RESULT, other)


def test_the_command(tmp_path: Path) -> None:
    files = []
    for name, pixels in {"a": IMAGE, "result": RESULT, "truth": CLEAN[PART]}.items():
        files.append(tmp_path / f"{name}.png")
        Image.fromarray((255 * pixels).clip(0, 255).astype(np.uint8)).save(files[-1])
    image, result, truth = files
    shown = aeanet("score", image, result, "--truth", truth)
    assert shown.exit_code == 0, shown.output
    record = json.loads(aeanet("score", image, result, "--truth", truth, "--json").stdout)
    gain = f"PSNR {record['truth']['psnr_bicubic']:.2f} -> {record['truth']['psnr']:.2f} dB"
    assert f"Against the truth: {gain}" in shown.stdout
    assert record["truth"]["delta_psnr"] > 1

    failed = aeanet("score", image, result, "--truth", tmp_path / "none.png")
    assert failed.exit_code == 1
    assert "none.png" in failed.stderr
