"""What stops a command: a full disk, a lack of memory, a defect, Ctrl-C."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import BRIEF, aeanet, assert_one_sentence, uneven_noise

from aeanet import cli
from aeanet.cli import request
from aeanet.io.images import write_image
from aeanet.networks.registry import build_model, load_model, save_model

INTERRUPTIONS = 20 if os.environ.get("AEANET_THOROUGH") else 5


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
    assert f"{refuge} instead: move this folder" in result.stderr
    assert load_model(refuge).magnification == pytest.approx(2, abs=0.03)
    assert list((tmp_path / "run").glob("*.safetensors*")) == []


@pytest.mark.parametrize("since", ["the beginning", "the end"])
def test_a_full_disk_and_no_room_elsewhere(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    """Both places are named, and what is said of --resume is so: the model is there then."""
    replace, saved, end = os.replace, request.save_run, []

    def full(source: str, target: Path) -> None:
        if Path(target).suffix == ".safetensors" and (end or since == "the beginning"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    def at_the_end(*arguments: Any) -> None:
        end.append(True)
        saved(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr(request, "save_run", at_the_end)
        patch.setattr("tempfile.tempdir", str(tmp_path))
        result = aeanet("train", pairs, "--out", tmp_path / "run", *BRIEF, "--checkpoint-every", 1)
    places = [f"{tmp_path / name}" for name in ("run/model.safetensors", "aeanet-run-")]
    assert_one_sentence(result, *places, "The run is incomplete: make room, then ")

    again = aeanet("train", pairs, "--out", tmp_path / "run", "--resume")
    assert (again.exit_code == 0) == ("with --resume" in result.stderr) == (since == "the end")
    if since == "the end":
        assert load_model(tmp_path / "run").magnification == pytest.approx(2, abs=0.03)


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, and the run of a network that restores each in milliseconds."""
    folder = tmp_path_factory.mktemp("many")
    model = build_model("shuffled", widths=(4,), blocks=(1,))
    model.magnification = 2.0
    save_model(model, folder / "run" / "model.safetensors")
    for number in range(6):
        write_image(folder / f"{number}.png", uneven_noise(60, 70 + number))
    return folder


def test_a_disk_that_is_full_for_one_image_costs_that_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network is on the next one; what is said keeps its order."""
    sync, calls = os.fsync, count(1)

    def full(descriptor: int) -> None:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    images = [folder / f"{number}.png" for number in range(6)]
    result = aeanet("predict", folder / "run", *images, folder / "7.png", "--out", tmp_path)
    assert_one_sentence(result, "2 of 7 images could not be restored", f"{folder / '2.png'}, ")
    written = [str(tmp_path / f"{number}.png") for number in (0, 1, 3, 4, 5)]
    assert result.stdout.split() == written
    said = result.stderr.index
    assert said("No space left on device") < said("7.png cannot be read")
    assert sorted(map(str, tmp_path.iterdir())) == written


def test_ctrl_c_at_any_moment_leaves_whole_results_and_a_second_call_does_the_rest(
    folder: Path, tmp_path: Path
) -> None:
    # such as those of dask, which stay for good
    before = threading.enumerate()

    def contents(folder: Path) -> dict[str, bytes]:
        end_of_threads(before)
        return {file.name: file.read_bytes() for file in folder.glob("*")}

    command = "predict", folder / "run", *(folder / f"{number}.png" for number in range(6))
    start = time.perf_counter()
    assert aeanet(*command, "--out", tmp_path / "whole").exit_code == 0
    seconds = time.perf_counter() - start
    whole = contents(tmp_path / "whole")
    assert len(whole) == 6

    random = np.random.default_rng(0)
    for number in range(INTERRUPTIONS):
        out = tmp_path / str(number)
        try:
            with interrupted_after(random.uniform(0.1, 1) * seconds):
                first = aeanet(*command, "--out", out)
        except KeyboardInterrupt:  # just before the command began, or after it had ended
            assert contents(out) in ({}, whole)
            continue
        assert "Traceback" not in first.output
        assert first.exit_code in (0, 1, cli.shared.INTERRUPTED)
        kept = contents(out)
        assert kept.items() <= whole.items(), "a result is not whole"
        assert {Path(line).name for line in first.stdout.split()} <= kept.keys()

        second = aeanet(*command, "--out", out)
        assert second.stderr.count("is already there") == len(kept)
        assert contents(out) == whole


def end_of_threads(before: list[threading.Thread]) -> None:
    """Wait until no thread that was not there before may still write."""
    for thread in threading.enumerate():
        if thread in before or thread.daemon:
            continue
        # Ctrl-C within the start of a thread leaves one that begins at once, or never.
        patience = time.monotonic() + 1
        while thread.ident is None and time.monotonic() < patience:
            time.sleep(0.01)
        if thread.ident is not None:
            thread.join()


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Within it, Ctrl-C comes after so long."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
