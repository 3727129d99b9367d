"""The command as a user runs it: the four commands end to end on small images, and one sentence for
what goes wrong.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from safetensors.torch import save_file
from toys import aeanet, lively_network, simulated_folder, uneven_noise
from typer.testing import Result

from aeanet import cli, demo
from aeanet.io.images import read_image
from aeanet.io.mosaics import open_mosaic
from aeanet.networks.registry import build_model, load_model, save_model
from aeanet.training import Recipe

SHAPE = (236, 320)
BRIEF = ["--steps", "2", "--crop", "16", "--batch", "2"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated_folder(tmp_path_factory.mktemp("pairs"), range(2))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = build_model("aeanet", references=4)
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    return tmp_path / "run"


def assert_one_sentence(result: Result, *words: str, code: int = 1) -> None:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.endswith("."), result.stderr
    for word in words:
        assert word in last, result.stderr


COMMANDS = ["demo", "register", "train", "predict", "evaluate", "heatmaps", "reproduce"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_shows_an_example_and_is_light(command: list[str]) -> None:
    text = aeanet(*command, "--help").output
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


def test_evaluate_as_json_over_seeds_and_samples(pairs: Path, tmp_path: Path) -> None:
    runs = []
    for seed in range(2):
        torch.manual_seed(seed)
        runs.append(tmp_path / f"seed{seed}")
        save_model(build_model("unet"), runs[-1] / "model.safetensors")
    alone = [json.loads(aeanet("evaluate", run, pairs, "--json").stdout) for run in runs]
    both = json.loads(aeanet("evaluate", *runs, pairs, "--json").stdout)
    assert both["runs"] == [str(run) for run in runs]
    assert both["mean"]["psnr"] == pytest.approx(np.mean([one["mean"]["psnr"] for one in alone]))
    found = both["intervals"]["delta_psnr"]
    assert found["mean"] == pytest.approx(both["mean"]["delta_psnr"])
    assert found["interval"][0] < found["mean"] < found["interval"][1]
    (tmp_path / "samples.txt").write_text("0 1\n")
    together = json.loads(
        aeanet("evaluate", *runs, pairs, "--json", "--samples", tmp_path / "samples.txt").stdout
    )
    assert together["intervals"]["delta_psnr"] == {
        "mean": found["mean"],
        "interval": None,
    }  # one sample, no spread
    (tmp_path / "samples.txt").write_text("0 7\n")
    assert_one_sentence(
        aeanet("evaluate", runs[0], pairs, "--samples", tmp_path / "samples.txt"),
        "names the pair 7",
    )


def test_evaluate_a_run_of_one_model_per_pair(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "each"
    for seed in range(2):
        torch.manual_seed(seed)
        save_model(build_model("unet"), run / str(seed) / "model.safetensors")
    (run / "models.json").write_text(json.dumps({"models": {"0": "0", "1": "1"}, "left_out": {}}))
    record = json.loads(aeanet("evaluate", run, pairs, "--json").stdout)
    for seed, found in enumerate(record["pairs"]):
        alone = json.loads(aeanet("evaluate", run / str(seed), pairs, "--json").stdout)
        assert found == next(pair for pair in alone["pairs"] if pair["name"] == str(seed))
    (run / "models.json").write_text(
        json.dumps({"models": {"1": "1"}, "left_out": {"0": "too small"}})
    )
    result = aeanet("evaluate", run, pairs)
    assert result.exit_code == 0, result.output
    assert "±" not in result.stdout, "one pair says nothing of the spread"
    assert f"Pair 0 is left out: {run} holds no model of its own for it." in result.stderr
    (run / "models.json").write_text(json.dumps({"models": {"7": "1"}, "left_out": {}}))
    assert_one_sentence(aeanet("evaluate", run, pairs), "No pair was scored")


def test_evaluate_names_bad_pairs_and_models(run: Path, pairs: Path, tmp_path: Path) -> None:
    for kind in ("lr", "hr"):
        shutil.copytree(pairs / kind, tmp_path / "pairs" / kind)
    (tmp_path / "pairs" / "hr" / "1.png").write_bytes(b"cut short")
    (tmp_path / "pairs" / "hr" / "2.png").write_bytes(b"alone")
    result = aeanet("evaluate", run, tmp_path / "pairs", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [pair["name"] for pair in record["pairs"]] == ["0"]
    assert sorted(record["refused"]) == ["1", "2"]
    assert "Pair 1 is left out: " in result.stderr
    (tmp_path / "pairs" / "lr" / "0.png").unlink()
    assert_one_sentence(aeanet("evaluate", run, tmp_path / "pairs"), "None of the 1 pairs in")
    state = {"weight": torch.zeros(1)}
    for name, metadata, words in (
        ("foreign", None, "holds no aeanet model"),
        ("later", {"format": "aeanet", "version": "99"}, "version 99 of the model format"),
    ):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors", metadata)
        assert_one_sentence(aeanet("evaluate", tmp_path / name, pairs), words)


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


def test_16_bit_and_colour_images_go_through(run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    deep = random.integers(0, 65536, (12, 16)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(random.integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(
        tmp_path / "colour.bmp"
    )
    result = aeanet(
        "predict", run, tmp_path / "deep.tif", tmp_path / "colour.bmp", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "out" / "deep.tif").dtype == np.uint16
    assert read_image(tmp_path / "out" / "deep.tif").pixels.shape == (24, 32)
    assert read_image(tmp_path / "out" / "colour.png").dtype == np.uint8


def test_a_bad_image_does_not_stop_the_good_ones(run: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [tmp_path / "broken.png", tmp_path / "missing.png", pairs / "lr" / "0.png"]
    result = aeanet("predict", run, *images, "--out", tmp_path / "out")
    assert_one_sentence(result, "2 of 3 images could not be restored")
    assert "broken.png cannot be read as an image" in result.stderr
    assert "missing.png cannot be read" in result.stderr
    assert (tmp_path / "out" / "0.png").exists()


def test_tiles_change_nothing(tmp_path: Path) -> None:
    model = lively_network()
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    tifffile.imwrite(tmp_path / "a.tif", (uneven_noise(100, 140) * 65535).astype(np.uint16))
    for folder, options in (
        ("whole", ["--tile", "2000"]),
        ("tiled", ["--tile", "100"]),
        ("auto", []),
    ):
        result = aeanet(
            "predict", tmp_path / "run", tmp_path / "a.tif", "--out", tmp_path / folder, *options
        )
        assert result.exit_code == 0, result.output
    whole, tiled, auto = (
        tifffile.imread(tmp_path / name / "a.tif") for name in ("whole", "tiled", "auto")
    )
    assert np.array_equal(auto, whole)
    assert (
        np.abs(tiled.astype(int) - whole).max() <= 1
    )  # a rounding error may lie on a rounding step


@pytest.mark.parametrize("magnification", ["0", "-1", "inf", "nan"])
def test_a_magnification_that_cannot_be(
    run: Path, pairs: Path, tmp_path: Path, magnification: str
) -> None:
    options = ["--out", tmp_path / "out", "--magnification", magnification]
    assert_one_sentence(
        aeanet("predict", run, pairs / "lr" / "0.png", *options), "wanted a number from 0.9 to 16"
    )


def test_a_model_that_does_not_know_its_magnification(pairs: Path, tmp_path: Path) -> None:
    save_model(build_model("unet"), tmp_path / "run" / "model.safetensors")
    options = ["--out", tmp_path / "out"]
    result = aeanet("predict", tmp_path / "run", pairs / "lr" / "0.png", *options)
    assert_one_sentence(result, "does not know its magnification")
    assert (
        aeanet(
            "predict", tmp_path / "run", pairs / "lr" / "0.png", *options, "--magnification", 2
        ).exit_code
        == 0
    )


def test_images_by_regions_and_other_magnifications(run: Path, pairs: Path, tmp_path: Path) -> None:
    zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(60, 80), dtype="uint8", chunks=(32, 32))[
        :
    ] = 100
    options = ["--magnification", "1.5", "--tile", "64", "--precision", "bfloat16"]
    result = aeanet(
        "predict",
        run,
        tmp_path / "a.zarr",
        pairs / "lr" / "0.png",
        "--out",
        tmp_path / "out",
        *options,
    )
    assert result.exit_code == 0, result.output
    with open_mosaic(tmp_path / "out" / "a.zarr") as restored:
        assert restored.shape == (90, 120)
    assert read_image(tmp_path / "out" / "0.png").pixels.shape == (354, 480)


@pytest.mark.parametrize(
    ("tile", "words"), [("0", "a tile of 0 px is too small"), ("big", "--tile is 'big', wanted")]
)
def test_a_tile_that_cannot_be_is_refused_before_anything_is_done(
    run: Path, pairs: Path, tmp_path: Path, tile: str, words: str
) -> None:
    result = aeanet(
        "predict", run, pairs / "lr" / "0.png", "--out", tmp_path / "out", "--tile", tile
    )
    assert_one_sentence(result, words)
    assert not (tmp_path / "out").exists()


def test_results_never_replace_inputs_or_one_another(
    run: Path, pairs: Path, tmp_path: Path
) -> None:
    image = tmp_path / "0.png"
    image.write_bytes((pairs / "lr" / "0.png").read_bytes())
    result = aeanet("predict", run, image, "--out", tmp_path)
    assert_one_sentence(result, "1 of 1 images could not be restored")
    assert "would replace an input image" in result.stderr
    assert image.read_bytes() == (pairs / "lr" / "0.png").read_bytes()
    both = aeanet("predict", run, image, pairs / "lr" / "0.png", "--out", tmp_path / "out")
    assert_one_sentence(both, "1 of 2 images could not be restored")
    assert f"would be written to {tmp_path / 'out' / '0.png'}, as {image} is" in both.stderr
    assert (tmp_path / "out" / "0.png").exists()


def test_earlier_results_are_kept_unless_they_are_to_be_replaced(
    run: Path, pairs: Path, tmp_path: Path
) -> None:
    images = [pairs / "lr" / f"{seed}.png" for seed in range(2)]
    (tmp_path / "1.png").write_bytes(b"earlier")
    again = aeanet("predict", run, *images, images[0], "--out", tmp_path)
    assert_one_sentence(again, "1 of 2 images could not be restored")
    assert "1.png is already there; replace it with --overwrite" in again.stderr
    assert again.stdout.split() == [str(tmp_path / "0.png")]
    assert (tmp_path / "1.png").read_bytes() == b"earlier"
    assert aeanet("predict", run, *images, "--out", tmp_path, "--overwrite").exit_code == 0
    assert (
        read_image(tmp_path / "1.png").pixels.shape == read_image(tmp_path / "0.png").pixels.shape
    )


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
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
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
