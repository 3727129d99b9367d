"""Scores against scikit-image's, masks, the protocol's regions, intervals against SciPy's, splits
by sample.
"""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from toys import toy_pair

from aeanet.data.specimens import SampleError, read_samples, split_by_specimen
from aeanet.imaging.metrics import psnr, ssim
from aeanet.networks.registry import build_model
from aeanet.networks.unet import UShape
from aeanet.scoring.confidence import Estimate, estimate
from aeanet.scoring.evaluation import (
    Evaluation,
    EvaluationError,
    Score,
    evaluate,
    improvement,
    score_region,
)


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
    assert psnr(image, truth, mask) == pytest.approx(
        peak_signal_noise_ratio(truth, image, data_range=1), abs=1e-5
    )
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
        expected = structural_similarity(
            pair.hr[part].astype(float), pair.lr[part].astype(float), data_range=1
        )
        assert score.ssim == pytest.approx(expected, abs=1e-9)
        assert (score.delta_psnr, score.delta_ssim) == (0, 0)
    assert evaluation.pairs[0].psnr == pytest.approx(
        np.mean([score.psnr for score in evaluation.subimages])
    )


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
    expected = peak_signal_noise_ratio(
        pair.hr[part], (pair.lr[part] + 0.5).clip(0, 1), data_range=1
    )
    assert evaluation.subimages[0].psnr == pytest.approx(expected, abs=1e-4)


def test_the_network_is_told_the_magnification_of_the_pair() -> None:
    pair, model, told = toy_pair(0), passing_through(), []
    model.magnification = 1.0
    evaluate(model, [pair], predict=lambda model, lr: told.append(model.magnification) or lr)
    assert told == [pair.report.magnification] != [1.0]
    assert model.magnification == 1.0


def test_pixels_without_data_do_not_count() -> None:
    pair = toy_pair(0)
    mask = pair.mask.copy()
    mask[:5, 40:] = False
    mask[30:, 60:] = False
    garbage = np.where(mask, pair.lr, np.float32(0.77))
    clean, dirty = (
        evaluate(passing_through(), [replace(pair, lr=lr, mask=mask)]) for lr in (pair.lr, garbage)
    )
    assert clean == dirty
    assert clean != evaluate(passing_through(), [pair])


def test_a_mask_that_cuts_straight_is_a_smaller_image() -> None:
    pair = toy_pair(0)
    mask = pair.mask.copy()
    mask[:20] = False
    masked = score_region("x", replace(pair, mask=mask), pair.lr, (slice(None), slice(None)))
    assert masked is not None
    expected = structural_similarity(
        pair.hr[20:].astype(float), pair.lr[20:].astype(float), data_range=1
    )
    assert masked.ssim == pytest.approx(expected, abs=1e-9)
    assert masked.psnr == pytest.approx(
        peak_signal_noise_ratio(pair.hr[20:], pair.lr[20:], data_range=1), abs=1e-4
    )


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
    with pytest.raises(
        EvaluationError, match="None of the 1 pairs has LR data in its test columns"
    ):
        evaluate(passing_through(), [replace(pair, mask=np.zeros_like(mask))])


def test_table_and_json_say_the_same() -> None:
    pairs = [toy_pair(0), toy_pair(1)]
    evaluation = evaluate(passing_through(), pairs)
    record = json.loads(json.dumps(evaluation.record()))
    assert [entry["name"] for entry in record["pairs"]] == ["toy-0", "toy-1"]
    assert record["mean"]["psnr"] == pytest.approx(
        np.mean([entry["psnr"] for entry in record["subimages"]])
    )
    assert record["mean"]["delta_ssim"] == 0
    console = Console(width=120, record=True, file=StringIO())
    console.print(evaluation.table())
    text = console.export_text()
    for score in [*evaluation.pairs, evaluation.mean]:
        line = next(line for line in text.splitlines() if f" {score.name} " in line)
        assert f"{score.psnr:.2f}" in line
        assert f"{score.ssim_bicubic:.4f}" in line


def test_foreground_and_background_are_parted_by_otsu_on_hr() -> None:
    """A region of two grey levels, with an error of its own on each, has the PSNRs of those
    errors.
    """
    pair = toy_pair(0)
    hr = np.full((48, 64), 0.2, np.float32)
    hr[:, 30:] = 0.8
    lr = hr + np.where(hr > 0.5, np.float32(0.1), np.float32(-0.05))
    result = hr + np.where(hr > 0.5, np.float32(0.01), np.float32(-0.02))
    score = score_region("x", replace(pair, lr=lr, hr=hr), result, (slice(None), slice(None)))
    assert score
    assert score.foreground
    assert score.background
    assert score.foreground.psnr_bicubic == pytest.approx(20, abs=1e-3)
    assert score.foreground.psnr == pytest.approx(40, abs=1e-3)
    assert score.background.delta_psnr == pytest.approx(20 * np.log10(0.05 / 0.02), abs=1e-3)
    similarity = structural_similarity(
        hr.astype(float), result.astype(float), data_range=1, full=True
    )[1]
    assert score.foreground.ssim == pytest.approx(similarity[3:-3, 30:-3].mean())
    assert score.background.ssim == pytest.approx(similarity[3:-3, 3:30].mean())


def test_a_region_of_one_grey_level_has_no_foreground() -> None:
    pair = toy_pair(0)
    flat = replace(pair, hr=np.full_like(pair.hr, 0.5))
    score = score_region("x", flat, flat.lr, (slice(None), slice(None)))
    assert score
    assert score.foreground is None
    assert score.background == replace(score, name="background", background=None)
    evaluation = evaluate(passing_through(), [flat])
    assert improvement([evaluation], part="foreground") is None
    assert Evaluation.from_record(json.loads(json.dumps(evaluation.record()))) == evaluation


def test_an_evaluation_survives_json() -> None:
    evaluation = evaluate(passing_through(), [toy_pair(0), toy_pair(1)])
    again = Evaluation.from_record(json.loads(json.dumps(evaluation.record())))
    assert again == evaluation
    assert again.pairs == evaluation.pairs
    assert Evaluation.average([evaluation, again]).mean == evaluation.mean


def scores(*gains: float, pairs: str = "abcdefgh") -> Evaluation:
    """Two test subimages a pair, 0.1 dB to both sides of a gain."""
    subimages = [
        Score(f"{pair}/{i}", 20.0, 20 + gain + (0.1 if i else -0.1), 0.5, 0.5)
        for pair, gain in zip(pairs, gains, strict=False)
        for i in range(2)
    ]
    return Evaluation(subimages)


def test_the_interval_is_students_over_pairs() -> None:
    gains = [1.0, 2.0, 2.5, 4.5]
    found = improvement([scores(*gains)])
    assert found
    assert found.mean == pytest.approx(np.mean(gains))
    expected = stats.t.interval(0.95, 3, np.mean(gains), stats.sem(gains))
    assert found.interval == pytest.approx(expected)
    single = improvement([scores(1.0)])
    assert single
    assert single.interval is None
    assert single.text(2) == "+1.00"
    assert Estimate(-1.0, 0.5).text(1) == "−1.0 ± 0.5"


def test_pairs_of_one_sample_count_as_one() -> None:
    """Pairs that are copies of each other widen the interval to that of the samples; without
    samples they narrow it.
    """
    gains = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    samples = dict(zip("abcdef", "ppqqrr", strict=True))
    by_sample, by_pair = (
        improvement([scores(*gains)], samples=samples),
        improvement([scores(*gains)]),
    )
    assert by_sample
    assert by_pair
    assert by_sample.interval == pytest.approx(
        stats.t.interval(0.95, 2, 7 / 3, stats.sem([1, 2, 4]))
    )
    assert by_pair.half_width is not None
    assert by_sample.half_width is not None
    assert by_pair.half_width < by_sample.half_width


def test_the_interval_holds_what_it_promises_over_pairs_and_seeds() -> None:
    """In 2,000 simulated studies of 3 seeds and 8 pairs at least 95 % of the intervals contain the
    truth.
    """
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        noise = (
            random.normal(0, 0.3, (3, 1))
            + random.normal(0, 0.5, (1, 8))
            + random.normal(0, 0.2, (3, 8))
        )
        low, high = estimate(1.0 + noise, [1] * 8, range(8)).interval or (0.0, 0.0)
        inside += low <= 1 <= high
    assert 0.94 <= inside / 2000 <= 0.995


def test_a_difference_is_taken_pair_by_pair() -> None:
    """Where one method is better by nearly the same on every pair, the difference is sure though
    the means are not.
    """
    ours, theirs = scores(1.1, 2.2, 3.1, 4.2), scores(1.0, 2.0, 3.0, 4.0)
    difference = improvement([ours], against=[theirs])
    assert difference
    assert difference.interval == pytest.approx(
        stats.t.interval(0.95, 3, 0.15, stats.sem([0.1, 0.2, 0.1, 0.2]))
    )
    on_common = improvement([ours], against=[scores(1.0, 2.0, 3.0)])
    assert on_common
    assert on_common.mean == pytest.approx(0.4 / 3)
    assert improvement([ours], against=[scores(1.0, pairs="z")]) is None


def test_a_split_by_image_keeps_samples_together(tmp_path: Path) -> None:
    (tmp_path / "samples.txt").write_text("a b, c # the beads\n\nd e\n")
    samples = read_samples(tmp_path / "samples.txt", "abcdefg")
    parts = split_by_specimen("abcdefg", samples, 3)
    assert sorted(name for part in parts for name in part) == list("abcdefg")
    assert ["a", "b", "c"] in parts
    assert sorted(map(len, parts)) == [2, 2, 3]
    assert any({"d", "e"} <= set(part) for part in parts)
    with pytest.raises(SampleError, match="4 samples cannot be split into 5 parts"):
        split_by_specimen("abcdefg", samples, 5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a b\nb c", "names the pair b twice"), ("a x", "names the pair x, which the folder")],
)
def test_wrong_lists_of_samples(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "samples.txt").write_text(text)
    with pytest.raises(SampleError, match=reason):
        read_samples(tmp_path / "samples.txt", "abc")
    with pytest.raises(SampleError, match="cannot be read as a list of samples"):
        read_samples(tmp_path / "nowhere.txt", "abc")
