"""What stops a command: a full disk, a lack of memory, a defect, Ctrl-C."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import BRIEF, aeanet, assert_one_sentence

from aeanet import cli
from aeanet.networks.registry import load_model


def test_a_full_disk_after_the_training_does_not_lose_the_model(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).parent.name == "run" and Path(target).suffix == ".safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "refuge"))
    (tmp_path / "refuge").mkdir()
    result = aeanet("train", pairs, "--out", tmp_path / "run", *BRIEF, "--checkpoint-every", 1)
    assert_one_sentence(result, "No space left on device", "The trained model is in")
    assert "could not be saved for now" in result.stderr
    (refuge,) = (tmp_path / "refuge").glob("aeanet-run-*")
    assert f"{refuge} instead." in result.stderr
    assert load_model(refuge).magnification == pytest.approx(2, abs=0.03)
    assert list((tmp_path / "run").glob("*.safetensors*")) == []


def test_a_full_disk_in_prediction(
    run: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = aeanet("predict", run, pairs / "lr" / "0.png", "--out", tmp_path / "out")
    assert_one_sentence(result, "1 of 1 images could not be restored")
    assert "No space left on device" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "9 bytes"
        ),
    ],
)
def test_short_of_memory(
    error: Exception, run: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("aeanet.scoring.evaluation.restore", fail)
    assert_one_sentence(aeanet("evaluate", run, pairs), "not enough memory")


def test_a_defect_of_ours_keeps_its_traceback(
    run: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("aeanet.scoring.evaluation.restore", fail)
    assert isinstance(aeanet("evaluate", run, pairs).exception, RuntimeError)


def test_ctrl_c_leaves_a_usable_model(pairs: Path, tmp_path: Path) -> None:
    """A real process, a real signal: sent once a copy of the model shows that the training is under
    way.
    """
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "aeanet",
        "train",
        pairs,
        "--out",
        run,
        "--steps",
        "1000000",
        *BRIEF[2:],
    ]
    command += ["--checkpoint-every", "5"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (run / "model.safetensors").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == cli.shared.INTERRUPTED, errors
    assert "Traceback" not in errors
    assert errors.rstrip().replace("\n", " ").endswith(f"is in {run}; --resume goes on."), errors
    assert json.loads((run / "run.json").read_text())["interrupted"]
    predicted = aeanet("predict", run, pairs / "lr" / "0.png", "--out", tmp_path / "out")
    assert predicted.exit_code == 0, predicted.output


def test_ctrl_c_elsewhere_is_one_sentence(
    run: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aeanet.scoring.evaluation.restore", fail)
    assert_one_sentence(aeanet("evaluate", run, pairs), "Interrupted.", code=cli.shared.INTERRUPTED)
