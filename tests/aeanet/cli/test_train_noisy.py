"""`aeanet train --noisy`: repeated scans instead of clean images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from toys import aeanet
from train_calls import assert_same_model, record, refused, trained

from aeanet.data.synthetic.frames import simulate_frames
from aeanet.inference.files import restore_file
from aeanet.networks.registry import load_model
from aeanet.training import loop
from aeanet.training.about import about_model
from aeanet.training.scans import load_scans

BRIEF = ("--noisy", "--batch", 2, "--crop", 32, "--steps", 4)


def _scans(number: int, seed: int = 0) -> np.ndarray:
    """Scans of one field with noise of their own, in a small part of the range of 16 bits."""
    frames = simulate_frames(seed, number, (112, 128), kind="porous").frames
    return np.round(9_000 + 4_000 * frames).astype(np.uint16)


def _write(folder: Path, scans: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, scan in enumerate(scans):
        tifffile.imwrite(folder / f"{number}.tif", scan)


def test_fields_are_found_and_shown_as_in_use(tmp_path: Path) -> None:
    """A stack, a folder of scans, and a folder of both are the same scans, in the range used."""
    first, second = _scans(3), _scans(2, seed=5)
    _write(tmp_path / "all" / "first", first)
    tifffile.imwrite(tmp_path / "all" / "second.tif", second, metadata={"axes": "TYX"})
    both = load_scans(tmp_path / "all")
    assert [pair.name for pair in both.pairs] == [
        *(f"first/{number}.tif" for number in range(3)),
        *(f"plane {number} of second.tif" for number in (1, 2)),
    ]
    one = load_scans(tmp_path / "all" / "first")
    alone = load_scans(tmp_path / "all" / "second.tif")
    for pair, same in zip(both.pairs, one.pairs + alone.pairs, strict=True):
        np.testing.assert_array_equal(pair.lr, same.lr)
        np.testing.assert_array_equal(pair.hr, same.hr)
        assert 0.3 < np.ptp(pair.lr) <= 1  # 4,000 of 65,536 grey levels in the file


def test_a_model_is_trained_and_used(tmp_path: Path) -> None:
    _write(tmp_path / "scans", _scans(3))
    run, new = tmp_path / "run", tmp_path / "new.tif"
    trained(tmp_path / "scans", "--out", run, *BRIEF)
    assert (record(run)["recipe"]["loss"], record(run)["magnification"]) == ("psnr", 1.0)
    assert record(run)["data"]["of_scans"]
    assert load_model(run).fits_range
    assert "beside the mean of the others" in about_model(run).card

    tifffile.imwrite(new, _scans(1, seed=7)[0])
    used = aeanet("predict", run, new, "--out", tmp_path / "out", "--flips", 1)
    assert used.exit_code == 0, used.output
    result = tifffile.imread(tmp_path / "out" / "new.tif")
    assert (result.shape, result.dtype) == ((112, 128), np.uint16)

    # Four steps change little, so the shipped model is what it began with, shown the same range.
    shipped = restore_file("sem", new, tmp_path / "s.tif", magnification=1.0, flips=1)
    assert shipped.result is not None
    change = result.astype(float) - tifffile.imread(tmp_path / "s.tif")
    assert 0 < np.abs(change).mean() < 0.01 * 4_000


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "scans", _scans(2))
    trained(tmp_path / "scans", "--out", tmp_path / "whole", *BRIEF)

    steps = loop.TrainingStep.__call__

    def interrupted(step: loop.TrainingStep, *arguments: Any) -> Any:
        if arguments[-1].step == 2:
            raise RuntimeError("a power cut")
        return steps(step, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingStep, "__call__", interrupted)
        arguments = (tmp_path / "scans", "--out", tmp_path / "cut", *BRIEF)
        assert aeanet("train", *arguments, "--checkpoint-every", 1).exit_code
    trained(tmp_path / "scans", "--out", tmp_path / "cut", "--noisy", "--resume")
    assert_same_model(tmp_path / "cut", load_model(tmp_path / "whole"))


@pytest.mark.parametrize("given", [("--validate", 1), ("--self",), ("--report",)])
def test_what_needs_a_clean_image_is_refused(tmp_path: Path, given: tuple[object, ...]) -> None:
    _write(tmp_path / "scans", _scans(2))
    sentence = refused(tmp_path / "scans", "--noisy", "--out", tmp_path / "run", *given)
    assert "leave out --self, --validate and --report" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none", "a stack or a folder of repeated scans is wanted"),
        ("empty", "holds no images"),
        ("one", "two or more are wanted"),
    ],
)
def test_what_is_no_scan(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    _write(tmp_path / "one", _scans(1))
    assert reason in refused(tmp_path / place, "--noisy", "--out", tmp_path / "run")
