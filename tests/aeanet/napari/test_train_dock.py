"""Layers and folders become pairs; a training that is cancelled keeps its model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import simulated_folder

import aeanet
from aeanet.training import Recipe

# an extra, with Qt: the tool and its other tests need neither
pytest.importorskip("napari.layers", reason="napari is not installed")

from aeanet.napari import training

Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated pair."""
    return simulated_folder(tmp_path_factory.mktemp("pairs"), [3])


@pytest.fixture
def dock(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """It begins with new weights and takes small steps."""

    def short(**changes: Any) -> Recipe:
        return Recipe(steps=500, batch=2, crop=16, schedule="one-cycle", **changes)

    monkeypatch.setattr(training.Recipe, "short", short)
    _, dock = viewer.window.add_plugin_dock_widget("aeanet", "Train on pairs")
    dock.fields.begin_with.value = "new weights"
    return dock


def test_a_training_on_two_layers_is_cancelled_and_keeps_its_model(
    viewer: Any, dock: Any, pairs: Path, wait_for: Wait, tmp_path: Path
) -> None:
    for kind in ("lr", "hr"):
        layer = viewer.add_image(np.asarray(Image.open(pairs / kind / "3.png")), name=kind)
        dock.fields[kind].value = layer
    dock.fields.run_folder.value = tmp_path / "run"
    dock.start.native.click()
    wait_for(lambda: len(dock.losses) > 2)
    dock.cancel.native.click()
    wait_for(lambda: dock.start.enabled)

    assert dock.said.value.startswith("Cancelled. The model is kept")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["interrupted"]
    assert 2 < record["steps_done"] < 500
    assert len(dock.losses) == record["steps_done"]
    assert dock.losses[-1] == pytest.approx(record["loss"], abs=1e-6)
    np.testing.assert_array_equal(dock.curve.get_xdata(), range(1, record["steps_done"] + 1))

    model = aeanet.load_model(tmp_path / "run")
    assert model.magnification == pytest.approx(2, abs=0.05)


def test_a_training_on_two_folders_takes_pairs_of_the_same_name(
    dock: Any, pairs: Path, wait_for: Wait, tmp_path: Path
) -> None:
    dock.fields.source.value = "folders"
    dock.fields.lr_folder.value = pairs / "lr"
    dock.fields.hr_folder.value = pairs / "hr"
    dock.fields.run_folder.value = tmp_path / "run"
    dock.start.native.click()
    wait_for(lambda: bool(dock.losses))
    dock.cancel.native.click()
    wait_for(lambda: dock.start.enabled)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["pairs"] == ["3"]


def test_what_is_missing_or_in_the_way_is_one_sentence(
    dock: Any, wait_for: Wait, tmp_path: Path
) -> None:
    held = tmp_path / "held" / "model.safetensors"
    held.parent.mkdir()
    held.write_bytes(b"mine")
    cases = [
        ("two layers", "", "No run folder is chosen"),
        ("two layers", tmp_path / "run", "There is no image layer"),
        ("folders", tmp_path / "run", "No folder of pairs is chosen"),
        ("folders", held.parent, "already holds a model"),
    ]
    for source, run, words in cases:
        dock.fields.source.value = source
        dock.fields.run_folder.line_edit.value = str(run)
        dock.start.native.click()
        wait_for(lambda: dock.start.enabled)
        assert words in dock.said.value
        assert dock.said.value.endswith(".")
    assert held.read_bytes() == b"mine"
