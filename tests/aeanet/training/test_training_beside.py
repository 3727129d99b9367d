"""What goes on beside the steps of a training: scores on held-back pairs, logs, the run folder."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import toy_pair

from aeanet.data.pairs import PairSet
from aeanet.networks.registry import load_model
from aeanet.training import (
    Interval,
    Recipe,
    TrainingProgress,
    fingerprint,
    open_run,
    save_run,
    train,
)
from aeanet.training.bookkeeping import open_logs

PAIRS = [
    toy_pair(0, magnification=1.9),
    toy_pair(1, magnification=2.1),
    toy_pair(2, magnification=2.0),
]

BRIEF = Recipe.short(steps=4, batch=3, crop=16)


def test_held_back_pairs_are_restored_scored_drawn_and_logged(tmp_path: Path) -> None:
    recipe = replace(BRIEF, steps=25)
    with open_run(tmp_path) as run:
        trained = train(
            PAIRS[:1], recipe, run=run, held_back=PAIRS[1:], validate_every=Interval(steps=20)
        )
    scores = []
    for pair in PAIRS[1:]:
        with torch.no_grad():
            restored = (
                trained.model(torch.from_numpy(pair.lr)[None, None])[0, 0].clamp(0, 1).numpy()
            )
        scores.append(
            [
                peak_signal_noise_ratio(pair.hr, restored, data_range=1),
                peak_signal_noise_ratio(pair.hr, pair.lr, data_range=1),
                structural_similarity(pair.hr, restored, data_range=1),
            ]
        )
    psnr, bicubic, ssim = np.mean(scores, axis=0)
    assert trained.validation == pytest.approx(
        {
            "psnr": psnr,
            "delta_psnr": psnr - bicubic,
            "ssim": ssim,
            "delta_ssim": trained.validation["delta_ssim"],
        },
        abs=2e-4,
    )
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    scored = {
        int(row["step"]): float(row["validation/psnr"]) for row in rows if row["validation/psnr"]
    }
    assert list(scored) == [2, 20, 25]  # early, in turn, at the end
    assert scored[25] == pytest.approx(psnr, abs=2e-4)
    with Image.open(tmp_path / "validation.png") as figure:
        assert figure.width > 1000
    logged = {
        int(row["step"]): (float(row["loss"]), float(row["rate"])) for row in rows if row["loss"]
    }
    assert list(logged) == [10, 20, 25]
    assert logged[20][1] == recipe.learning_rate(19, 19 / 25)
    assert logged[25][0] == trained.loss
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("validation/psnr")] == [2, 20, 25]
    assert events.Scalars("loss")[-1].value == pytest.approx(trained.loss)


def test_validation_leaves_the_training_as_it_was() -> None:
    watched = train(PAIRS[:2], BRIEF, held_back=PAIRS[2:], validate_every=Interval(steps=1))
    alone = train(PAIRS[:2], BRIEF)
    for tensor, other in zip(
        watched.model.state_dict().values(), alone.model.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other)


def test_a_run_folder_tells_what_it_was(tmp_path: Path) -> None:
    trained = train(PAIRS, BRIEF, references=8)
    save_run(tmp_path / "run", trained, BRIEF, PairSet(PAIRS, {"bad": "too dark"}))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["steps"] == record["steps_done"] == 4
    assert record["model"] == {"name": "aeanet", "references": 8, "batch_aware": True}
    assert record["data"]["pairs"] == ["toy-0", "toy-1", "toy-2"]
    assert record["data"]["refused"] == {"bad": "too dark"}
    assert record["magnification"] == load_model(tmp_path / "run").magnification == 2.0
    assert (
        record["versions"]["torch"] == torch.__version__.split("+")[0]
        or record["versions"]["torch"] == torch.__version__
    )


def test_the_fingerprint_is_that_of_the_pixels() -> None:
    changed = PAIRS[0].hr.copy()
    changed[3, 4] += 1e-3
    prints = {
        fingerprint(PAIRS),
        fingerprint(PAIRS[:2]),
        fingerprint([replace(PAIRS[0], hr=changed), *PAIRS[1:]]),
    }
    assert len(prints) == 3
    assert fingerprint(PAIRS) == fingerprint([toy_pair(0), toy_pair(1), toy_pair(2)])


def test_a_log_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """A crash leaves lines of later steps and perhaps half a line; an earlier version had the
    columns it needed.
    """
    table = tmp_path / "metrics.csv"
    table.write_bytes(
        b"loss,rate,seconds,step\r\n0.5,0.1,3.0,10\r\n0.4,0.1,6.0,20\r\n"
        b"0.3,0.1,9.0,30\r\n0.2,0.1,12.0,1"
    )
    with open_logs(tmp_path, 20, None) as log:
        log(25, {"validation/psnr": 30.5, "validation/ssim": math.nan})
    rows = list(csv.DictReader(table.open(newline="")))
    assert [(row["step"], row["loss"], row["validation/psnr"]) for row in rows] == [
        ("10", "0.5", ""),
        ("20", "0.4", ""),
        ("25", "", "30.5"),
    ]
    assert rows[-1]["validation/ssim"] == ""
    with open_logs(tmp_path, 0, None):
        pass
    assert len(table.read_text().splitlines()) == 1
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_files_that_cannot_be_written_do_not_end_a_training(tmp_path: Path) -> None:
    troubles: list[OSError] = []

    def on_step(now: TrainingProgress) -> None:
        if now.step == 1:
            (tmp_path / "metrics.csv").unlink()
            (tmp_path / "metrics.csv").mkdir()
            (tmp_path / "checkpoint.safetensors").unlink()
            (tmp_path / "checkpoint.safetensors").mkdir()

    with open_run(tmp_path) as run:
        trained = train(PAIRS, BRIEF, run=run, on_step=on_step, on_trouble=troubles.append)
    assert trained.steps == 4
    assert [Path(error.filename).name for error in troubles] == [
        "metrics.csv",
        "checkpoint.safetensors",
    ]
    (tmp_path / "checkpoint.safetensors").rmdir()
    with open_run(tmp_path) as run, pytest.raises(OSError, match=r"metrics\.csv"):
        train(PAIRS, BRIEF, run=run)
