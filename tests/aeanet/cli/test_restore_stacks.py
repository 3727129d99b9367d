"""Stacks on the command line: what is written, what is said, and bad input."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from toys import aeanet

from aeanet.inference.stack_files import RestoredStack
from aeanet.io.stacks import Contents


def volume(planes: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:64, :72]
    pattern = 0.5 + 0.2 * np.sin(x / 3) * np.cos(y / 5)
    noise = 0.01 * random.standard_normal((planes, 64, 72))
    return np.rint((pattern + noise) * 20000).astype(np.uint16)


def test_a_volume_and_the_table_of_its_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = volume()
    values[1, 30, 40] = 65535  # a hot pixel
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": 30.0}
    tifffile.imwrite("a.tif", values, imagej=True, resolution=(0.5, 0.5), metadata=metadata)
    tifffile.imwrite("plain.tif", values, metadata=None, photometric="minisblack")
    quick = ("--flips", 1, "--magnification", 1)
    done = aeanet("restore", "a.tif", "plain.tif", *quick)
    assert done.exit_code == 1  # it is not clear what plain.tif is
    assert done.stdout == "restored/a.tif\n"
    assert "plain.tif holds 3 images (72 x 64, 72 x 64, 72 x 64) and does not say" in done.stderr
    assert "by --axes ZYX (a volume), TYX (a time series) or CYX (channels)" in done.stderr
    assert "a.tif: 3 planes. Noise: median " in done.stderr
    with tifffile.TiffFile("restored/a.tif") as file:
        assert file.imagej_metadata is not None
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (30.0, "nm")
        assert file.series[0].axes == "ZYX"
        assert file.asarray()[1, 30, 40] == 65535
    rows = list(csv.DictReader(Path("restored/a-planes.csv").read_text().splitlines()))
    assert [row["Z"] for row in rows] == ["1", "2", "3"]
    assert [row["outliers"] for row in rows] == ["0", "1", "0"]
    for row in rows:
        assert abs(float(row["noise_value"]) - 200) < 60
    with Image.open("restored/a-planes.png") as picture:
        assert picture.width > 800
    assert "is already there" in aeanet("restore", "a.tif", *quick).stderr

    Path("slices").mkdir()
    for number, plane in enumerate(values):
        Image.fromarray(plane).save(f"slices/s{number}.png")
    message = "slices is a folder: name the images in it, for instance by slices/*.png; slices of "
    assert message in aeanet("restore", "slices").stderr.replace("\\", "/")
    done = aeanet("restore", "slices", "plain.tif", "--axes", "zyx", *quick)
    assert done.exit_code == 0, done.stderr
    same = tifffile.imread("restored/plain.tif")
    np.testing.assert_array_equal(same, tifffile.imread("restored/a.tif"))
    for number, plane in enumerate(same):
        np.testing.assert_array_equal(
            np.asarray(Image.open(f"restored/slices/s{number}.png")), plane
        )


def test_bad_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence each, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    values = volume()
    damaged = values.astype(np.float32)
    damaged[2, 3, 4] = np.inf
    metadata: Any = {"axes": "CYX", "Channel": {"Name": ["SE", "BSE", "EDX"]}}
    tifffile.imwrite("c.ome.tif", values, metadata=metadata, photometric="minisblack")
    tifffile.imwrite("d.tif", damaged, metadata={"axes": "ZYX"}, photometric="minisblack")
    for arguments, words in {
        ("c.ome.tif", "--channel", "TE"): "holds 3 channels (SE, BSE, EDX); none or several",
        ("c.ome.tif", "--axes", "TZYX"): "4 axes, TZYX, do not fit to the 3 x 64 x 72 values",
        ("d.tif",): "plane 3 of d.tif holds NaN",
    }.items():
        done = aeanet("restore", *arguments, "--flips", 1)
        assert done.exit_code == 1
        assert words in done.stderr
        assert "Traceback" not in done.output
        assert not list(Path("restored").iterdir())
    done = aeanet("restore", "d.tif", "--skip-damaged", "--flips", 1, "--magnification", 1)
    assert done.exit_code == 0
    assert "d.tif: plane 3 is left empty: plane 3 of d.tif holds NaN" in done.stderr
    assert not tifffile.imread("restored/d.tif")[2].any()


def test_what_is_said_of_planes() -> None:
    """Warnings once each, with the worst planes; and a channel that is no electron image."""
    from aeanet.cli.stacks import warnings_of

    contents = Contents("ZCYX", (4, 2, 8, 8), np.dtype(np.uint8), channels=("SE", "GFP"))
    usual = {"distance": 0.5, "residual_distance": 0.5, "warnings": []}
    unlike = "The image is unlike those that the model was trained on"
    records: list[Any] = [dict(usual) for _ in range(8)]
    for worst, number in enumerate((1, 5, 3, 7)):
        sentence = f"{unlike} (most unusual: {worst})."
        records[number] = {"distance": 9 - worst, "residual_distance": 0.1, "warnings": [sentence]}
    said = warnings_of(RestoredStack(Path("a"), Path("b"), contents, 0, records))
    assert said == [
        f"{unlike}. So in 4 planes, number 2, 6, 4, 8.",
        "Channel 2 (GFP) is unlike electron images.",
    ]


def test_slices_that_were_stored_as_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by tifffile for three or four slices, unless it is told what they are."""
    monkeypatch.chdir(tmp_path)
    values = volume()
    tifffile.imwrite("a.tif", values, photometric="rgb", planarconfig="separate")
    quick = ("--flips", 1, "--magnification", 1)
    said = aeanet("restore", "a.tif", "--out", "grey", *quick).stderr
    assert "The colours become grey. Slices that were stored as colours are taken by" in said
    done = aeanet("restore", "a.tif", "--axes", "ZYX", *quick)
    assert done.exit_code == 0, done.stderr
    restored = tifffile.imread("restored/a.tif")
    assert restored.shape == values.shape
    tifffile.imwrite("b.tif", values, photometric="minisblack", metadata=None)
    assert aeanet("restore", "b.tif", "--axes", "ZYX", *quick).exit_code == 0
    np.testing.assert_array_equal(tifffile.imread("restored/b.tif"), restored)


def test_options_of_stacks_for_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(volume()[0]).save("one.png")
    done = aeanet("restore", "one.png", "--channel", "SE", "--flips", 1, "--magnification", 1)
    assert done.exit_code == 0
    assert "one.png: It is one image; --axes and --channel are for stacks.\n" in done.stderr
