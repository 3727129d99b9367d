"""Training against a plain loop, its reproducibility, what is left when it is cut short."""

import os
import random
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from plain import plain_training
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.data import DataLoader
from toys import toy_pair

from aeanet.data.crops import RandomCrops
from aeanet.errors import PairError
from aeanet.networks.registry import ModelError
from aeanet.training import (
    Interval,
    Recipe,
    RecipeError,
    TrainingProgress,
    train,
)
from aeanet.training.randomness import random_state, set_random_state

PAIRS = [
    toy_pair(0, magnification=1.9),
    toy_pair(1, magnification=2.1),
    toy_pair(2, magnification=2.0),
]
BRIEF = Recipe.short(steps=4, batch=3, crop=16)


@pytest.mark.parametrize(
    ("name", "schedule", "freeze"),
    [("aeanet", "one-cycle", 0.5), ("aeanet", "halving", 1.0), ("unet", "halving", 0.5)],
)
def test_training_is_the_plain_loop(name: str, schedule: str, freeze: float) -> None:
    """The weights after a few steps are those of the simplest loop."""
    recipe = replace(BRIEF, schedule=schedule, halve_every=2, seed=5, freeze=freeze)
    trained = train(PAIRS, recipe, name=name)
    model, _ = plain_training(PAIRS, recipe, name, 4)

    assert trained.steps == 4
    for (key, tensor), other in zip(
        trained.model.state_dict().items(), model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(tensor, other, msg=lambda m, key=key: f"{key}: {m}")


def test_whoever_asks_for_it_stops_a_training_after_the_step_in_hand() -> None:
    """As Ctrl-C does, from any thread."""
    asked = iter([False, True])
    trained = train(PAIRS, BRIEF, stop=lambda: next(asked))
    assert (trained.steps, trained.interrupted) == (2, True)
    model, _ = plain_training(PAIRS, BRIEF, "aeanet", 2)
    for key, tensor in trained.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[key])


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
    trained = train(
        PAIRS, Recipe.short(steps=80, batch=4, crop=24), on_step=lambda now: losses.append(now.loss)
    )
    assert losses[-1] < 0.5 * losses[0]
    lr, hr = next(iter(DataLoader(RandomCrops(PAIRS, 24, 32, seed=9), batch_size=32)))
    with torch.no_grad():
        assert (trained.model(lr) - hr).abs().mean() < 1.3 * losses[-1]
    assert trained.model.magnification == 2.0  # the median of the pairs
    assert not trained.model.training
    assert all(
        module.momentum == 0.003
        for module in trained.model.modules()
        if isinstance(module, _BatchNorm)
    )


def test_ctrl_c_leaves_the_model_of_the_last_full_step() -> None:
    handler = signal.getsignal(signal.SIGINT)
    seen: list[TrainingProgress] = []

    def on_step(now: TrainingProgress) -> None:
        seen.append(now)
        if now.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    trained = train(PAIRS, replace(BRIEF, steps=50), on_step=on_step)
    assert trained.interrupted
    assert trained.steps == len(seen) <= 3
    assert all(bool(tensor.isfinite().all()) for tensor in trained.model.state_dict().values())
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_after_the_last_step_is_not_lost() -> None:
    """What comes after the training, such as the next experiment of a study, must not begin."""

    def on_step(now: TrainingProgress) -> None:
        if now.step == BRIEF.steps:
            os.kill(os.getpid(), signal.SIGINT)

    trained = train(PAIRS, BRIEF, on_step=on_step)
    assert (trained.steps, trained.interrupted) == (BRIEF.steps, True)


def test_it_ends_in_time() -> None:
    trained = train(PAIRS, replace(BRIEF, steps=1_000_000, max_seconds=0.5))
    assert 0 < trained.steps < 1000
    assert trained.seconds < 5
    assert not trained.interrupted


def test_copies_are_saved_on_the_way() -> None:
    saved: list[float] = []
    every = Interval(steps=1)
    train(
        PAIRS,
        BRIEF,
        checkpoint_every=every,
        on_save=lambda model: saved.append(model.first.weight.sum().item()),
    )
    assert len(set(saved)) == 4


def test_compiled_it_is_one_graph_and_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for training, one for when the statistics are frozen; none for the momentum, which
    changes at every step.
    """
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter, fullgraph=True))
    recipe = replace(BRIEF, steps=6, freeze=0.5)
    compiled = train(PAIRS, replace(recipe, compile=True)).model.state_dict()
    assert counter.frame_count == 2
    for (key, tensor), other in zip(
        train(PAIRS, recipe).model.state_dict().items(), compiled.values(), strict=True
    ):
        torch.testing.assert_close(
            other, tensor, rtol=1e-4, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}"
        )


def test_bfloat16_is_for_the_products_alone() -> None:
    dtypes = set()
    hook = register_module_forward_hook(
        lambda module, _, output: dtypes.add(output.dtype) if is_conv(module) else None
    )
    try:
        half = train(PAIRS, replace(BRIEF, precision="bfloat16"))
    finally:
        hook.remove()
    assert dtypes == {torch.bfloat16}
    full = train(PAIRS, BRIEF)
    assert {tensor.dtype for tensor in half.model.state_dict().values()} == {
        torch.float32,
        torch.int64,
    }
    assert half.loss == pytest.approx(full.loss, rel=0.02)
    assert half.loss != full.loss


def is_conv(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Conv2d)


def test_deterministic_algorithms_are_the_trainings_alone() -> None:
    seen: list[bool] = []
    train(
        PAIRS,
        replace(BRIEF, deterministic=True),
        on_step=lambda _: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [True] * 4
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_callers_generators_are_left_alone_and_none_of_them_matters() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    state = random_state()
    expected = draw()
    set_random_state(state)
    trained = train(PAIRS, BRIEF)
    assert draw() == expected
    assert train(PAIRS, BRIEF).loss == trained.loss


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
