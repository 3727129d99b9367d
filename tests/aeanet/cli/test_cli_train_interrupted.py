"""`aeanet train` that is killed, interrupted, or run as several processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import simulated_folder
from train_calls import BRIEF, aeanet_train, assert_same_model, record, refused, trained

from aeanet import cli
from aeanet.data.pairs import hold_back, load_pairs
from aeanet.networks.registry import load_model
from aeanet.training import Recipe, train


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated_folder(tmp_path_factory.mktemp("pairs"), range(3))


def test_ctrl_c_while_a_library_is_drawn(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aeanet.networks.baselines.Library.fit", lambda *_: os.kill(os.getpid(), signal.SIGINT)
    )
    assert (
        aeanet_train(pairs, "--out", tmp_path, "--model", "srsw").exit_code
        == cli.shared.INTERRUPTED
    )
    assert not (tmp_path / "model.safetensors").exists()


def test_killed_it_resumes_with_the_options_of_its_beginning(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*BRIEF, "--steps", 100, "--validate", 1, "--references", 4]
    command = [
        sys.executable,
        "-m",
        "aeanet",
        "train",
        pairs,
        "--out",
        run,
        "--checkpoint-every",
        20,
        *options,
    ]
    with subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (run / "model.safetensors").exists():
            time.sleep(0.02)
        assert "is in use by another training" in refused(pairs, "--out", run, "--resume")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert record(run)["interrupted"]
    assert "begun with references 4, not 8" in refused(
        pairs, "--out", run, "--resume", "--references", 8
    )
    assert "100 steps in" in trained(pairs, "--out", run, "--resume").stdout
    assert "Nothing was left to do" in trained(pairs, "--out", run, "--resume").stderr
    data, held_back = hold_back(load_pairs(pairs), 1)
    assert_same_model(
        run,
        train(data, Recipe.short(steps=100, crop=16, batch=2), references=4, residual=True).model,
    )
    found = record(run)
    assert found["data"]["held_back"] == [pair.name for pair in held_back] == ["1"]
    assert found["data"]["pairs"] == ["0", "2"]
    assert found["validation"]["psnr"] > 0
    assert found["steps_per_second"] > 0
    assert not found["interrupted"]
    assert (run / "validation.png").stat().st_size > 0
    assert list((run / "tensorboard").glob("events.*"))


def test_torchrun(pairs: Path, tmp_path: Path) -> None:
    """Two real processes: they speak as one, and end with one sentence each where neither can go
    on.
    """
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command = [
        *launcher,
        "-m",
        "aeanet",
        "train",
        str(pairs),
        "--out",
        str(tmp_path),
        *(str(word) for word in BRIEF),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 steps in") == 1
    assert record(tmp_path)["processes"] == 2
    load_model(tmp_path)
