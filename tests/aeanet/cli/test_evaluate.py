"""`aeanet evaluate`: several runs, models by pair, and what cannot be scored."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toys import aeanet, assert_one_sentence, simulated_folder

from aeanet.data.synthetic import simulate_pair
from aeanet.io.images import write_image
from aeanet.networks.error import load_error_network
from aeanet.networks.registry import build_model, save_model


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
    # One sample, no spread.
    assert together["intervals"]["delta_psnr"] == {
        "mean": found["mean"],
        "interval": None,
    }
    (tmp_path / "samples.txt").write_text("0 7\n")
    assert_one_sentence(
        aeanet("evaluate", runs[0], pairs, "--samples", tmp_path / "samples.txt"),
        "names the pair 7",
    )


def test_runs_that_are_no_seeds_of_one_method(pairs: Path, tmp_path: Path) -> None:
    """Different networks are warned of, a run given twice counts once, and a network that
    estimates errors has no score.
    """
    runs = [tmp_path / name for name in ("unet", "vdsr")]
    for run in runs:
        save_model(build_model(run.name), run / "model.safetensors")
    both = aeanet("evaluate", *runs, pairs, "--json")
    assert "different networks (unet, vdsr)" in both.stderr
    twice = aeanet("evaluate", runs[0], runs[0], pairs, "--json")
    assert json.loads(twice.stdout)["runs"] == [str(runs[0])]
    assert "different networks" not in twice.stderr

    network = load_error_network("sem")
    save_model(network, tmp_path / "errors" / "model.safetensors")
    refused = aeanet("evaluate", tmp_path / "errors", pairs)
    assert_one_sentence(refused, "estimates errors and restores nothing")


def test_a_pair_without_a_score_is_named(tmp_path: Path) -> None:
    """LR shows a part of the field that does not reach the test columns."""
    folder = simulated_folder(tmp_path, range(1))
    pair = simulate_pair(7, shape=(236, 320))
    write_image(folder / "lr" / "part.png", pair.lr[70:165, 110:210])
    write_image(folder / "hr" / "part.png", pair.hr)
    save_model(build_model("unet"), tmp_path / "unet" / "model.safetensors")
    result = aeanet("evaluate", tmp_path / "unet", folder)
    assert result.exit_code == 0, result.output
    assert "part: It has no LR data in its test columns, so it has no score." in result.stderr


def test_pictures_of_pairs_that_are_gone_are_removed(run: Path, tmp_path: Path) -> None:
    """Those of an earlier call, and nothing else that lies there."""
    folder, results = simulated_folder(tmp_path, range(2)), tmp_path / "results"
    assert aeanet("evaluate", run, folder, "--out", results).exit_code == 0
    (results / "mine.png").write_bytes(b"")
    for kind in ("lr", "hr"):
        (folder / kind / "0.png").unlink()
    assert aeanet("evaluate", run, folder, "--out", results, "--overwrite").exit_code == 0
    assert {path.name for path in results.iterdir()} == {"1.png", "evaluation.json", "mine.png"}


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


def test_the_page_has_the_scores_and_each_pair_to_look_at(pairs: Path, tmp_path: Path) -> None:
    asked = ("evaluate", "sem", pairs, "--report")
    assert_one_sentence(aeanet(*asked), "give one with --out")
    done = aeanet(*asked, "--out", tmp_path / "scores")
    assert done.exit_code == 0, done.output
    page = unescape((tmp_path / "scores" / "report.html").read_text())
    (sentence,) = re.findall(r"Mean Δ PSNR .*\.", done.stdout)
    assert f"<p>{sentence}</p>" in page
    record = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    for number, score in enumerate(record["pairs"], 1):
        assert f'<a href="#pair-{number}">{score["name"]}</a>' in page
        assert f'data-value="{score["delta_psnr"]:.2f}"' in page
        for name, sentences in record["warnings"].items():
            assert all(warning in page for warning in sentences), name
    assert f"Δ PSNR {record['mean']['delta_psnr']:+.2f}" in page
    assert page.count("data:image/webp") == 4 * 2
