"""Pretraining on simulated images: batches that no interruption changes, averaged weights, record
and card.
"""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toys import aeanet, assert_one_sentence, toy_pair

import aeanet.training.sources as sources
from aeanet.data.pairs import PairSet
from aeanet.data.synthetic import Acquisition
from aeanet.errors import ModelError
from aeanet.imaging.metrics import psnr
from aeanet.networks.error import error_network_of, load_error_network
from aeanet.networks.registry import build_model, load_model, save_model
from aeanet.networks.shuffled import deepened
from aeanet.training import CHECKPOINT_FILE, Interval, Recipe, open_run, pretraining
from aeanet.training.card import model_card
from aeanet.training.checkpoint import Checkpoint
from aeanet.training.pretraining import Pretrained, held_back_images, pretrain, pretraining_recipe
from aeanet.training.randomness import seeded_randomness
from aeanet.training.sources import PairSource, SimulatedSource
from aeanet.training.step import DECAY, FLOOR, WeightAverage, psnr_loss, relative_loss

RECIPE = pretraining_recipe(steps=6, batch=2, crop=16, precision="float32")
TINY = {"widths": [4], "blocks": [1]}


@pytest.fixture(autouse=True)
def _small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SCENES", 2), ("STEPS", 4), ("SIDE", 64), ("SCAN", 48)):
        monkeypatch.setattr(sources, name, value)


def batches(step: int, steps: int, workers: int = 0) -> list[torch.Tensor]:
    recipe = pretraining_recipe(steps=steps, batch=3, crop=24, seed=1)
    made = SimulatedSource(recipe, workers).batches(step)
    return [
        torch.cat([lr.flatten(), hr.flatten(), magnifications, noises.nan_to_num().flatten()])
        for lr, hr, magnifications, noises in made
    ]


def test_a_step_sees_the_same_whenever_the_training_began_and_whoever_simulates() -> None:
    cv2.GaussianBlur(
        np.zeros((512, 512), np.float32), (0, 0), 3
    )  # starts OpenCV's threads, which no worker inherits
    whole = batches(0, 6)
    assert len(whole) == 6
    assert len({batch.sum().item() for batch in whole}) == 6
    for ours, theirs in zip(whole[3:], batches(3, 6, workers=1), strict=True):
        assert torch.equal(ours, theirs)


def test_scans_are_shown_the_range_that_they_use_and_told_their_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pale = Acquisition(magnification=1.0, contrast=4.0, spot=1.3, band=0.0, shot=0.0, read=2.0)
    monkeypatch.setattr(Acquisition, "draw", lambda rng, smooth_noise: pale)
    for name, value in (("AS_RECORDED", 0), ("UNTOLD", 0.5), ("SCAN", 96), ("SIDE", 96)):
        monkeypatch.setattr(sources, name, value)
    recipe = pretraining_recipe(steps=4, batch=12, crop=64)
    lr, hr, magnifications, noises = sources.simulated_round(recipe, 0)
    assert (magnifications == 1).all()

    # As recorded a crop would span a seventh of the range.
    spans = lr.amax((1, 2, 3)) - lr.amin((1, 2, 3))
    assert 0.25 < spans.median() < 0.6
    told = ~noises.isnan().any(1)
    assert 0 < told.sum() < len(told)
    found = (lr - hr)[told].std((1, 2, 3))
    torch.testing.assert_close(noises[told, 0], found, rtol=0.2, atol=0)
    assert noises[told, 2].abs().max() < 0.15


def test_a_crop_of_a_pair_is_told_the_noise_of_its_lr() -> None:
    """At 2x, a pixel of LR is the mean of four here."""
    pairs, rng = [], np.random.default_rng(0)
    for seed, sd in enumerate((0.02, 0.08)):
        lr = (0.5 + rng.normal(0, sd, (192, 256))).astype(np.float32)
        pairs.append(replace(toy_pair(seed, lr.shape), lr=lr))
    recipe = Recipe.short(steps=2, batch=8, crop=16)
    for lr, _, _, noises in PairSource(PairSet(pairs, {}), recipe).batches(0):
        expected = torch.where(lr.std((1, 2, 3)) < 0.04, 0.01, 0.04)
        torch.testing.assert_close(noises[:, 0], expected, rtol=0.15, atol=0)


def run(folder: Path, *, resume: bool = False, stop_after: int | None = None) -> Pretrained:
    """Pretrain; `stop_after` leaves by an error after that many steps, as a crash would."""

    def on_step(now: object) -> None:
        if now.step == stop_after:
            raise InterruptedError

    with open_run(folder, resume=resume) as opened:
        every = Interval(steps=2)
        return pretrain(
            RECIPE,
            run=opened,
            workers=0,
            held_back=1,
            checkpoint_every=every,
            on_step=on_step,
            name="shuffled",
            **TINY,
        )


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "broken", stop_after=5)  # the checkpoint is that of step 4
    resumed = run(tmp_path / "broken", resume=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
        assert torch.equal(tensor, load_model(tmp_path / "broken").state_dict()[name]), name
    assert whole.record["scores"] == resumed.record["scores"]

    record = json.loads((tmp_path / "broken" / "run.json").read_text())
    assert record["steps_done"] == 6
    assert (tmp_path / "broken" / "model.md").read_text() == model_card(record)


def test_a_pretraining_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """It is bound to the pixels of the simulator, named by what was then its source, and not to the
    version of Python, which its checkpoint named too.
    """
    with pytest.raises(InterruptedError):
        run(tmp_path, stop_after=3)
    checkpoint = Checkpoint.read(tmp_path / CHECKPOINT_FILE)
    checkpoint.configuration["versions"] |= {"python": "3.11.0"}
    checkpoint.configuration["data"] = {
        "pairs": [],
        "held_back": [],
        "simulator": "aeanet.data.synthetic",
        "sha256": "fd227388d6d942f2f61763bd99a7ff25fbc5c21cba283f0a7963f6914c6e080e",
    }
    checkpoint.write(tmp_path / CHECKPOINT_FILE)
    assert run(tmp_path, resume=True).steps == 6


def test_a_deeper_network_computes_the_same_at_first() -> None:
    model, x = build_model("shuffled", widths=[4, 8], blocks=[1, 2]), torch.rand(2, 1, 12, 20)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    deeper = deepened(model, (3, 2))
    assert deeper.config["blocks"] == [3, 2]
    assert torch.equal(deeper(x), model(x))
    for other, blocks in ((model, (1, 1)), (model, (1, 2, 2)), (build_model("unet"), (2, 2, 2))):
        with pytest.raises(ModelError, match="blocks"):
            deepened(other, blocks)


def test_a_gain_on_nearly_clean_images_weighs_as_much_as_on_noisy_ones() -> None:
    restored, hr = torch.zeros(2, 1, 3, 3, requires_grad=True), torch.zeros(2, 1, 3, 3)
    hr[0], hr[1] = 0.02, 0.2
    relative_loss(restored, hr).backward()
    first, second = (restored.grad[i].abs().sum().item() for i in (0, 1))
    assert first / second == pytest.approx((0.2 + FLOOR) / (0.02 + FLOOR))


def test_the_psnr_loss_is_the_mean_psnr() -> None:
    restored, hr = (
        torch.rand(3, 1, 8, 8, dtype=torch.float64),
        torch.rand(3, 1, 8, 8, dtype=torch.float64),
    )
    inside = np.ones((8, 8), bool)
    wanted = np.mean(
        [psnr(a[0].numpy(), b[0].numpy(), inside) for a, b in zip(restored, hr, strict=True)]
    )
    assert -20 / np.log(10) * psnr_loss(restored, hr).item() == pytest.approx(wanted, abs=1e-4)
    assert psnr_loss(hr, hr).item() == pytest.approx(np.log(FLOOR))


def test_the_average_is_that_of_the_latest_weights() -> None:
    model = build_model("shuffled", **TINY)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        optimizer.state[parameter]["step"] = torch.tensor(0.0)
    average = WeightAverage(model, optimizer)
    expected, latest = None, None
    for step in range(1, 4):
        for parameter in model.parameters():
            optimizer.state[parameter]["step"] += 1
            parameter.grad = torch.full_like(parameter, float(step))
        optimizer.step()
        latest = next(model.parameters()).detach().double().numpy()
        share = 1 - min(DECAY, step / (step + 10))
        expected = latest.copy() if expected is None else expected + share * (latest - expected)
    found = next(average.network().parameters()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - latest).max() > 1e-2


def test_the_command_pretrains_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "held_back_images", lambda number: held_back_images(1))
    brief = [
        "--steps",
        "2",
        "--batch",
        "2",
        "--crop",
        "16",
        "--workers",
        "0",
        "--precision",
        "float32",
    ]
    done = aeanet("pretrain", "--out", tmp_path / "run", *brief)
    assert done.exit_code == 0, done.output
    assert "2 steps" in done.stdout
    more = aeanet("pretrain", "--out", tmp_path / "run", "--resume")
    assert more.exit_code == 0, more.output

    # what contradicts the run is refused, and what it was begun with may be given again
    same = ["--model", "shuffled", "--attention", "none", "--blocks", 2, 2, 2]
    for other in (["--model", "unet"], ["--attention", "all"], ["--blocks", 3, 2, 2]):
        changed = aeanet("pretrain", "--out", tmp_path / "run", "--resume", *other)
        assert_one_sentence(
            changed, f"was begun with {other[0][2:]}", f"resume it without {other[0]}"
        )
    more = aeanet("pretrain", "--out", tmp_path / "run", "--resume", *same, "--from", "sem")
    assert more.exit_code == 0, more.output
    assert "--from is not used" in more.stderr
    for given in (("--model", "unet"), ("--attention", "all")):
        vain = aeanet("pretrain", "--out", tmp_path / "new", "--from", "sem", *given)
        assert_one_sentence(vain, "--from goes on with a network as it is")
        assert not (tmp_path / "new").exists()
    again = aeanet(
        "pretrain", "--out", tmp_path / "run", "--attention", "bottom", "--model", "unet", *brief
    )
    assert again.exit_code == 1
    assert "--attention is an option of the network shuffled" in again.output
    assert load_model(tmp_path / "run").magnification == 2


def test_a_network_of_errors_is_trained_and_goes_on(tmp_path: Path) -> None:
    """The model whose errors they are stays as it is, and an interruption changes nothing."""
    torch.manual_seed(0)
    start = save_model(build_model("shuffled", **TINY), tmp_path / "start.safetensors")
    options = ["--batch", 2, "--crop", 16, "--workers", 0, "--precision", "float32"]
    options += ["--from", start, "--loss", "interval", "--steps", 6]
    runs = [tmp_path / "whole", tmp_path / "parts"]
    assert aeanet("pretrain", "--out", runs[0], *options).exit_code == 0

    recipe = replace(RECIPE, loss="interval", seed=0)
    steps: list[int] = []
    with open_run(runs[1]) as run, seeded_randomness(recipe.seed):
        pretrain(
            recipe,
            start=error_network_of(load_model(start)),
            run=run,
            workers=0,
            on_step=lambda now: steps.append(now.step),
            stop=lambda: len(steps) >= 2,
        )
    go_on = ["pretrain", "--out", runs[1], "--resume", "--workers", 0]
    assert "begun with attention none, not all" in aeanet(*go_on, "--attention", "all").stderr
    assert aeanet(*go_on, "--attention", "none").exit_code == 0
    whole, parts = (load_error_network(run) for run in runs)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=0, atol=0)
    before = load_model(start).state_dict()
    torch.testing.assert_close(whole.restoring.state_dict(), before, rtol=0, atol=0)
    assert json.loads((runs[0] / "run.json").read_text())["scores"] == {}
    assert not (runs[0] / "model.md").exists(), "a card says what a model restores"
