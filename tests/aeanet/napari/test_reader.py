"""napari's reader gives scale and units, and reads planes when they are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from maker_files import zeiss
from microscope_files import dm3, mrc, ser
from PIL import Image
from toy_stacks import volume
from typer.testing import CliRunner

import aeanet
from aeanet.io.images import ImageError
from aeanet.io.stacks import Stack, open_stack

# an extra, with Qt: the tool and its other tests need neither
pytest.importorskip("napari.layers", reason="napari is not installed")

from napari.layers import Layer
from npe2.cli import app as npe2_app

from aeanet.napari.reader import get_reader, read_layers

MANIFEST = Path(aeanet.__file__).parent / "napari" / "napari.yaml"

GREY = np.random.default_rng(0).integers(0, 4000, (24, 32), np.uint16)


def layers_of(path: Path) -> list[Any]:
    reader = get_reader(str(path))
    assert reader is not None
    return [Layer.create(*data) for data in reader(str(path))]


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("a.dm3", dm3(GREY, (3.0, 4.0), "nm"), (4.0, 3.0)),
        ("a.ser", ser(GREY, (3e-9, 4e-9)), (4.0, 3.0)),
        ("a.mrc", mrc(GREY, (30.0, 40.0), samples=1), (40.0, 30.0)),
    ],
)
def test_scale_and_units_of_an_image(
    tmp_path: Path, name: str, content: bytes, size: tuple[float, float]
) -> None:
    (tmp_path / name).write_bytes(content)
    (layer,) = layers_of(tmp_path / name)
    np.testing.assert_array_equal(layer.data, GREY)
    np.testing.assert_allclose(layer.scale, size, rtol=1e-6)
    unit = "angstrom" if name == "a.mrc" else "nanometer"
    assert [str(one) for one in layer.units] == [unit, unit]
    assert layer.name == name


def test_a_volume_is_read_when_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = volume(planes=4)
    metadata = {"axes": "ZYX", "PhysicalSizeX": 4.0, "PhysicalSizeY": 4.0, "PhysicalSizeZ": 30.0}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, metadata=metadata | units)
    read = []
    plane = Stack.plane
    monkeypatch.setattr(Stack, "plane", lambda *given: read.append(given[1]) or plane(*given))

    data, properties, kind = read_layers(str(tmp_path / "a.ome.tif"))[0]
    assert kind == "image"
    assert read == []
    np.testing.assert_array_equal(np.asarray(data[2]), planes[2])
    assert read == [2]
    assert properties["scale"] == [30.0, 4.0, 4.0]
    assert properties["units"] == ["nm", "nm", "nm"]
    assert properties["axis_labels"] == ["Z", "Y", "X"]


def test_an_ome_zarr_is_opened_by_the_viewer(tmp_path: Path, viewer: Any) -> None:
    """By the manifest: the viewer finds the reader by the ending of the name."""
    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("fine", shape=(3, 24, 32), dtype="u2", chunks=(1, 8, 8))[:] = np.stack(
        [GREY] * 3
    )
    scale = [{"type": "scale", "scale": [30.0, 4.0, 3.0]}]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    datasets = [{"path": "fine", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "version": "0.4"}]

    (layer,) = viewer.open(path, plugin="aeanet")
    np.testing.assert_array_equal(layer.data[1], GREY)
    np.testing.assert_array_equal(layer.scale, [30, 4, 3])
    assert [str(one) for one in layer.units] == ["nanometer"] * 3


def test_the_sample_is_a_pair_on_one_field(viewer: Any) -> None:
    truth, lr = viewer.open_sample("aeanet", "simulated")
    edges = [one.extent.world + np.outer([-0.5, 0.5], one.scale) for one in (truth, lr)]
    np.testing.assert_allclose(*edges)


def test_a_layer_for_each_channel(tmp_path: Path) -> None:
    values = np.stack([GREY, GREY + 1])
    metadata = {"axes": "CYX", "Channel": {"Name": ["SE", "BSE"]}, "PhysicalSizeX": 3.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata=metadata | {"PhysicalSizeY": 4.0})
    layers = layers_of(tmp_path / "a.ome.tif")
    assert [layer.name for layer in layers] == ["a.ome.tif SE", "a.ome.tif BSE"]
    np.testing.assert_array_equal(layers[1].data, GREY + 1)
    assert [str(one) for one in layers[1].units] == ["micrometer", "micrometer"]


def test_names_of_other_channels_than_there_are_count_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([GREY] * 2), metadata={"axes": "CYX"})
    stack = open_stack(tmp_path / "a.ome.tif")
    stack.contents = replace(stack.contents, channels=("SE", "BSE", "TE"))
    monkeypatch.setattr("aeanet.napari.reader.open_stack", lambda _: stack)
    names = [properties["name"] for _, properties, _ in read_layers(str(tmp_path / "a.ome.tif"))]
    assert names == ["a.ome.tif channel 1", "a.ome.tif channel 2"]


def test_what_napari_reads_itself_is_left_to_it_unless_it_states_a_size(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "plain.png")
    tifffile.imwrite(tmp_path / "plain.tif", GREY)
    (tmp_path / "damaged.tif").write_bytes(b"II*\0")
    for name in ("plain.png", "plain.tif", "damaged.tif"):
        assert get_reader(str(tmp_path / name)) is None, name
    assert get_reader([str(tmp_path / "plain.tif")]) is None
    assert get_reader(str(tmp_path)) is None

    (layer,) = layers_of(zeiss(tmp_path / "zeiss.tif", 2.5))
    np.testing.assert_allclose(layer.scale, [2.5, 2.5])


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.dm3").write_bytes(b"\0\0\0\3")
    with pytest.raises(ImageError, match=r"a\.dm3 cannot be read"):
        layers_of(tmp_path / "a.dm3")


def test_the_manifest_is_valid_and_what_it_names_is_there() -> None:
    result = CliRunner().invoke(npe2_app, ["validate", str(MANIFEST), "--imports"])
    assert result.exit_code == 0, result.output
