"""Training against a plain loop, its reproducibility, what goes on beside it, what is left when it
is cut short.
"""

import csv
import json
import math
import os
import random
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plain import plain_training
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.data import DataLoader
from toys import toy_pair

from aeanet.data.crops import RandomCrops
from aeanet.data.pairs import PairSet
from aeanet.errors import PairError
from aeanet.networks.registry import ModelError, load_model
from aeanet.training import (
    Interval,
    Recipe,
    RecipeError,
    TrainingProgress,
    fingerprint,
    open_run,
    save_run,
    train,
)
from aeanet.training.logs import open_logs
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


def test_held_back_pairs_are_restored_scored_drawn_and_logged(tmp_path: Path) -> None:
    recipe = replace(BRIEF, steps=25)
    with open_run(tmp_path) as run:
        trained = train(
            PAIRS[:1], recipe, run=run, held_back=PAIRS[1:], validate_every=Interval(steps=20)
        )
    scores = []
    for pair in PAIRS[1:]:
        with torch.no_grad():
            restored = (
                trained.model(torch.from_numpy(pair.lr)[None, None])[0, 0].clamp(0, 1).numpy()
            )
        scores.append(
            [
                peak_signal_noise_ratio(pair.hr, restored, data_range=1),
                peak_signal_noise_ratio(pair.hr, pair.lr, data_range=1),
                structural_similarity(pair.hr, restored, data_range=1),
            ]
        )
    psnr, bicubic, ssim = np.mean(scores, axis=0)
    assert trained.validation == pytest.approx(
        {
            "psnr": psnr,
            "delta_psnr": psnr - bicubic,
            "ssim": ssim,
            "delta_ssim": trained.validation["delta_ssim"],
        },
        abs=2e-4,
    )
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    scored = {
        int(row["step"]): float(row["validation/psnr"]) for row in rows if row["validation/psnr"]
    }
    assert list(scored) == [2, 20, 25]  # early, in turn, at the end
    assert scored[25] == pytest.approx(psnr, abs=2e-4)
    with Image.open(tmp_path / "validation.png") as figure:
        assert figure.width > 1000
    logged = {
        int(row["step"]): (float(row["loss"]), float(row["rate"])) for row in rows if row["loss"]
    }
    assert list(logged) == [10, 20, 25]
    assert logged[20][1] == recipe.learning_rate(19, 19 / 25)
    assert logged[25][0] == trained.loss
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("validation/psnr")] == [2, 20, 25]
    assert events.Scalars("loss")[-1].value == pytest.approx(trained.loss)


def test_validation_leaves_the_training_as_it_was() -> None:
    watched = train(PAIRS[:2], BRIEF, held_back=PAIRS[2:], validate_every=Interval(steps=1))
    alone = train(PAIRS[:2], BRIEF)
    for tensor, other in zip(
        watched.model.state_dict().values(), alone.model.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other)


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
    prints = {
        fingerprint(PAIRS),
        fingerprint(PAIRS[:2]),
        fingerprint([replace(PAIRS[0], hr=changed), *PAIRS[1:]]),
    }
    assert len(prints) == 3
    assert fingerprint(PAIRS) == fingerprint([toy_pair(0), toy_pair(1), toy_pair(2)])


def test_a_log_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """A crash leaves lines of later steps and perhaps half a line; an earlier version had the
    columns it needed.
    """
    table = tmp_path / "metrics.csv"
    table.write_bytes(
        b"loss,rate,seconds,step\r\n0.5,0.1,3.0,10\r\n0.4,0.1,6.0,20\r\n0.3,0.1,9.0,30\r\n0.2,0.1,12.0,1"
    )
    with open_logs(tmp_path, 20, None) as log:
        log(25, {"validation/psnr": 30.5, "validation/ssim": math.nan})
    rows = list(csv.DictReader(table.open(newline="")))
    assert [(row["step"], row["loss"], row["validation/psnr"]) for row in rows] == [
        ("10", "0.5", ""),
        ("20", "0.4", ""),
        ("25", "", "30.5"),
    ]
    assert rows[-1]["validation/ssim"] == ""
    with open_logs(tmp_path, 0, None):
        pass
    assert len(table.read_text().splitlines()) == 1
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_files_that_cannot_be_written_do_not_end_a_training(tmp_path: Path) -> None:
    troubles: list[OSError] = []

    def on_step(now: TrainingProgress) -> None:
        if now.step == 1:
            (tmp_path / "metrics.csv").unlink()
            (tmp_path / "metrics.csv").mkdir()
            (tmp_path / "checkpoint.safetensors").unlink()
            (tmp_path / "checkpoint.safetensors").mkdir()

    with open_run(tmp_path) as run:
        trained = train(PAIRS, BRIEF, run=run, on_step=on_step, on_trouble=troubles.append)
    assert trained.steps == 4
    assert [Path(error.filename).name for error in troubles] == [
        "metrics.csv",
        "checkpoint.safetensors",
    ]
    (tmp_path / "checkpoint.safetensors").rmdir()
    with open_run(tmp_path) as run, pytest.raises(OSError, match=r"metrics\.csv"):
        train(PAIRS, BRIEF, run=run)
