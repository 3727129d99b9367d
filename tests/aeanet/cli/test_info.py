"""`aeanet info` on models, run folders and images, against what was written."""

import json
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from toy_stacks import volume, write_volume
from toys import aeanet, assert_one_sentence, toy_pair

from aeanet.data.pairs import PairSet
from aeanet.networks.registry import build_model, load_model, save_model
from aeanet.training import Recipe, TrainingResult, save_run
from aeanet.training.info import model_info


def record(path: Path) -> dict[str, Any]:
    result = aeanet("info", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = build_model("aeanet", references=4)
    network.magnification = 2.5
    return save_model(network, tmp_path / "run" / "model.safetensors")


def test_a_model_and_the_folder_it_lies_in(model: Path) -> None:
    for path in (model, model.parent):
        assert record(path) == {
            "file": str(path),
            "kind": "model",
            "format_version": "1",
            "model": {"name": "aeanet", "references": 4, "batch_aware": True},
            "parameters": 572_480 - 60 * 128,  # the paper's, less 60 of its 64 references
            "magnification": 2.5,
            "training": None,
        }
    text = aeanet("info", model).stdout
    assert "parameters: 564800\n" in text
    assert "magnification: 2.5\n" in text
    assert "  references: 4\n" in text


def test_the_same_in_python_and_in_a_notebook(model: Path) -> None:
    info = model_info(model.parent)
    assert info.record() == record(model.parent)
    assert f"{info}\n" == aeanet("info", model.parent).stdout
    rows = ElementTree.fromstring(info._repr_html_()).iter("tr")
    shown = {row[0].text.strip(): row[1].text for row in rows}
    assert len(shown) == len(str(info).splitlines())
    assert (shown["parameters"], shown["references"]) == ("564800", "4")

    in_memory = model_info(load_model(model))
    assert (in_memory.file, in_memory.training) == (None, None)
    assert in_memory.parts == info.parts


def test_names_are_escaped_in_a_notebook(model: Path) -> None:
    run = model.parent.rename(model.parent.with_name("<b> & c"))
    (_, file, *_) = ElementTree.fromstring(model_info(run)._repr_html_()).iter("tr")
    assert file[1].text == str(run)


def test_a_plot_has_a_bar_for_each_part_of_the_network(model: Path) -> None:
    network = load_model(model)
    (axes,) = model_info(network).plot().axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    widths = [bar.get_width() for bar in axes.containers[0]]
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in network.named_children()
    }
    assert dict(zip(names, widths, strict=True)) == {n: size for n, size in sizes.items() if size}
    assert sum(widths) == 564_800


def test_how_it_was_trained(tmp_path: Path) -> None:
    data = PairSet([toy_pair()], {"b": "too dark."})
    trained = TrainingResult(
        build_model("unet"), steps=7, seconds=2.5, loss=0.125, interrupted=False
    )
    save_run(tmp_path, trained, Recipe.short(), data)
    found = record(tmp_path)
    assert found["parameters"] == 793_408
    assert found["training"] == json.loads((tmp_path / "run.json").read_text())
    text = aeanet("info", tmp_path).stdout
    assert "Trained on 1 pair of micrographs" in text.splitlines()[0]
    assert "    pairs: toy-0\n    held back: none\n" in text
    assert "      b: too dark.\n" in text
    assert "  steps done: 7\n" in text
    assert "  validation: none\n" in text
    assert "    max seconds: none\n" in text
    assert f"  command: {shlex.join(found['training']['command'])}\n" in text


def test_the_shipped_model_fits_on_two_screens() -> None:
    """Its record has lists of records and a table, which only --json shows."""
    lines = aeanet("info", "sem").stdout.splitlines()
    assert lines[0].startswith("about: A network that restores micrographs. Trained on simulated")
    assert len(lines) < 80
    assert max(map(len, lines)) < 300
    assert any(
        line.startswith("    real: ") and line.endswith(" records, see --json") for line in lines
    )


def test_a_run_of_one_model_per_pair(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text(
        json.dumps({"models": {"a": "a", "b": "b"}, "left_out": {}})
    )
    assert record(tmp_path)["models"] == {"a": "a", "b": "b"}


def test_an_image(tmp_path: Path) -> None:
    raw = np.arange(4000, 4600, dtype=np.uint16).reshape(20, 30)
    size = {
        "PhysicalSizeX": 1.5,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 2,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(tmp_path / "a.tif", raw, ome=True, metadata={"axes": "YX"} | size)
    assert record(tmp_path / "a.tif") == {
        "file": str(tmp_path / "a.tif"),
        "kind": "OME-TIFF",
        "height": 20,
        "width": 30,
        "bar_rows": 0,
        "values": [4000, 4599],
        "dtype": "uint16",
        "black_and_white": [0, 65535],
        "pixel_size": {"x": 1.5, "y": 2, "unit": "nm"},
    }
    text = aeanet("info", tmp_path / "a.tif").stdout
    assert "values: 4000, 4599\n" in text
    assert "  unit: nm\n" in text


def test_an_image_of_unknown_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.linspace(-1, 3, 600, dtype=np.float32).reshape(20, 30))
    assert record(tmp_path / "a.tif")["pixel_size"] is None
    text = aeanet("info", tmp_path / "a.tif").stdout
    assert "pixel size: unknown\n" in text
    assert "black and white: -1, 3\n" in text


def test_an_image_in_zarr(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.full((20, 30), 7, np.uint8))
    found = record(tmp_path / "a.zarr")
    assert (found["height"], found["width"], found["dtype"], found["pixel_size"]) == (
        20,
        30,
        "uint8",
        None,
    )


def test_a_folder_of_slices_is_what_restore_takes_it_for(tmp_path: Path, model: Path) -> None:
    slices = write_volume(tmp_path, "slices", volume(planes=3))
    told, restored = aeanet("info", slices), aeanet("restore", slices, "--out", tmp_path / "out")
    assert_one_sentence(told, "slices is a folder", "slices of one stack are taken by --axes ZYX")
    assert told.stderr.strip() in restored.stderr

    found = aeanet("info", slices, "--axes", "zyx", "--json")
    assert json.loads(found.stdout) == {
        "file": str(slices),
        "kind": "slices",
        "axes": "ZYX",
        "shape": [3, 40, 48],
        "dtype": "uint16",
        "steps": {},
        "channels": [],
    }

    # a run stays one with the picture of a pair, and a run beside results is still named
    for folder in (model.parent, tmp_path):
        tifffile.imwrite(folder / "validation.tif", volume(planes=1)[0])
    assert record(model.parent)["kind"] == "model"
    assert f"there is one in {model.parent}" in aeanet("info", tmp_path).stderr


def test_pages_that_are_not_named_are_named_by_the_user(tmp_path: Path) -> None:
    pages = tmp_path / "a.tif"
    tifffile.imwrite(pages, volume(planes=3), metadata=None, photometric="minisblack")
    assert_one_sentence(aeanet("info", pages), "take all by --axes ZYX (a volume)")
    assert "axes: TYX\n" in aeanet("info", pages, "--axes", "TYX").stdout


def test_what_cannot_be_described_is_one_sentence(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (model.parent / "run.json").write_text("{")
    for name, reason in {
        "missing.tif": "There is no",
        "notes.txt": "known kind",
        "empty": "there is no model at",
        "run": "run.json is damaged",
    }.items():
        result = aeanet("info", tmp_path / name)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
