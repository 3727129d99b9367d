"""Several processes train as one; one that dies ends the others."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import end, start_ranks
from toys import toy_pair

from aeanet.data.pairs import PairSet
from aeanet.distributed import ProcessError, all_processes, rank
from aeanet.networks.registry import load_model
from aeanet.training import (
    CHECKPOINT_FILE,
    CheckpointError,
    Recipe,
    RecipeError,
    TrainingProgress,
    open_run,
    save_run,
    train,
)
from aeanet.training.sources import crop_indices

PAIRS = [toy_pair(0), toy_pair(1)]
RECIPE = Recipe(steps=3, batch=4, crop=16, seed=2)


def as_rank(target: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    with all_processes():
        target(*arguments)


def start(target: Callable[..., None], *arguments: Any) -> list[BaseProcess]:
    return start_ranks(as_rank, (target, *arguments))


def train_and_save(folder: Path, name: str) -> None:
    with in_double_precision(), open_run(folder) as run:
        trained = train(PAIRS, RECIPE, name=name, run=run)
        torch.save([trained.model.state_dict(), trained.loss], folder / f"{rank()}.pt")


@contextmanager
def in_double_precision() -> Iterator[None]:
    """In float32 rounding alone, as by another number of threads, moves weights by 7e-4: MAE and
    Adam go by signs.
    """
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["aeanet", "unet"])
def test_two_ranks_train_as_one_with_the_joint_batch(name: str, tmp_path: Path) -> None:
    assert end(start(train_and_save, tmp_path, name)) == [0, 0]
    with in_double_precision():
        alone = train(PAIRS, replace(RECIPE, batch=8), name=name)
    for number in range(2):
        weights, loss = torch.load(tmp_path / f"{number}.pt")
        assert loss == pytest.approx(alone.loss, rel=1e-6)
        for key, tensor in alone.model.state_dict().items():
            torch.testing.assert_close(
                weights[key], tensor, rtol=1e-5, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}"
            )


def train_in_two_goes(folder: Path, interrupt: bool) -> None:
    def on_step(now: TrainingProgress) -> None:
        if interrupt and now.step == 1 and rank() == 1:
            os.kill(os.getpid(), signal.SIGINT)

    recipe = replace(RECIPE, steps=4)
    with open_run(folder, resume=(folder / CHECKPOINT_FILE).exists()) as run:
        trained = train(PAIRS, recipe, run=run, held_back=[toy_pair(2)], on_step=on_step)
        if not rank():
            save_run(folder, trained, recipe, PairSet(PAIRS, {}))
    os._exit(40 + trained.steps)


def test_ctrl_c_at_one_rank_ends_both_after_the_same_step_and_they_go_on(tmp_path: Path) -> None:
    assert end(start(train_in_two_goes, tmp_path / "run", True)) == [42, 42]
    assert end(start(train_in_two_goes, tmp_path / "run", False)) == [44, 44]
    assert end(start(train_in_two_goes, tmp_path / "alone", False)) == [44, 44]
    run, alone = (load_model(tmp_path / name).state_dict() for name in ("run", "alone"))
    assert all(torch.equal(run[key], alone[key]) for key in alone)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["processes"], record["steps_done"], record["interrupted"]) == (2, 4, False)
    with (
        open_run(tmp_path / "run", resume=True) as one,
        pytest.raises(CheckpointError, match="by 2 processes, not 1"),
    ):
        train(PAIRS, replace(RECIPE, steps=4), run=one)


def die(number: int, signal_number: int) -> None:
    def on_step(now: TrainingProgress) -> None:
        if now.step == 2 and rank() == number:
            os.kill(os.getpid(), signal_number)

    try:
        trained = train(PAIRS, replace(RECIPE, steps=1000), on_step=on_step)
        os._exit(40 + trained.steps)
    except ProcessError as error:
        os._exit(30 if "Another process of this training ended" in str(error) else 31)


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_that_dies_ends_the_other_with_a_sentence(number: int) -> None:
    codes = end(start(die, number, signal.SIGKILL), seconds=30)
    assert codes[number] == -signal.SIGKILL
    assert codes[1 - number] == 30


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_joint_batch_is_that_of_a_single_process_halves_included(processes: int) -> None:
    for step in range(2, 5):
        ranks = [crop_indices(step, 4, rank=rank, processes=processes) for rank in range(processes)]
        joint = range(step * 4 * processes, (step + 1) * 4 * processes)
        halves = [
            sorted(chain.from_iterable(batch[part] for batch in ranks))
            for part in (slice(2), slice(2, None))
        ]
        assert halves == [list(joint[: 2 * processes]), list(joint[2 * processes :])]
    assert [crop_indices(step, 3) for step in range(2)] == [[0, 1, 2], [3, 4, 5]]


def test_a_batch_that_cannot_be_halved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(RecipeError, match="batch is 3, wanted an even number"):
        train(PAIRS, replace(RECIPE, batch=3))
