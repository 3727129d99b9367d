"""Training against a plain loop, its schedules, its reproducibility, and what is left when it is cut short."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from toys import toy_pair

from aeanet.model import ModelError, build_model, load_model
from aeanet.pairs import PairError, PairSet, RandomCrops
from aeanet.training import Interval, Progress, Recipe, RecipeError, fingerprint, save_run, train

PAIRS = [toy_pair(0, magnification=1.9), toy_pair(1, magnification=2.1), toy_pair(2, magnification=2.0)]
BRIEF = Recipe.short(steps=4, batch=3, crop=16)


def test_the_default_recipe_is_the_papers() -> None:
    recipe = Recipe()
    assert (recipe.steps, recipe.batch, recipe.crop) == (120_000, 8, 256)
    assert (recipe.betas, recipe.epsilon, recipe.max_seconds) == ((0.9, 0.999), 1e-8, None)
    rates = [recipe.learning_rate(step, recipe.used(step, 0.0)) for step in (0, 9_999, 10_000, 25_000, 119_999)]
    assert rates == pytest.approx([4e-4, 4e-4, 2e-4, 1e-4, 4e-4 / 2**11])


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    recipe = Recipe.short(steps=1000)
    rates = [recipe.learning_rate(step, recipe.used(step, 0.0)) for step in range(1001)]
    assert rates[0] == pytest.approx(2e-3 / 25)
    assert max(rates) == rates[300] == pytest.approx(2e-3)
    assert rates[650] == pytest.approx(1e-3)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[:301]) > 0)
    assert np.all(np.diff(rates[300:]) < 0)


def test_one_cycle_follows_the_budget_that_runs_out_first() -> None:
    recipe = Recipe.short(steps=1000, max_seconds=60)
    assert recipe.used(500, 6) == 0.5
    assert recipe.used(100, 45) == 0.75
    assert recipe.used(100, 90) == 1


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": -1}, {"rate": math.nan}, {"max_seconds": 0}])
def test_impossible_recipes_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(change))} is .* wanted a number above 0"):
        Recipe(**change)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(RecipeError, match="schedule is 'cosine', wanted 'halving' or 'one-cycle'"):
        Recipe(schedule="cosine")


@pytest.mark.parametrize(
    ("name", "schedule", "freeze"), [("aeanet", "one-cycle", 0.5), ("aeanet", "halving", 1.0), ("unet", "halving", 0.5)]
)
def test_training_is_the_plain_loop(name: str, schedule: str, freeze: float) -> None:
    """The weights after a few steps are those of a loop without Lightning, written from the recipe's text."""
    recipe = replace(BRIEF, schedule=schedule, halve_every=2, seed=5, freeze=freeze)
    trained = train(PAIRS, recipe, name=name)

    torch.manual_seed(5)
    model = build_model(name).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    crops = DataLoader(RandomCrops(PAIRS, 16, 12, seed=5), batch_size=3)
    for step, (lr, hr) in enumerate(crops):
        optimiser.param_groups[0]["lr"] = recipe.learning_rate(step, step / 4)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 5 / (5 + step)
                module.train(step / 4 < freeze)
        optimiser.zero_grad()
        (model(lr) - hr).abs().mean().backward()
        optimiser.step()

    assert trained.steps == 4
    for (key, tensor), other in zip(trained.model.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, other, msg=lambda m, key=key: f"{key}: {m}")


def test_a_seed_repeats_bit_for_bit_and_leaves_the_callers_randomness_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    runs = [train(PAIRS, replace(BRIEF, seed=seed)) for seed in (3, 3, 4)]
    assert torch.equal(torch.rand(1), expected)
    states = [run.model.state_dict() for run in runs]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["first.weight"], states[2]["first.weight"])
    assert runs[0].loss == runs[1].loss


def test_it_learns_and_predicts_with_the_statistics_of_a_short_run() -> None:
    """In evaluation mode the loss is that of the training: the running statistics have kept up."""
    losses: list[float] = []
    trained = train(PAIRS, Recipe.short(steps=80, batch=4, crop=24), on_step=lambda now: losses.append(now.loss))
    assert losses[-1] < 0.5 * losses[0]
    lr, hr = next(iter(DataLoader(RandomCrops(PAIRS, 24, 32, seed=9), batch_size=32)))
    with torch.no_grad():
        assert (trained.model(lr) - hr).abs().mean() < 1.3 * losses[-1]
    assert trained.model.magnification == 2.0  # the median of the pairs
    assert not trained.model.training
    assert all(module.momentum == 0.003 for module in trained.model.modules() if isinstance(module, _BatchNorm))


def test_ctrl_c_leaves_the_model_of_the_last_full_step() -> None:
    handler = signal.getsignal(signal.SIGINT)
    seen: list[Progress] = []

    def on_step(now: Progress) -> None:
        seen.append(now)
        if now.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    trained = train(PAIRS, replace(BRIEF, steps=50), on_step=on_step)
    assert trained.interrupted
    assert trained.steps == len(seen) <= 3
    assert all(bool(tensor.isfinite().all()) for tensor in trained.model.state_dict().values())
    assert signal.getsignal(signal.SIGINT) is handler


def test_it_ends_in_time() -> None:
    trained = train(PAIRS, replace(BRIEF, steps=1_000_000, max_seconds=0.5))
    assert 0 < trained.steps < 1000
    assert trained.seconds < 5
    assert not trained.interrupted


def test_copies_are_saved_on_the_way() -> None:
    saved: list[float] = []
    every = Interval(steps=1)
    train(PAIRS, BRIEF, checkpoint_every=every, on_save=lambda model: saved.append(float(model.first.weight.sum())))
    assert len(set(saved)) == 4


def test_what_cannot_be_trained_is_said() -> None:
    with pytest.raises(PairError, match="No pair has room for a crop of 64 x 64"):
        train(PAIRS, replace(BRIEF, crop=64))
    with pytest.raises(ModelError, match="no model 'vgg'"):
        train(PAIRS, BRIEF, name="vgg")
    broken = replace(PAIRS[0], hr=np.full_like(PAIRS[0].hr, np.nan))
    with pytest.raises(RecipeError, match="the loss became nan at step 1"):
        train([broken], BRIEF)


def test_it_is_quiet_and_leaves_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train(PAIRS, BRIEF)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_tells_what_it_was(tmp_path: Path) -> None:
    trained = train(PAIRS, BRIEF, references=8)
    save_run(tmp_path / "run", trained, BRIEF, PairSet(PAIRS, {"bad": "too dark"}))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["steps"] == record["steps_done"] == 4
    assert record["model"] == {"name": "aeanet", "references": 8, "batch_aware": True}
    assert record["data"]["pairs"] == ["toy-0", "toy-1", "toy-2"]
    assert record["data"]["refused"] == {"bad": "too dark"}
    assert record["magnification"] == load_model(tmp_path / "run").magnification == 2.0
    assert (
        record["versions"]["torch"] == torch.__version__.split("+")[0]
        or record["versions"]["torch"] == torch.__version__
    )


def test_the_fingerprint_is_that_of_the_pixels() -> None:
    changed = PAIRS[0].hr.copy()
    changed[3, 4] += 1e-3
    prints = {fingerprint(PAIRS), fingerprint(PAIRS[:2]), fingerprint([replace(PAIRS[0], hr=changed), *PAIRS[1:]])}
    assert len(prints) == 3
    assert fingerprint(PAIRS) == fingerprint([toy_pair(0), toy_pair(1), toy_pair(2)])
