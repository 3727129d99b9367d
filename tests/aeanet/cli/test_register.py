"""`aeanet register`: aligned images in the depth of the originals, a report, and bad pairs
named.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from toys import aeanet, simulated_folder
from typer.testing import Result

from aeanet.data.registration import register_pair
from aeanet.data.synthetic import simulate_pair
from aeanet.io.images import PixelSize, read_image, write_image
from aeanet.io.pixel_size import ome_metadata

SHAPE = (236, 320)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good pair of 8 bits, a good one of 16, two that are not of one field, half a pair, and a
    corrupt one.
    """
    folder = simulated_folder(tmp_path_factory.mktemp("pairs"), [0])
    first, second = (simulate_pair(seed, shape=SHAPE) for seed in range(2))
    for kind in ("lr", "hr"):
        (folder / kind / "0.png").rename(folder / kind / "eight.png")
        deep = np.rint(getattr(second, kind) * 65535).astype(np.uint16)
        metadata = ome_metadata(PixelSize(8.0, 8.0, "nm") if kind == "lr" else None)
        tifffile.imwrite(folder / kind / "sixteen.tif", deep, ome=True, metadata=metadata)
    write_image(folder / "lr" / "strangers.png", first.lr)
    write_image(folder / "hr" / "strangers.png", second.hr)
    write_image(folder / "lr" / "half.png", first.lr)
    write_image(folder / "lr" / "corrupt.png", first.lr)
    (folder / "hr" / "corrupt.png").write_bytes((folder / "hr" / "eight.png").read_bytes()[:500])
    return folder


def register(*arguments: object) -> Result:
    return aeanet("register", *arguments)


def test_good_pairs_are_aligned_in_their_depth_and_bad_ones_named(
    pairs: Path, tmp_path: Path
) -> None:
    result = register(pairs, "--out", tmp_path / "aligned")
    assert result.exit_code == 0, result.output
    for kind in ("lr", "hr", "mask"):
        assert {path.name for path in (tmp_path / "aligned" / kind).iterdir()} == {
            "eight.tif",
            "sixteen.tif",
        }
    for name, ending, dtype, levels in (
        ("eight", "png", np.uint8, 255),
        ("sixteen", "tif", np.uint16, 65535),
    ):
        lr, hr = (read_image(pairs / kind / f"{name}.{ending}").pixels for kind in ("lr", "hr"))
        expected = register_pair(lr, hr)
        written = {
            kind: tifffile.imread(tmp_path / "aligned" / kind / f"{name}.tif")
            for kind in ("lr", "hr", "mask")
        }
        assert written["lr"].dtype == written["hr"].dtype == dtype
        assert np.array_equal(written["hr"], np.rint(hr * levels))
        assert np.array_equal(
            written["lr"], np.rint(expected.lr.clip(0, 1).astype(np.float64) * levels)
        )
        assert np.array_equal(written["mask"] == 255, expected.mask)
        sizes = [
            read_image(tmp_path / "aligned" / kind / f"{name}.tif").pixel_size
            for kind in ("lr", "hr")
        ]
        stated = (
            PixelSize(8.0, 8.0, "nm").magnified(expected.report.magnification)
            if name == "sixteen"
            else None
        )
        assert sizes == [stated, stated]
    for name in ("strangers", "half", "corrupt"):
        assert f"Pair {name} is left out: " in result.stderr
        assert name in result.stdout


def test_results_of_pairs_that_are_gone_are_removed(tmp_path: Path) -> None:
    """Those of an earlier call, and nothing else that lies there."""
    folder = simulated_folder(tmp_path, range(2))
    aligned = tmp_path / "aligned"
    assert register(folder, "--out", aligned).exit_code == 0
    (aligned / "lr" / "mine.tif").write_bytes(b"")
    for kind in ("lr", "hr"):
        (folder / kind / "0.png").unlink()
    assert register(folder, "--out", aligned, "--overwrite").exit_code == 0
    for kind, mine in (("lr", ["mine.tif"]), ("hr", []), ("mask", [])):
        assert sorted(path.name for path in (aligned / kind).iterdir()) == ["1.tif", *mine]


def test_the_report_as_json(pairs: Path, tmp_path: Path) -> None:
    result = register(pairs, "--out", tmp_path / "aligned", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "aligned" / "registration.json").read_text())
    assert list(record["pairs"]) == ["eight", "sixteen"]
    assert sorted(record["refused"]) == ["corrupt", "half", "strangers"]
    found = record["pairs"]["eight"]
    assert found["magnification"] == pytest.approx(2, abs=0.03)
    assert found["psnr_after"] > found["psnr_before"]
    assert found["residual"] < 1
    assert "holds results of aeanet register" not in result.stderr
    again = register(tmp_path / "aligned", "--out", tmp_path / "again", "--json")
    assert "aligned holds results of aeanet register" in again.stderr
    assert json.loads(again.stdout)["pairs"]["eight"]["magnification"] == pytest.approx(1, abs=1e-3)


def test_where_nothing_can_be_done(pairs: Path, tmp_path: Path) -> None:
    for kind in ("lr", "hr"):
        (tmp_path / "bad" / kind).mkdir(parents=True)
        Image.new("L", (200, 200)).save(tmp_path / "bad" / kind / "flat.png")
    for folder, words in (
        (tmp_path / "bad", "None of the 1 pairs"),
        (tmp_path / "nowhere", "nowhere is not a folder"),
        (tmp_path, "holds no complete pair"),
    ):
        result = register(folder, "--out", tmp_path / "aligned")
        assert result.exit_code == 1
        assert words in result.stderr.strip().splitlines()[-1]
    before = (pairs / "lr" / "eight.png").read_bytes()
    result = register(pairs, "--out", pairs)
    assert result.exit_code == 1
    assert "holds the original pairs" in result.stderr
    assert (pairs / "lr" / "eight.png").read_bytes() == before
    assert not (pairs / "mask").exists()
