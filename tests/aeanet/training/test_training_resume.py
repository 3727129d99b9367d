"""Checkpoints: a training that was killed, however often, ends with the same bits as one left
alone.
"""

import csv
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from plain import plain_training
from processes import forking
from toys import toy_pair

from aeanet.data.pairs import PairSet
from aeanet.networks.registry import load_model
from aeanet.training import (
    CHECKPOINT_FILE,
    CheckpointError,
    Interval,
    Recipe,
    RunError,
    TrainingProgress,
    TrainingResult,
    fingerprint,
    open_run,
    save_run,
    train,
)
from aeanet.training.checkpoint import Checkpoint
from aeanet.training.randomness import random_state, set_random_state

PAIRS = [toy_pair(0), toy_pair(1)]
HELD_BACK = [toy_pair(2)]
BRIEF = Recipe.short(steps=6, batch=4, crop=16)
STEADY = Recipe(steps=4, batch=4, crop=16, halve_every=2)
DISK = {
    "open",
    "write",
    "flush",
    "fsync",
    "replace",
    "rename",
    "close",
    "truncate",
    "serialize_file",
    "unlink",
}
"""Functions in C that change files, or nearly: one file is written by several of them."""
KILLS = 20 if os.environ.get("AEANET_THOROUGH") else 3


def train_in(
    folder: Path, recipe: Recipe, *, resume: bool = False, **arguments: Any
) -> TrainingResult:
    """What `aeanet train` does once the pairs are registered."""
    with open_run(folder, resume=resume) as run:
        trained = train(PAIRS, recipe, run=run, **arguments)
        save_run(folder, trained, recipe, PairSet(PAIRS, {}))
    return trained


def assert_same_model(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (key, tensor), expected in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, expected), key


def victim(folder: Path, kind: str = "any", last: int = -1) -> None:
    """A process that goes on where its predecessor was killed, until it is killed itself: at the
    start of a call.

    `last` is the number of that call, of those of its `kind`: "any" function, or one of `DISK`. A
    process that is not killed leaves the numbers of its calls beside the folder.
    """
    calls = Counter(any=0, disk=0)

    def count(_frame: object, event: str, function: Any) -> None:
        if event in ("call", "c_call"):
            calls["any"] += 1
            calls["disk"] += event == "c_call" and function.__name__ in DISK
            if calls[kind] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    recipe = Recipe.short(steps=40, batch=4, crop=16, seed=11)
    resume = (folder / "checkpoint.safetensors").exists()
    with open_run(folder, resume=resume) as run:
        often = {"checkpoint_every": Interval(steps=5), "validate_every": Interval(steps=15)}
        trained = train(PAIRS, recipe, run=run, held_back=HELD_BACK, **often)
        save_run(folder, trained, recipe, PairSet(PAIRS, {}), HELD_BACK)
    sys.setprofile(None)
    folder.with_suffix(".json").write_text(json.dumps(calls))


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at the start, in a step, while a checkpoint, a log or a figure is written."""
    moments = random.Random(0)

    def live(run: Path, *moment: Any) -> bool:
        """Whether a process came to the end of its run before it was killed."""
        process = forking().Process(target=victim, args=(run, *moment))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode == 0

    live(tmp_path / "alone")
    calls = json.loads((tmp_path / "alone.json").read_text())
    run, killed, lives = tmp_path / "0", 0, 0
    while killed < KILLS:
        lives += 1
        kind = moments.choice(["any", "disk"])
        if live(run, kind, moments.randint(1, calls[kind])):
            assert_same_model(load_model(run), load_model(tmp_path / "alone"))
            run = tmp_path / str(lives)
        else:
            killed += 1
    live(run)
    assert_same_model(load_model(run), load_model(tmp_path / "alone"))
    assert (Checkpoint.read(run / CHECKPOINT_FILE).loss) == Checkpoint.read(
        tmp_path / "alone" / CHECKPOINT_FILE
    ).loss
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows if row["loss"]] == [10, 20, 30, 40]
    assert [int(row["step"]) for row in rows if row["validation/psnr"]] == [1, 15, 30, 40]


@pytest.mark.parametrize(
    "recipe", [BRIEF, STEADY, replace(BRIEF, precision="bfloat16", freeze=1.0)]
)
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    recipe: Recipe, tmp_path: Path
) -> None:
    alone = train(PAIRS, recipe)
    losses = []

    def interrupt(now: TrainingProgress) -> None:
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
    assert (third.steps, third.loss, third.steps_per_second) == (
        second.steps,
        second.loss,
        second.steps_per_second,
    )
    assert_same_model(load_model(tmp_path), alone.model)


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its files are written here word for word: the format of checkpoints is a promise."""
    recipe = replace(STEADY, steps=12, halve_every=5)
    model, optimiser = plain_training(PAIRS, recipe, "aeanet", 10)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    words = {
        "bit_generator": "MT19937",
        "state": {"key": [7] * 624, "pos": 3},
        "has_gauss": 0,
        "gauss": 0.0,
    }
    state = {
        "step": 10,
        "seconds": 3.5,
        "loss": 0.25,
        "steps_per_second": 2.0,
        "scores": {"psnr": 20.0, "ssim": 0.5, "delta_psnr": 1.0, "delta_ssim": 0.1},
        "random": {"python": [3, [5] * 624 + [1], None], "numpy": words},
    }
    configuration = {
        "recipe": {
            "steps": 12,
            "batch": 4,
            "crop": 16,
            "rate": 0.0004,
            "schedule": "halving",
            "halve_every": 5,
            "betas": [0.9, 0.999],
            "epsilon": 1e-08,
            "max_seconds": None,
            "freeze": 1.0,
            "seed": 0,
            "precision": "32",
            "compile": False,
            "deterministic": False,
        },
        "model": {"name": "aeanet", "references": 64, "batch_aware": True},
        "data": {"pairs": ["toy-0", "toy-1"], "held_back": [], "sha256": fingerprint(PAIRS)},
        "versions": {name: version(name) for name in ("aeanet", "torch", "numpy")},
        "processes": 1,
    }
    metadata = {"format": "aeanet-checkpoint", "version": "1", "state": json.dumps(state)}
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}
        | {"random.0": torch.get_rng_state()},
        tmp_path / "checkpoint.safetensors",
        metadata | {"configuration": json.dumps(configuration)},
    )
    done = train_in(tmp_path, recipe, resume=True)
    assert (done.steps, done.validation) == (12, state["scores"])
    assert done.seconds > 3.5
    expected, _ = plain_training(PAIRS, recipe, "aeanet", 12)
    for (key, tensor), other in zip(
        expected.state_dict().items(), done.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(other, tensor, msg=lambda m, key=key: f"{key}: {m}")


def test_more_steps_of_a_halving_schedule_are_those_of_a_longer_training(tmp_path: Path) -> None:
    train_in(tmp_path, STEADY)
    longer = replace(STEADY, steps=7)
    assert_same_model(train_in(tmp_path, longer, resume=True).model, train(PAIRS, longer).model)


def test_another_configuration_is_refused_and_nothing_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_in(tmp_path, BRIEF, references=4)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    changes = {
        "rate": (
            replace(BRIEF, rate=1e-3),
            {"references": 4},
            r"begun with rate 0\.002, not 0\.001",
        ),
        "steps": (replace(BRIEF, steps=9), {"references": 4}, "begun with steps 6, not 9"),
        "time": (
            replace(BRIEF, max_seconds=90.0),
            {"references": 4},
            "begun with --minutes None, not 1.5: .* at that end",
        ),
        "references": (BRIEF, {"references": 8}, "begun with references 4, not 8"),
        "name": (BRIEF, {"name": "unet"}, "begun with batch_aware True, not None"),
    }
    for recipe, options, reason in changes.values():
        with pytest.raises(CheckpointError, match=reason):
            train_in(tmp_path, recipe, resume=True, **options)
    with (
        open_run(tmp_path, resume=True) as run,
        pytest.raises(CheckpointError, match="other training pairs"),
    ):
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
    with (
        open_run(tmp_path),
        pytest.raises(RunError, match="is in use by another training"),
        open_run(tmp_path),
    ):
        pass
    train_in(tmp_path, BRIEF)
    with pytest.raises(RunError, match="already holds a model or a checkpoint"):
        train_in(tmp_path, BRIEF)
    with (
        pytest.raises(RunError, match="a run of one model for all pairs"),
        open_run(tmp_path, one_per_pair=True),
    ):
        pass
    with open_run(tmp_path, overwrite=True) as run:
        assert run.checkpoint is None


def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    data = {"held_back": [], "sha256": ""}
    parts = {"versions": {}, "model": {"name": "unet"}, "data": data, "processes": 1}
    configuration = {"recipe": asdict(BRIEF)} | parts
    Checkpoint(3, 1.5, 0.25, 2.0, None, configuration, {}, {}, state).write(tmp_path / "c")
    expected = draw()
    assert draw() != expected
    read = Checkpoint.read(tmp_path / "c")
    set_random_state(read.random)
    assert draw() == expected
    assert (read.step, read.seconds, read.loss, read.scores) == (3, 1.5, 0.25, None)
