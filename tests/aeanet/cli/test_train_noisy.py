"""`aeanet train --noisy`: noisy images alone."""

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
from aeanet.training import loop, scans
from aeanet.training.about import about_model
from aeanet.training.scans import load_scans
from aeanet.trust.noise import estimate_noise

BRIEF = ("--noisy", "--batch", 2, "--crop", 32, "--steps", 4)


def _scans(number: int, seed: int = 0) -> np.ndarray:
    """Scans of one field with noise of their own, in a small part of the range of 16 bits."""
    frames = simulate_frames(seed, number, (112, 128), kind="porous").frames
    return np.round(9_000 + 4_000 * frames).astype(np.uint16)


def _write(folder: Path, scans: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, scan in enumerate(scans):
        tifffile.imwrite(folder / f"{number}.tif", scan)


def test_repeated_scans_are_found_and_shown_as_in_use(tmp_path: Path) -> None:
    """A stack and a folder of scans are a field each, in the range that they use."""
    first, second = _scans(3), _scans(2, seed=5)
    _write(tmp_path / "all" / "first", first)
    tifffile.imwrite(tmp_path / "all" / "second.tif", second, metadata={"axes": "TYX"})
    both = load_scans(tmp_path / "all")
    assert [pair.name for pair in both.pairs] == [
        *(f"first/{number}.tif" for number in range(3)),
        *(f"plane {number} of second.tif" for number in (1, 2)),
    ]
    alone = load_scans(tmp_path / "all" / "second.tif")
    for pair in alone.pairs:
        (same,) = [one for one in both.pairs if one.name == pair.name]
        np.testing.assert_array_equal(pair.lr, same.lr)
        np.testing.assert_array_equal(pair.hr, same.hr)
        assert 0.3 < np.ptp(pair.lr) <= 1  # 4,000 of 65,536 grey levels in the file


def test_single_images_get_noise_like_their_own(tmp_path: Path) -> None:
    """Images side by side, and the planes of a volume, are fields of their own. Over the copies the
    noise has a mean of 0 and the strength of the image's.
    """
    images = np.stack([_scans(1, seed=seed)[0] for seed in (1, 2)])
    _write(tmp_path / "images", images)
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / "v.tif", images, metadata=metadata, photometric="minisblack")
    (tmp_path / "images" / "._0.tif").write_bytes(b"hidden")
    read = load_scans(tmp_path / "images")
    assert not read.refused
    found = read.pairs
    volume = load_scans(tmp_path / "v.tif").pairs
    assert len(found) == len(volume) == 16
    assert found[8].name == "1.tif, copy 1"
    assert volume[8].name == "plane 2 of v.tif, copy 1"

    # y + n / 2 and y - 2 n
    copies = [(pair.lr, pair.hr) for pair in found[:8]]
    drawn = np.stack([(noisier - target) / 2.5 for noisier, target in copies])
    shown = [(4 * noisier + target) / 5 for noisier, target in copies]
    for one in shown[1:]:
        np.testing.assert_allclose(one, shown[0], atol=1e-5)
    assert np.abs(drawn.mean(0)).mean() < 0.4 * drawn.std()
    assert drawn.std() == pytest.approx(estimate_noise(shown[0]).sd, rel=0.2)


def test_a_model_is_trained_and_used(tmp_path: Path) -> None:
    _write(tmp_path / "scans" / "field", _scans(3))
    run, new = tmp_path / "run", tmp_path / "new.tif"
    shown = trained(tmp_path / "scans", "--out", run, *BRIEF)
    assert "Training on 3 noisy images: scans, or copies of single images." in shown.stderr
    assert (record(run)["recipe"]["loss"], record(run)["magnification"]) == ("psnr", 1.0)
    assert record(run)["data"]["of_scans"]
    assert load_model(run).fits_range
    assert "Trained on noisy images alone" in about_model(run).card

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


def test_of_many_single_images_those_that_are_needed_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "_MOST", 2)
    _write(tmp_path / "images", _scans(5))
    result = trained(tmp_path / "images", "--out", tmp_path / "run", *BRIEF)
    assert "3 more single images are not needed." in " ".join(result.stderr.split())
    used = {name.split(",")[0] for name in record(tmp_path / "run")["data"]["pairs"]}
    assert len(used) == 2


def test_a_single_image_is_enough(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _scans(1)[0])
    trained(tmp_path / "a.tif", "--out", tmp_path / "run", *BRIEF)
    assert record(tmp_path / "run")["data"]["pairs"][0] == "a.tif, copy 1"


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "scans" / "field", _scans(2))
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
    trained(tmp_path / "scans", "--out", tmp_path / "cut", "--resume")
    assert_same_model(tmp_path / "cut", load_model(tmp_path / "whole"))


@pytest.mark.parametrize("given", [("--validate", 1), ("--self",), ("--report",)])
def test_what_needs_a_clean_image_is_refused(tmp_path: Path, given: tuple[object, ...]) -> None:
    _write(tmp_path / "scans", _scans(2))
    sentence = refused(tmp_path / "scans", "--noisy", "--out", tmp_path / "run", *given)
    assert "leave out --self, --validate and --report" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [("--validate", 1), ("--self",), ("--report",)])
def test_what_needs_a_clean_image_is_refused_to_a_run_that_goes_on(
    tmp_path: Path, given: tuple[object, ...]
) -> None:
    """Without --noisy given again; the run stays as it is."""
    _write(tmp_path / "scans" / "field", _scans(2))
    run = tmp_path / "run"
    trained(tmp_path / "scans", "--out", run, *BRIEF)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    sentence = refused(tmp_path / "scans", "--out", run, "--resume", *given)
    if given != ("--self",):  # as for any run of one model
        assert f"{run}, begun with --noisy, has no clean image" in sentence
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("none", "noisy images are wanted"),
        ("empty", "holds no images"),
        ("few", "two or more are wanted"),
        ("small.tif", "fewer than 24 px a side"),
        ("pairs", "holds pairs, in the folders lr and hr"),
    ],
)
def test_what_is_no_scan(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    _write(tmp_path / "few" / "field", _scans(1))
    for kind in ("lr", "hr"):
        _write(tmp_path / "pairs" / kind, _scans(2))
    tifffile.imwrite(tmp_path / "small.tif", _scans(1)[0, :20])
    assert reason in refused(tmp_path / place, "--noisy", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
