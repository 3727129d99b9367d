"""Checkpoints: a training that was killed, however often, ends with the same bits as one left alone."""

import csv
import multiprocessing
import os
import random
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from toys import toy_pair

from aeanet.data.pairs import PairSet
from aeanet.networks.registry import load_model
from aeanet.training import (
    CHECKPOINT_FILE,
    CheckpointError,
    Interval,
    Progress,
    Recipe,
    RunError,
    Trained,
    open_run,
    save_run,
    train,
)
from aeanet.training.checkpoint import Checkpoint, random_state, set_random_state

PAIRS = [toy_pair(0), toy_pair(1)]
HELD_BACK = [toy_pair(2)]
BRIEF = Recipe.short(steps=6, batch=4, crop=16)
STEADY = Recipe(steps=4, batch=4, crop=16, halve_every=2)
KILLS = 20 if os.environ.get("AEANET_THOROUGH") else 3


def train_in(folder: Path, recipe: Recipe, *, resume: bool = False, **arguments: Any) -> Trained:
    """What `aeanet train` does once the pairs are registered."""
    with open_run(folder, resume=resume) as run:
        trained = train(PAIRS, recipe, run=run, **arguments)
        save_run(folder, trained, recipe, PairSet(PAIRS, {}))
    return trained


def assert_same_model(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (key, tensor), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), key


def victim(folder: Path) -> None:
    """A process that goes on where its predecessor was killed."""
    recipe = Recipe.short(steps=40, batch=4, crop=16, seed=11)
    resume = (folder / "checkpoint.safetensors").exists()
    with open_run(folder, resume=resume) as run:
        often = {"checkpoint_every": Interval(steps=5), "validate_every": Interval(steps=7)}
        trained = train(PAIRS, recipe, run=run, held_back=HELD_BACK, **often)
        save_run(folder, trained, recipe, PairSet(PAIRS, {}), HELD_BACK)


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at any moment: at the start, in a step, while a checkpoint, a log or a figure is written."""
    context = multiprocessing.get_context("forkserver")  # its processes need not import PyTorch again
    context.set_forkserver_preload(["aeanet.training", "toys"])
    moments = random.Random(0)

    def live(run: Path, seconds: float | None = None) -> bool:
        """Whether a process came to the end of its run before it was killed."""
        process = context.Process(target=victim, args=(run,))
        process.start()
        process.join(seconds)
        ended = process.exitcode == 0
        process.kill()
        process.join()
        assert ended or process.exitcode == -signal.SIGKILL
        return ended

    live(tmp_path / "warm-up")
    start = time.monotonic()
    live(tmp_path / "alone")
    lifetime = time.monotonic() - start
    run, killed, lives = tmp_path / "0", 0, 0
    while killed < KILLS:
        lives += 1
        if live(run, moments.uniform(0, lifetime)):
            assert_same_model(load_model(run), load_model(tmp_path / "alone"))
            run = tmp_path / str(lives)
        else:
            killed += 1
    live(run)
    assert_same_model(load_model(run), load_model(tmp_path / "alone"))
    assert (Checkpoint.read(run / CHECKPOINT_FILE).loss) == Checkpoint.read(tmp_path / "alone" / CHECKPOINT_FILE).loss
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows if row["loss"]] == [10, 20, 30, 40]
    assert [int(row["step"]) for row in rows if row["validation/psnr"]] == [7, 14, 21, 28, 35, 40]


@pytest.mark.parametrize("recipe", [BRIEF, STEADY, replace(BRIEF, precision="bfloat16", freeze=1.0)])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(recipe: Recipe, tmp_path: Path) -> None:
    alone = train(PAIRS, recipe)
    losses = []

    def interrupt(now: Progress) -> None:
        losses.append(now.loss)
        if len(losses) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    first = train_in(tmp_path, recipe, on_step=interrupt)
    assert first.interrupted
    assert first.steps == 3  # the one in hand was the third
    second = train_in(tmp_path, recipe, resume=True, on_step=interrupt)
    assert not second.interrupted
    assert len(losses) == second.steps == recipe.steps
    assert second.loss == losses[-1] == alone.loss
    assert second.seconds > first.seconds
    assert_same_model(second.model, alone.model)
    third = train_in(tmp_path, recipe, resume=True)  # nothing is left to do
    assert (third.steps, third.loss, third.steps_per_second) == (second.steps, second.loss, second.steps_per_second)
    assert_same_model(load_model(tmp_path), alone.model)


def test_more_steps_of_a_halving_schedule_are_those_of_a_longer_training(tmp_path: Path) -> None:
    train_in(tmp_path, STEADY)
    longer = replace(STEADY, steps=7)
    assert_same_model(train_in(tmp_path, longer, resume=True).model, train(PAIRS, longer).model)


def test_another_configuration_is_refused_and_nothing_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_in(tmp_path, BRIEF, references=4)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    changes = {
        "rate": (replace(BRIEF, rate=1e-3), {"references": 4}, r"begun with rate 0\.002, not 0\.001"),
        "steps": (replace(BRIEF, steps=9), {"references": 4}, "begun with steps 6, not 9"),
        "references": (BRIEF, {"references": 8}, "begun with references 4, not 8"),
        "name": (BRIEF, {"name": "unet"}, "begun with batch_aware True, not None"),
    }
    for recipe, options, reason in changes.values():
        with pytest.raises(CheckpointError, match=reason):
            train_in(tmp_path, recipe, resume=True, **options)
    with open_run(tmp_path, resume=True) as run, pytest.raises(CheckpointError, match="other training pairs"):
        train(PAIRS[:1], BRIEF, run=run, references=4)
    monkeypatch.setattr("aeanet.training.run.version", lambda name: "0.0.1")
    with pytest.raises(CheckpointError, match=r"begun with aeanet .*, not 0\.0\.1"):
        train_in(tmp_path, BRIEF, resume=True, references=4)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_a_checkpoint_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no .*/missing to resume"):
        train_in(tmp_path / "missing", BRIEF, resume=True)
    assert not (tmp_path / "missing").exists()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        train_in(tmp_path, BRIEF, resume=True)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"\x80\x04K*.")  # a pickle
    with pytest.raises(CheckpointError, match="is damaged or is not a checkpoint"):
        train_in(tmp_path, BRIEF, resume=True)
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(CheckpointError, match="is not a checkpoint of version 1"):
        train_in(tmp_path, BRIEF, resume=True)


def test_a_run_folder_has_one_training_at_a_time(tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(RunError, match="is in use by another training"), open_run(tmp_path):
        pass
    train_in(tmp_path, BRIEF)
    with pytest.raises(RunError, match="already holds a model or a checkpoint"):
        train_in(tmp_path, BRIEF)
    with pytest.raises(RunError, match="a run of one model for all pairs"), open_run(tmp_path, one_per_pair=True):
        pass
    with open_run(tmp_path, overwrite=True) as run:
        assert run.checkpoint is None


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("aeanet.training.run.FileLock.acquire", refuse)
    with open_run(tmp_path / "run") as run:
        assert run.path.is_dir()


def test_a_checkpoint_holds_every_generator(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    random.gauss(0, 1)  # leaves a second value behind
    state = random_state()
    configuration = {"recipe": asdict(BRIEF)}
    Checkpoint(3, 1.5, 0.25, 2.0, None, configuration, {}, {}, state).write(tmp_path / "c")
    expected = draw()
    assert draw() != expected
    read = Checkpoint.read(tmp_path / "c")
    set_random_state(read.random)
    assert draw() == expected
    assert (read.step, read.seconds, read.loss, read.scores) == (3, 1.5, 0.25, None)
