"""`aeanet train` as a user runs it: its options, and a model per pair."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import simulated_folder
from train_calls import BRIEF, aeanet_train, assert_same_model, record, refused, trained

from aeanet import cli
from aeanet.data.pairs import load_pairs
from aeanet.data.synthetic import simulate_pair
from aeanet.io.images import write_image
from aeanet.networks.registry import load_model
from aeanet.scoring.evaluation import evaluate
from aeanet.training import Recipe, listed_models, open_run, train

RECIPE = Recipe.short(steps=3, crop=16, batch=2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated_folder(tmp_path_factory.mktemp("pairs"), range(3))


def test_every_number_of_the_recipe_is_an_option(pairs: Path, tmp_path: Path) -> None:
    wanted = {
        "steps": 2,
        "batch": 2,
        "crop": 16,
        "rate": 1e-3,
        "schedule": "one-cycle",
        "halve_every": 7,
        "betas": [0.8, 0.99],
        "epsilon": 1e-7,
        "loss": "relative",
        "freeze": 0.9,
        "seed": 4,
        "precision": "bfloat16",
        "deterministic": True,
        "compile": False,
    }
    options: list[object] = [
        "--betas",
        0.8,
        0.99,
        "--deterministic",
        "--no-compile",
        "--minutes",
        2,
    ]
    for name, value in wanted.items():
        if name not in ("betas", "deterministic", "compile"):
            options += [f"--{name.replace('_', '-')}", value]
    trained(
        pairs,
        "--out",
        tmp_path,
        *options,
        "--model",
        "aeanet",
        "--references",
        5,
        "--no-batch-aware",
    )
    found = record(tmp_path)
    assert found["recipe"] == wanted | {"max_seconds": 120}
    assert found["model"] == {"name": "aeanet", "references": 5, "batch_aware": False}


@pytest.mark.parametrize(
    ("options", "model"),
    [
        (["--quick", "--no-residual", "--model", "unet"], {"name": "unet"}),
        (["--residual", "--model", "gvtnet"], {"name": "gvtnet", "residual": True}),
        (["--quick", "--model", "vdsr"], {"name": "vdsr"}),
    ],
)
def test_which_networks_are_residual(
    pairs: Path, tmp_path: Path, options: list[str], model: dict[str, Any]
) -> None:
    trained(pairs, "--out", tmp_path, *options, *BRIEF)
    assert record(tmp_path)["model"] == model


def test_a_method_by_example(pairs: Path, tmp_path: Path) -> None:
    """It has no steps, so none to go on with, but held-back pairs; what it replaces is not
    resumed.
    """
    trained(pairs, "--out", tmp_path, *BRIEF)
    done = trained(pairs, "--out", tmp_path, "--model", "srsw", "--validate", 1, "--overwrite")
    assert "Training on 2 pairs; 1 held back." in done.stderr
    assert f"A library of patches; the model is in {tmp_path}." in done.stdout
    assert "take days" not in done.stderr
    found = record(tmp_path)
    assert f"held back: {found['validation']['delta_psnr']:+.2f} dB PSNR and " in done.stdout
    assert (found["steps_done"], found["interrupted"], found["loss"]) == (0, False, None)
    assert found["seconds"] > 0
    assert found["validation"]["delta_psnr"] > 0
    assert (tmp_path / "validation.png").is_file()
    assert evaluate(load_model(tmp_path), load_pairs(pairs).pairs[:1]).mean.delta_psnr > 0
    assert "holds no checkpoint" in refused(pairs, "--out", tmp_path, "--resume")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["--model", "vdsr", "--residual"],
            "the model 'vdsr' has no option 'residual'; it has none.",
        ),
        (
            ["--model", "unet", "--references", 3],
            "the model 'unet' has no option 'references'; its options are residual.",
        ),
    ],
)
def test_options_of_another_model(
    pairs: Path, tmp_path: Path, options: list[object], reason: str
) -> None:
    assert reason in refused(pairs, "--out", tmp_path, *options, *BRIEF)


def test_another_model_is_not_resumed(pairs: Path, tmp_path: Path) -> None:
    ended_by_time = trained(pairs, "--out", tmp_path, *BRIEF, "--steps", 9999, "--minutes", 0.0001)
    assert " of 9,999 steps in " in ended_by_time.stdout
    assert "references learn nothing" not in ended_by_time.stderr
    for option, vain in (("--batch-aware", True), ("--no-batch-aware", False)):
        done = trained(
            pairs, "--out", tmp_path / option, *BRIEF, "--steps", 1, "--batch", 1, option
        )
        assert ("With --batch 1 the references learn nothing" in done.stderr) is vain
    assert f"{tmp_path} trains aeanet: resume it without --model" in refused(
        pairs, "--out", tmp_path, "--resume", "--model", "lbnlm"
    )
    again = trained(pairs, "--out", tmp_path, "--resume", "--from", tmp_path)
    assert "--from is not used" in again.stderr


def test_without_options_it_is_the_papers_recipe(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def note(data: object, recipe: Recipe, **options: object) -> None:
        asked.append((recipe, options["name"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("aeanet.training.train", note)
    begun = aeanet_train(pairs, "--out", tmp_path)
    assert begun.exit_code == cli.shared.INTERRUPTED
    assert asked == [(Recipe(), "aeanet")]
    assert (
        "120,000 steps take days without a GPU" in begun.stderr
    ) is not torch.cuda.is_available()
    assert "days" not in aeanet_train(pairs, "--out", tmp_path, "--quick").stderr


def test_one_model_per_pair(pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = trained(pairs, "--out", run, *BRIEF, "--self", "--report")
    assert "the models of 3 pairs are in" in done.stdout
    page = (run / "report.html").read_text()
    for name in "012":
        assert f"<p>{name}: 3 steps in " in page
    assert page.count("data:image/webp") == 2 + 4  # the course twice, and one pair
    assert "Its left three quarters were trained on." in page
    assert listed_models(run) == {name: name for name in "012"}
    data = load_pairs(pairs)
    for pair in data.pairs:
        assert_same_model(run / pair.name, train([pair], RECIPE, residual=True).model)
        assert record(run / pair.name)["data"]["pairs"] == [pair.name]
    before = load_model(run / "0")
    (run / "2" / "checkpoint.safetensors").unlink()  # as if it had not been begun
    (run / "2" / "model.safetensors").unlink()
    trained(pairs, "--out", run, "--resume")
    assert_same_model(run / "0", before)
    assert_same_model(run / "2", train(data.pairs[2:], RECIPE, residual=True).model)
    assert "already holds a model" in refused(pairs, "--out", run, *BRIEF, "--self")
    assert "a run of one model per pair" in refused(pairs, "--out", run, *BRIEF, "--overwrite")
    trained(pairs, "--out", run, *BRIEF, "--self", "--overwrite", "--seed", 1)
    assert record(run / "0")["recipe"]["seed"] == 1


def test_a_pair_without_room_for_a_crop_has_no_model_of_its_own(
    pairs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pairs"
    for kind in ("lr", "hr"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "large.png").write_bytes((pairs / kind / "0.png").read_bytes())
        write_image(folder / kind / "small.png", getattr(simulate_pair(1, shape=(200, 320)), kind))
    result = trained(folder, "--out", tmp_path / "run", *BRIEF, "--crop", 205, "--self")
    assert (
        "Pair small is left out: No pair has room for a crop of 205 x 205 valid pixels"
        in result.stderr
    )
    assert listed_models(tmp_path / "run") == {"large": "large"}
    assert "None of the 2 pairs" in refused(
        folder, "--out", tmp_path / "new", *BRIEF, "--crop", 500, "--self"
    )


def test_what_cannot_be_is_one_sentence(pairs: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run"]
    assert "There is no" in refused(pairs, *out, "--resume")
    assert not (tmp_path / "run").exists()
    assert "give one of the two" in refused(pairs, *out, "--resume", "--overwrite")
    assert "leave out --validate" in refused(pairs, *out, "--self", "--validate", 1)
    assert "'often' is no interval" in refused(pairs, *out, "--checkpoint-every", "often")
    assert "Holding back 3 of 3 pairs" in refused(pairs, *out, *BRIEF, "--validate", 3)
    assert "betas are 0.9 and 1.0" in refused(pairs, *out, "--betas", 0.9, 1.0)
    assert not (tmp_path / "run").exists(), "what was refused leaves no folder"
    with open_run(tmp_path / "run"):
        assert "in use by another training" in refused(pairs, *out, *BRIEF)
    (tmp_path / "run").mkdir()
    with open_run(tmp_path / "run"):
        pass
    assert (tmp_path / "run").is_dir(), "it was there before"


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_cuda_graph_without_a_gpu(pairs: Path, tmp_path: Path) -> None:
    assert "needs one process on a CUDA device" in refused(
        pairs, "--out", tmp_path / "run", *BRIEF, "--cuda-graph"
    )
    trained(pairs, "--out", tmp_path / "run", *BRIEF)  # nothing is in its way


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_short_of_memory(
    error: Exception, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("aeanet.networks.unet.UShape.forward", fail)
    assert "not enough memory" in refused(pairs, "--out", tmp_path, *BRIEF)
