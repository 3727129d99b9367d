"""The plan of a study, and resuming it."""

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies import BRIEF, PAIRS, silent, study
from toys import aeanet, simulated_folder, toy_pair

from aeanet.inference.prediction import restore
from aeanet.networks.registry import MODEL_FILE, build_model, load_model
from aeanet.networks.unet import GVTNet
from aeanet.reproduce import (
    SECTIONS,
    ReproduceError,
    Results,
    Study,
    recipe_for,
    run_study,
    write_report,
)
from aeanet.reproduce.run import MARGIN
from aeanet.scoring.evaluation import evaluate
from aeanet.training import Recipe


def test_the_plan_is_the_papers() -> None:
    keys = [experiment.key for experiment in study().experiments]
    pooled = [
        "unet",
        "gvtnet",
        "aeanet",
        "aeanet-sr64",
        "aeanet-ba",
        "aeanet-ba-sr16",
        "aeanet-ba-sr32",
    ]
    assert [key for key in keys if key.startswith("pooled")] == [
        f"pooled/{method}/seed0" for method in pooled
    ]
    assert len([key for key in keys if key.startswith("self")]) == 3 * 2
    assert len([key for key in keys if key.startswith("unseen")]) == 3 * 2
    assert len(study(sections=["table1"], self_pairs=None, seeds=2).experiments) == 2 * (3 + 3 * 3)
    assert [e.key for e in study(sections=["fig5"]).experiments] == ["pooled/aeanet/seed0"]
    configs = {e.method.key: e.method.options for e in study(sections=["table2"]).experiments}
    assert configs["aeanet-sr64"] == {"references": 64, "batch_aware": False}
    assert configs["aeanet-ba"] == {"references": 0, "batch_aware": True}
    assert [
        configs[key]["references"] for key in ("aeanet-ba-sr16", "aeanet-ba-sr32", "aeanet")
    ] == [16, 32, 64]


def test_residual_networks_are_those_of_the_u_net_family() -> None:
    both = study(methods=["unet", "vdsr"], residual=True)
    assert [both.network(method) for method in both.table1] == [
        {"name": "unet", "residual": True},
        {"name": "vdsr"},
    ]


def test_unseen_samples_are_not_trained_on() -> None:
    samples = {"toy-0": "a", "toy-2": "a"}
    unseen = [
        e
        for e in study(samples=samples).experiments
        if e.strategy == "unseen" and e.method.key == "unet"
    ]
    assert sorted(e.score_on for e in unseen) == [("toy-0", "toy-2"), ("toy-1",)]
    for experiment in unseen:
        assert sorted((*experiment.train_on, *experiment.score_on)) == sorted(PAIRS)
    alone = study(samples=dict.fromkeys(PAIRS, "a"))
    assert [e for e in alone.experiments if e.strategy == "unseen"] == []


def test_a_budget_is_a_share_of_the_papers_steps() -> None:
    assert recipe_for(1) == Recipe()
    assert recipe_for(2) == Recipe(steps=240_000)
    assert recipe_for(0.01) == Recipe.short(steps=1200)
    for budget in (0.0, -1.0, float("nan")):
        with pytest.raises(ReproduceError, match="no step at all"):
            recipe_for(budget)


def test_what_is_not_known_is_said() -> None:
    with pytest.raises(ReproduceError, match="no section 'table3'; the sections are table1, "):
        study(sections=["table3"])
    with pytest.raises(ReproduceError, match="no method 'vgg'; the methods are aeanet, "):
        _ = study(methods=["vgg"]).experiments


def test_an_experiment_is_scored_as_its_own_model_is(whole: tuple[Study, Results, Path]) -> None:
    _, results, folder = whole
    model = load_model(folder / "pooled" / "gvtnet" / "seed0")
    assert results.evaluations["pooled", "gvtnet"] == {0: evaluate(model, list(PAIRS.values()))}
    alone = results.evaluations["self", "gvtnet"][0]
    assert [score.name for score in alone.pairs] == ["toy-0", "toy-2"]
    for name in ("toy-0", "toy-2"):
        model = load_model(folder / "self" / "gvtnet" / name / "seed0")
        expected = evaluate(model, [PAIRS[name]]).mean.psnr
        assert next(score.psnr for score in alone.pairs if score.name == name) == pytest.approx(
            expected
        )
    unseen = results.evaluations["unseen", "gvtnet"][0]
    assert sorted(score.name for score in unseen.pairs) == sorted(PAIRS)


def test_a_second_run_trains_nothing(
    whole: tuple[Study, Results, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything, results, folder = whole
    monkeypatch.setattr("aeanet.reproduce.run.train", refuse("nothing is to be trained"))
    monkeypatch.setattr("aeanet.reproduce.run.evaluate", refuse("nothing is to be scored"))
    again = run_study(everything, folder, silent)
    assert again.evaluations == results.evaluations
    assert again.curves == results.curves
    assert not again.failed


def refuse(reason: str) -> Callable[..., None]:
    def never(*_: object, **__: object) -> None:
        raise AssertionError(reason)

    return never


def test_only_what_changed_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another recipe or other pixels make an experiment new; a pair more changes the pooled
    training alone.
    """
    from aeanet.reproduce import run

    trained: list[str] = []
    train = run.train

    def counted(pairs: Any, recipe: Recipe, **options: Any) -> Any:
        trained.append(" ".join(pair.name for pair in pairs.pairs))
        return train(pairs, recipe, **options)

    monkeypatch.setattr(run, "train", counted)

    def training(**changes: Any) -> list[str]:
        trained.clear()
        run_study(
            study(sections=["table1"], methods=["unet"], self_pairs=None, **changes),
            tmp_path,
            silent,
        )
        return list(trained)

    two = {name: PAIRS[name] for name in ("toy-0", "toy-1")}
    assert training(pairs=two) == ["toy-0 toy-1", "toy-0", "toy-1"]
    assert training(pairs=two) == []
    assert training() == ["toy-0 toy-1 toy-2", "toy-2"]
    brighter = {**PAIRS, "toy-1": replace(PAIRS["toy-1"], lr=PAIRS["toy-1"].lr + np.float32(0.01))}
    assert training(pairs=brighter) == ["toy-0 toy-1 toy-2", "toy-1"]
    assert len(training(recipe=replace(BRIEF, rate=1e-3))) == 4
    (tmp_path / "self" / "unet" / "toy-0" / "seed0" / MODEL_FILE).unlink()
    (tmp_path / "self" / "unet" / "toy-1" / "seed0" / "result.json").write_text("{cut short")
    assert training(recipe=replace(BRIEF, rate=1e-3)) == ["toy-0", "toy-1"]


def test_a_stopped_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """After Ctrl-C in the middle of its second training, the next run ends with the bits of an
    unbroken one.
    """
    brief = study(
        sections=["table1"], methods=["unet"], self_pairs=1, recipe=replace(BRIEF, steps=6)
    )

    def stop(label: str, _share: float) -> None:
        if "on toy-1 alone, step 3" in label:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_study(brief, tmp_path / "stopped", stop)
    assert not (tmp_path / "stopped" / "self" / "unet" / "toy-1" / "seed0" / "result.json").exists()
    steps: list[str] = []
    again = run_study(brief, tmp_path / "stopped", lambda label, _share: steps.append(label))
    assert [found[1] for label in steps if (found := re.search(r"step (\d)", label))] in (
        ["4", "5", "6"],
        ["5", "6"],
    )
    unbroken = run_study(brief, tmp_path / "unbroken", silent)
    assert again.evaluations == unbroken.evaluations
    assert not list(tmp_path.rglob("checkpoint.safetensors"))


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    blind = replace(PAIRS["toy-1"], name="blind", mask=np.zeros_like(PAIRS["toy-1"].mask))
    some = study(
        pairs={"toy-0": PAIRS["toy-0"], "blind": blind},
        sections=["table1"],
        self_pairs=None,
        methods=["unet"],
    )
    results = run_study(some, tmp_path, silent)
    assert list(results.failed) == ["U-Net on blind alone"]
    assert "No pair has room for a crop" in results.failed["U-Net on blind alone"]
    page = write_report(some, results, tmp_path).read_text()
    assert "U-Net on blind alone" in page
    with pytest.raises(
        ReproduceError, match="No experiment could be done; U-Net on all pairs: No pair has room"
    ):
        run_study(
            study(pairs={"blind": blind}, sections=["table1"], methods=["unet"]), tmp_path, silent
        )


def test_a_network_too_large_for_the_machine_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeanet.reproduce import run

    train = run.train

    def large(pairs: Any, recipe: Recipe, *, name: str, **options: Any) -> Any:
        if name == "gvtnet":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(pairs, recipe, name=name, **options)

    monkeypatch.setattr(run, "train", large)
    results = run_study(study(sections=["fig4"], methods=["gvtnet", "unet"]), tmp_path, silent)
    assert list(results.failed) == ["GVTNet on all pairs"]
    assert list(results.crops[0].panels) == ["LR, bicubic", "U-Net", "HR, the truth"]


def test_stitching_is_the_whole_image_for_a_network_that_sees_less_than_the_margin() -> None:
    """A U-Net's tiles agree with the whole image within the margin of 32 px; attention's do not."""
    torch.manual_seed(0)
    image = toy_pair(0, (212, 300)).lr * np.linspace(0.2, 1, 300, dtype=np.float32)
    test = slice(225, None)
    for name, equal in (("unet", True), ("gvtnet", False)):
        model = build_model(name).eval()
        with torch.no_grad():
            model.last.weight.abs_()  # results between 0 and 1, which clipping leaves alone
            if isinstance(model, GVTNet):
                model.bottom.output.weight.mul_(20)  # a new network's attention says little
        whole = restore(model, image)
        for tile in (128, 132, 256, 400):
            stitched = restore(model, image, tile=tile - 2 * MARGIN, halo=MARGIN, exact=False)
            apart = np.abs(stitched - whole)[:, test].max()
            assert (apart < 1e-4) == (equal or tile == 400), (name, tile, apart)


def test_exact_tiling_loses_nothing(whole: tuple[Study, Results, Path]) -> None:
    _, results, _ = whole
    assert [curve.label for curve in results.curves] == [
        "GVTNet",
        "AEANet (16)",
        "AEANet (32)",
        "AEANet (64)",
    ]
    for curve in results.curves:
        assert list(curve.sizes) == [128]
        assert curve.exact == pytest.approx([curve.whole], abs=2e-3)


def test_the_command(tmp_path: Path) -> None:
    simulated_folder(tmp_path / "pairs", range(2))
    command = [
        "reproduce",
        tmp_path / "pairs",
        "--out",
        tmp_path / "report",
        "--budget",
        1 / 120_000,
    ]
    brief = ["--only", "table1", "--methods", "unet", "--pairs", 1]

    def run(*arguments: object) -> tuple[int, str]:
        result = aeanet(*arguments)
        return result.exit_code, result.output

    assert run(*command, *brief)[0] == 0
    record = json.loads((tmp_path / "report" / "results.json").read_text())
    assert record["pairs"] == ["0"]
    assert list(record["tables"]) == ["table1-left", "table1-right", "pairs", "trainings"]
    assert record["recipe"] == json.loads(json.dumps(vars(Recipe.short(steps=1))))
    code, output = run(*command[:-1], 2 / 120_000, *brief)
    assert code == 1
    assert (
        "seed0/result.json is already there, of other settings or other data: replace it with "
        "--overwrite" in output
    )
    code, output = run(*command, "--only", "table9")
    assert code == 1
    assert f"the sections are {', '.join(SECTIONS)}." in output
    code, output = run("reproduce", tmp_path / "nowhere", "--out", tmp_path / "report")
    assert code == 1
    assert "nowhere is not a folder" in output


def test_the_evaluation_of_seeds_has_one_table_each(tmp_path: Path) -> None:
    """Two seeds' experiments of one method become two evaluations, not one of twice the pairs."""
    alone = {"toy-0": PAIRS["toy-0"]}
    results = run_study(
        study(pairs=alone, seeds=2, sections=["table1"], methods=["unet"]), tmp_path, silent
    )
    models = [load_model(tmp_path / "self" / "unet" / "toy-0" / f"seed{seed}") for seed in range(2)]
    assert results.evaluations["self", "unet"] == {
        seed: evaluate(model, [PAIRS["toy-0"]]) for seed, model in enumerate(models)
    }
