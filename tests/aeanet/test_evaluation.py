"""Scores against scikit-image's, masks, the protocol's regions, and the picture."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from toys import toy_pair

from aeanet.evaluation import EvaluationError, Score, evaluate, psnr, score_region, ssim
from aeanet.figures import draw_comparison
from aeanet.model import UShape, build_model


def passing_through() -> UShape:
    """A model whose result is its input."""
    model = build_model("unet")
    model.forward = nn.Identity().forward  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("shape", [(7, 7), (20, 31)])
def test_scores_are_scikit_images(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    truth = random.random(shape).astype(np.float32)
    image = np.clip(truth + 0.1 * random.standard_normal(shape), 0, 1).astype(np.float32)
    mask = np.ones(shape, dtype=bool)
    assert psnr(image, truth, mask) == pytest.approx(peak_signal_noise_ratio(truth, image, data_range=1), abs=1e-5)
    expected = structural_similarity(truth.astype(float), image.astype(float), data_range=1)
    assert ssim(image, truth, mask) == pytest.approx(expected, abs=1e-12)
    assert psnr(truth, truth, mask) == np.inf
    assert ssim(truth, truth, mask) == pytest.approx(1)


def test_the_protocol_scores_three_parts_of_the_right_quarter() -> None:
    pair = toy_pair(0, (48, 64))
    evaluation = evaluate(passing_through(), [pair])
    assert [score.name for score in evaluation.subimages] == ["toy-0/0", "toy-0/1", "toy-0/2"]
    for i, score in enumerate(evaluation.subimages):
        part = (slice(16 * i, 16 * (i + 1)), slice(48, 64))
        assert score.psnr == pytest.approx(
            peak_signal_noise_ratio(pair.hr[part], pair.lr[part], data_range=1), abs=1e-4
        )
        expected = structural_similarity(pair.hr[part].astype(float), pair.lr[part].astype(float), data_range=1)
        assert score.ssim == pytest.approx(expected, abs=1e-9)
        assert (score.delta_psnr, score.delta_ssim) == (0, 0)
    assert evaluation.pairs[0].psnr == pytest.approx(np.mean([score.psnr for score in evaluation.subimages]))


def test_the_network_sees_the_whole_image_clipped_not_rounded() -> None:
    pair = toy_pair(0)
    sizes = []

    class Brighter(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            sizes.append(image.shape)
            return image + 0.5

    model = passing_through()
    model.forward = Brighter().forward  # type: ignore[method-assign]
    evaluation = evaluate(model, [pair])
    assert sizes == [(1, 1, 48, 64)]
    part = (slice(0, 16), slice(48, 64))
    expected = peak_signal_noise_ratio(pair.hr[part], (pair.lr[part] + 0.5).clip(0, 1), data_range=1)
    assert evaluation.subimages[0].psnr == pytest.approx(expected, abs=1e-4)


def test_pixels_without_data_do_not_count() -> None:
    pair = toy_pair(0)
    mask = pair.mask.copy()
    mask[:5, 40:] = False
    mask[30:, 60:] = False
    garbage = np.where(mask, pair.lr, np.float32(0.77))
    clean, dirty = (evaluate(passing_through(), [replace(pair, lr=lr, mask=mask)]) for lr in (pair.lr, garbage))
    assert clean == dirty
    assert clean != evaluate(passing_through(), [pair])


def test_a_mask_that_cuts_straight_is_a_smaller_image() -> None:
    pair = toy_pair(0)
    mask = pair.mask.copy()
    mask[:20] = False
    masked = score_region("x", replace(pair, mask=mask), pair.lr, (slice(None), slice(None)))
    assert masked is not None
    expected = structural_similarity(pair.hr[20:].astype(float), pair.lr[20:].astype(float), data_range=1)
    assert masked.ssim == pytest.approx(expected, abs=1e-9)
    assert masked.psnr == pytest.approx(peak_signal_noise_ratio(pair.hr[20:], pair.lr[20:], data_range=1), abs=1e-4)


def test_parts_without_data_are_left_out_and_pairs_without_any_said() -> None:
    pair = toy_pair(0)
    mask = pair.mask.copy()
    mask[:16, 48:] = False
    seen: list[Score | None] = []
    evaluation = evaluate(
        passing_through(),
        [replace(pair, mask=mask), replace(pair, name="blind", mask=np.zeros_like(mask))],
        on_pair=lambda _pair, _restored, score: seen.append(score),
    )
    assert [score.name for score in evaluation.subimages] == ["toy-0/1", "toy-0/2"]
    assert seen == [evaluation.pairs[0], None]
    with pytest.raises(EvaluationError, match="None of the 1 pairs has LR data in its test columns"):
        evaluate(passing_through(), [replace(pair, mask=np.zeros_like(mask))])


def test_table_and_json_say_the_same() -> None:
    pairs = [toy_pair(0), toy_pair(1)]
    evaluation = evaluate(passing_through(), pairs)
    record = json.loads(evaluation.to_json())
    assert [entry["name"] for entry in record["pairs"]] == ["toy-0", "toy-1"]
    assert record["mean"]["psnr"] == pytest.approx(np.mean([entry["psnr"] for entry in record["subimages"]]))
    assert record["mean"]["delta_ssim"] == 0
    console = Console(width=120, record=True, file=StringIO())
    console.print(evaluation.table())
    text = console.export_text()
    for score in [*evaluation.pairs, evaluation.mean]:
        line = next(line for line in text.splitlines() if f" {score.name} " in line)
        assert f"{score.psnr:.2f}" in line
        assert f"{score.ssim_bicubic:.4f}" in line


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    pair = toy_pair(0, (90, 120))
    score = Score(pair.name, 20.0, 22.0, 0.5, 0.6)
    draw_comparison(tmp_path / "picture.png", pair, pair.hr, score)
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[1] > 1500
    height, width = pixels.shape
    middle = pixels[int(0.1 * height) : int(0.5 * height), width // 3 : 2 * width // 3]
    right = pixels[int(0.1 * height) : int(0.5 * height), 2 * width // 3 :]
    assert middle.std() > 20  # images, not blank panels
    assert right.std() > 20
