"""Layers are restored in a viewer: what comes of them, where it lies, how work ends early."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_stacks import Identity, volume
from toys import lively_network

import aeanet
from aeanet.data.synthetic import simulate_image
from aeanet.networks.registry import MODEL_FILE
from aeanet.trust import assess

# an extra, with Qt: the tool and its other tests need neither
pytest.importorskip("napari.layers", reason="napari is not installed")

from napari.utils.notifications import notification_manager

from aeanet.napari import restoring

Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def dock(viewer: Any) -> Any:
    _, dock = viewer.window.add_plugin_dock_widget("aeanet", "Restore")
    return dock


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an untrained network."""
    model = lively_network("unet")
    model.magnification = 2.0
    folder = tmp_path_factory.mktemp("run")
    aeanet.save_model(model, folder / MODEL_FILE)
    return folder


def choose(dock: Any, run: Path) -> None:
    dock.fields.model.value = "a run folder"
    dock.fields.folder.value = run
    dock.fields.keep_bar.value = True


def restored_by(dock: Any, wait_for: Wait) -> None:
    """Press the button, and wait for the end."""
    dock.start.native.click()
    assert not dock.start.enabled
    wait_for(lambda: dock.start.enabled)


def test_a_layer_becomes_a_larger_one_at_the_same_place(
    viewer: Any, dock: Any, run: Path, wait_for: Wait
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (72, 96), np.uint8)
    layer = viewer.add_image(
        image,
        name="a",
        scale=(3.0, 4.0),
        translate=(10, 20),
        units=("nm", "nm"),
        metadata={"kept": 1},
        contrast_limits=(10, 200),
    )
    choose(dock, run)
    assert dock.fields.layer.value is layer
    assert dock.fields.magnification.value == 2.0
    restored_by(dock, wait_for)

    result = viewer.layers["a restored 2x"]
    expected = np.asarray(aeanet.restore_stack(aeanet.load_model(run), image, axes="YX"))
    np.testing.assert_array_equal(result.data, expected)
    assert result.data.dtype == np.uint8
    np.testing.assert_array_equal(result.scale, [1.5, 2.0])
    assert result.units == layer.units
    assert result.metadata["kept"] == 1
    assert result.contrast_limits == [10, 200]
    assert dock.said.value.startswith("Noise ")

    # Both images have the same outer edges. Extents are those of the centres of pixels.
    edges = [one.extent.world + np.outer([-0.5, 0.5], one.scale) for one in (layer, result)]
    np.testing.assert_allclose(edges[0], edges[1])
    assert dock.fields.layer.value is layer


def test_the_standard_error_is_a_layer_beside_the_result(
    viewer: Any, dock: Any, wait_for: Wait
) -> None:
    lr = simulate_image(11, (64, 80), kind="mixed", magnification=1.0).lr
    image = np.rint(255 * lr).astype(np.uint8)
    layer = viewer.add_image(image, name="a", scale=(4.0, 4.0))
    dock.fields.model.value = "sem"
    dock.fields.magnification.value = 1.5
    dock.fields.keep_bar.value = dock.fields.error.value = True
    restored_by(dock, wait_for)

    error = viewer.layers["a restored 1.5x: standard error"]
    expected = 255 * aeanet.estimate_error("sem", np.float32(image / 255), magnification=1.5)
    known = np.isfinite(error.data)
    assert known.mean() > 0.5
    np.testing.assert_allclose(error.data[known], expected[known], rtol=2e-2)
    np.testing.assert_array_equal(error.scale, layer.scale / 1.5)
    assert not error.visible


def test_a_turned_layer_keeps_its_corners(
    viewer: Any, dock: Any, run: Path, wait_for: Wait
) -> None:
    image = np.random.default_rng(0).random((72, 96), np.float32)
    turn = {"rotate": 30, "shear": [0.2], "translate": (5, 6)}
    layer = viewer.add_image(image, scale=(2, 3), **turn)
    choose(dock, run)
    restored_by(dock, wait_for)

    result = next(one for one in viewer.layers if "restored" in one.name and one.data is not None)
    for corner in np.array([[0, 0], [0, 96], [72, 96], [72, 0]]):
        at = layer.data_to_world(corner - 0.5)
        np.testing.assert_allclose(result.data_to_world(2 * corner - 0.5), at, atol=1e-9)


def test_a_stack_in_colour_of_several_resolutions_becomes_grey(
    viewer: Any, dock: Any, run: Path, wait_for: Wait
) -> None:
    fine = np.random.default_rng(0).integers(0, 255, (2, 72, 96, 3), np.uint8)
    levels = [fine, fine[:, ::2, ::2]]
    viewer.add_image(levels, name="rgb", rgb=True, multiscale=True, scale=(1, 4, 4))
    choose(dock, run)
    restored_by(dock, wait_for)
    result = viewer.layers["rgb restored 2x"]
    expected = aeanet.restore_stack(aeanet.load_model(run), fine, axes="ZYXS")
    np.testing.assert_array_equal(result.data, np.asarray(expected))
    np.testing.assert_array_equal(result.scale, [1, 2, 2])


def test_a_stack_is_restored_by_plane_with_one_brightness(
    viewer: Any, dock: Any, run: Path, wait_for: Wait
) -> None:
    planes = volume(planes=3, side=72)
    layer = viewer.add_image(planes, name="z", scale=(30, 4, 4), units=("nm",) * 3)
    choose(dock, run)
    restored_by(dock, wait_for)

    result = viewer.layers["z restored 2x"]
    expected = aeanet.restore_stack(aeanet.load_model(run), planes, axes="ZYX")
    np.testing.assert_array_equal(result.data, np.asarray(expected))
    np.testing.assert_array_equal(result.scale, [30, 2, 2])
    assert result.units == layer.units
    assert dock.said.value.startswith("3 planes. The noise is ")


def test_a_warning_is_said_and_marked(
    viewer: Any, dock: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box of a warning lies within the layer, on its grid."""
    monkeypatch.setattr(restoring, "load_restoring", lambda name: Identity())
    image = np.random.default_rng(0).random((72, 96), np.float32)
    layer = viewer.add_image(image, name="a", scale=(2, 2))
    monkeypatch.setattr("aeanet.napari.judging.assess", warning_of("Something is odd."))
    dock.fields.magnification.value = 1.0
    restored_by(dock, wait_for)

    assert "Warning: Something is odd." in dock.said.value
    boxes = viewer.layers["a restored 1x: look here"]
    np.testing.assert_array_equal(boxes.scale, layer.scale)
    assert len(boxes.data) >= 1
    corners = np.concatenate(boxes.data)
    assert corners.min() >= -0.5
    assert (corners.max(0) <= np.array(layer.data.shape) - 0.5).all()


def warning_of(sentence: str) -> Callable[..., Any]:
    """`assess` that also warns."""
    return lambda *arguments: replace(assess(*arguments), warnings=[sentence])


def test_cancelled_work_ends_soon_and_adds_nothing(
    viewer: Any, dock: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = Identity(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(restoring, "load_restoring", lambda name: model)
    viewer.add_image(volume(planes=200, side=72))
    dock.fields.keep_bar.value = True
    dock.start.native.click()
    wait_for(lambda: len(calls) > 2)
    dock.cancel.native.click()
    wait_for(lambda: dock.start.enabled)

    assert len(calls) < 200
    assert len(viewer.layers) == 1
    assert dock.said.value == "Cancelled."
    assert not dock.cancel.enabled


def test_an_error_becomes_one_notification_of_one_sentence(
    viewer: Any, dock: Any, run: Path, wait_for: Wait
) -> None:
    choose(dock, run)
    cases = [
        (None, "There is no image layer"),
        ((2, 2, 2, 2, 24, 24), "6 axes"),
        ((72, 96), "NaN, infinite"),
    ]
    for shape, words in cases:
        if shape is not None:
            viewer.add_image(np.full(shape, np.nan, np.float32), contrast_limits=(0, 1))
        before = len(notification_manager.records)
        restored_by(dock, wait_for)

        (said,) = list(notification_manager.records)[before:]
        assert words in said.message
        assert said.message.endswith(".")
        assert "\n" not in said.message
        assert said.message == dock.said.value
