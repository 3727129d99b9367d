"""The benchmark of the tool runs, on images that take no time, and draws what it found."""

import json

import numpy as np
import pytest

from aeanet.io.images import read_image, write_image
from benches.tool import __main__ as tool
from benches.tool import files, others, ours


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).uniform(0.2, 0.8, (40, 48))
    return write_image(tmp_path / "lr.png", pixels)


def test_a_record_and_its_plot(image, tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "FURTHER", 1)
    monkeypatch.setattr(others, "FURTHER", 1)
    monkeypatch.setattr(tool, "FLIPS", (1,))
    monkeypatch.setattr(tool, "multiplies_bfloat16", lambda device: False)
    record = tmp_path / "tool.json"
    arguments = [str(image), "--side", "64", "--methods", "gaussian", "--record", str(record)]
    monkeypatch.setattr("sys.argv", ["tool", *arguments])
    tool.main()

    found = json.loads(record.read_text())
    (row,) = found["rows"]
    assert (row["precision"], row["flips"]) == ("float32", 1)
    assert 0 < row["first"]["network"] < row["first"]["seconds"]
    parts = sum(row["first"][part] for part in ("import_torch", "network", "rest"))
    assert parts == pytest.approx(row["first"]["seconds"], abs=0.01)
    assert found["large"]["side"] == 64
    assert found["large"]["1"] > 0
    assert found["others"]["gaussian"]["large_seconds"] > 0
    assert record.with_suffix(".png").stat().st_size > 1000


def test_a_large_image_has_no_seams(image, tmp_path):
    small = read_image(image).pixels
    large = read_image(files.write_large(image, tmp_path, 128)).pixels
    assert large.shape == (128, 128)
    np.testing.assert_array_equal(large[:40, :48], small)
    np.testing.assert_array_equal(large[40:80, :48], small[::-1])
    np.testing.assert_array_equal(large[:40, 48:96], small[:, ::-1])
