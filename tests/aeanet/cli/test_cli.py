"""The command as a user runs it: end to end on small images; one sentence for what goes wrong."""

import json
import os
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image
from toys import BRIEF, aeanet, assert_one_sentence

from aeanet import cli, demo
from aeanet.io.images import read_image
from aeanet.networks.registry import load_model
from aeanet.training import Recipe

SHAPE = (236, 320)


COMMANDS = [
    *("restore", "frames", "demo", "register", "train", "predict", "evaluate", "score"),
    *("heatmaps", "export", "reproduce", "pretrain", "info"),
]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_shows_an_example_and_is_light(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = aeanet(*command, "--help").output
    assert "…" not in text, "a name or a word is cut"
    assert not command or "<bool>" not in text, "a flag takes no value"
    assert all(name in text for name in command or COMMANDS)
    if command:
        assert f"Example: aeanet {command[0]} " in text


def test_the_version_and_the_short_name_of_help() -> None:
    assert aeanet("--version").stdout == f"aeanet {version('aeanet')}\n"
    for command in ([], ["restore"]):
        assert aeanet(*command, "-h").stdout == aeanet(*command, "--help").stdout


def test_help_does_not_wait_for_pytorch() -> None:
    code = "import sys, aeanet.cli; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_train_predict_evaluate(pairs: Path, tmp_path: Path) -> None:
    run, restored, scores = tmp_path / "run", tmp_path / "restored", tmp_path / "scores"
    trained = aeanet(
        "train", pairs, "--out", run, "--quick", *BRIEF, "--references", 8, "--seed", 3
    )
    assert trained.exit_code == 0, trained.output
    assert "2 steps in" in trained.stdout
    record = json.loads((run / "run.json").read_text())
    assert record["model"] == {
        "name": "aeanet",
        "references": 8,
        "batch_aware": True,
        "residual": True,
    }
    assert {
        "steps": 2,
        "crop": 16,
        "batch": 2,
        "seed": 3,
        "schedule": "one-cycle",
        "rate": 2e-3,
    }.items() <= record["recipe"].items()
    assert record["data"]["pairs"] == ["0", "1"]
    assert record["magnification"] == pytest.approx(2, abs=0.03)

    predicted = aeanet(
        "predict", run, pairs / "lr" / "0.png", pairs / "lr" / "1.png", "--out", restored
    )
    assert predicted.exit_code == 0, predicted.output
    assert predicted.stdout.split() == [str(restored / "0.png"), str(restored / "1.png")]
    size = tuple(round(side * record["magnification"]) for side in SHAPE)
    assert read_image(restored / "0.png").pixels.shape == size

    evaluated = aeanet("evaluate", run, pairs, "--out", scores)
    assert evaluated.exit_code == 0, evaluated.output
    mean = json.loads((scores / "evaluation.json").read_text())["mean"]
    assert f"{mean['psnr']:.2f}" in evaluated.stdout
    assert f"{mean['delta_ssim']:+.4f}" in evaluated.stdout
    with Image.open(scores / "1.png") as picture:
        assert picture.width > 1000


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = partial(demo.run_demo, recipe=Recipe.short(steps=2, crop=16, batch=2), shape=SHAPE)
    monkeypatch.setattr(demo, "run_demo", brief)
    result = aeanet("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    expected = {
        "comparison.png",
        "demo.json",
        "hr.png",
        "lr.png",
        "lr_bicubic.png",
        "run",
        "super_resolved.png",
    }
    assert {path.name for path in (tmp_path / "demo").iterdir()} == expected
    assert read_image(tmp_path / "demo" / "super_resolved.png").pixels.shape == SHAPE
    assert load_model(tmp_path / "demo" / "run").config["name"] == "aeanet"
    # 59 x 80 positions at the bottom; the map would have positions x (positions + references) x
    # heads x 4 bytes
    assert "4,720 positions and 4,784 keys, 2 heads" in result.stdout
    assert f"{4720 * 4784 * 2 * 4 / 1e9:.1f} GB" in result.stdout
    assert f"{2 * 4720 * 4784 * 2 * 128 / 1e9:.0f} GFLOP" in result.stdout


def test_an_earlier_model_is_not_trained_over(run: Path, pairs: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    assert_one_sentence(
        aeanet("train", pairs, "--out", run, *BRIEF), "already holds a model", "--overwrite"
    )
    assert (run / "model.safetensors").read_bytes() == before
    assert aeanet("train", pairs, "--out", run, *BRIEF, "--overwrite").exit_code == 0
    assert (run / "model.safetensors").read_bytes() != before


def test_a_pair_that_cannot_be_used_is_named_and_the_others_go_on(
    pairs: Path, tmp_path: Path
) -> None:
    for kind, seed in (("lr", 0), ("hr", 1)):  # two different fields
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        (tmp_path / "pairs" / kind / "good.png").write_bytes((pairs / kind / "0.png").read_bytes())
        (tmp_path / "pairs" / kind / "strangers.png").write_bytes(
            (pairs / kind / f"{seed}.png").read_bytes()
        )
    result = aeanet("train", tmp_path / "pairs", "--out", tmp_path / "run", *BRIEF)
    assert result.exit_code == 0, result.output
    assert "Pair strangers is left out: " in result.stderr
    assert list(json.loads((tmp_path / "run" / "run.json").read_text())["data"]["refused"]) == [
        "strangers"
    ]


def test_one_sentence_for_wrong_folders_and_files(run: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_sentence(
        aeanet("train", tmp_path / "empty", "--out", tmp_path / "new"), "holds no complete pair"
    )
    assert_one_sentence(
        aeanet("train", tmp_path / "nowhere", "--out", tmp_path / "new"), "nowhere is not a folder"
    )
    assert_one_sentence(aeanet("evaluate", tmp_path / "empty", pairs), "there is no model at")
    (tmp_path / "file").write_bytes(b"")
    assert_one_sentence(
        aeanet("train", pairs, "--out", tmp_path / "file"), "file cannot be made a folder"
    )
    assert_one_sentence(
        aeanet("predict", tmp_path / "file", pairs / "lr" / "0.png", "--out", tmp_path / "o"),
        "damaged",
    )
    assert_one_sentence(
        aeanet("train", pairs, "--out", tmp_path / "new", "--steps", 0), "steps is 0, wanted"
    )
    assert_one_sentence(
        aeanet("train", pairs, "--out", tmp_path / "new", "--crop", 900),
        "room for a crop of 900 x 900",
    )
    assert aeanet("train", pairs).exit_code == 2


def test_threads_that_wait_leave_the_cores_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*cli.THREADS, "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    cli.leave_cores()
    assert "GOMP_SPINCOUNT" not in os.environ  # it would count for more than the policy
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setitem(cli.THREADS, "OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    cli.leave_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
