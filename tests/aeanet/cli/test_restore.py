"""The shipped model: its file and card, restoration out of the box, and a training that starts from
it.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from toys import aeanet, simulated_folder

import aeanet as package
from aeanet.data.synthetic import KINDS, simulate_image
from aeanet.imaging.metrics import psnr
from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import super_resolve
from aeanet.networks.registry import SHIPPED, SHIPPED_FOLDER, load_model
from aeanet.training.card import VISIBLE
from aeanet.training.pretraining import HELD_BACK


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_is_what_its_record_says(name: str) -> None:
    assert (SHIPPED_FOLDER / f"{name}.safetensors").stat().st_size <= 3_000_000
    record = json.loads((SHIPPED_FOLDER / f"{name}.json").read_text())
    model = load_model(name)
    assert model.config == record["model"]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_an_image_is_restored_out_of_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = simulate_image(7, (60, 80), kind="mixed", magnification=2.0)
    for name, values in {
        "deep.tif": np.rint(image.lr * 65535).astype(np.uint16),
        "float.tif": image.lr.astype(np.float32),
    }.items():
        tifffile.imwrite(tmp_path / name, values)
        done = aeanet("restore", tmp_path / name)
        assert done.exit_code == 0, done.output
        result = tifffile.imread(tmp_path / "restored" / name)
        assert result.dtype == values.dtype
        assert result.shape == (120, 160)
        full = 65535 if values.dtype == np.uint16 else 1
        expected = super_resolve(
            load_model("sem"), (values / full).astype(np.float32), magnification=2
        )
        assert np.abs(result / full - expected).max() < 2e-3
    package.restore_file(
        "sem", str(tmp_path / "deep.tif"), str(tmp_path / "again.tif"), magnification=1
    )
    assert tifffile.imread(tmp_path / "again.tif").shape == (60, 80)
    same = aeanet("predict", "sem", tmp_path / "float.tif", "--out", "predicted")
    assert same.exit_code == 0, same.output
    np.testing.assert_array_equal(
        tifffile.imread("predicted/float.tif"), tifffile.imread("restored/float.tif")
    )

    once = aeanet("restore", tmp_path / "float.tif", "--flips", "1", "--out", "once")
    assert once.exit_code == 0, once.output
    expected = package.super_resolve("sem", values.astype(np.float32), magnification=2, flips=1)
    np.testing.assert_allclose(tifffile.imread("once/float.tif"), expected, atol=1e-6)
    assert (
        np.abs(tifffile.imread("once/float.tif") - tifffile.imread("restored/float.tif")).max()
        > 1e-4
    )

    for wrong, words in (
        (("--magnification", "5"), "wanted 1 to 4"),
        (("--flips", "3"), "wanted 1, 2 or 4"),
    ):
        refused = aeanet("restore", tmp_path / "deep.tif", *wrong)
        assert refused.exit_code == 1
        assert words in refused.output
    found = json.loads(aeanet("info", "sem", "--json").stdout)
    assert found["training"]["name"] == "sem"


def test_what_does_not_enter_the_result_is_told(tmp_path: Path) -> None:
    """Colours, an information bar, a residual that cannot be told; and a folder is no image."""
    colours = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    bar = cv2.putText(
        np.zeros((24, 160), np.uint8), "20.0 kV  x 500", (8, 17), cv2.FONT_HERSHEY_PLAIN, 1, 255
    )
    specimen = simulate_image(7, (104, 160)).lr * 200
    Image.fromarray(np.vstack([specimen, bar]).astype(np.uint8)).save(tmp_path / "bar.png")
    images = [tmp_path / "colour.png", tmp_path / "bar.png"]
    done = aeanet(
        "restore", *images, tmp_path, "--residual", "--flips", 1, "--out", tmp_path / "out"
    )
    assert done.exit_code == 1
    assert (
        "bar.png: The information bar, 24 rows at the bottom, is left out; --keep-bar keeps it.\n"
        in done.stderr
    )
    assert "colour.png: The colours become grey.\n" in done.stderr
    assert "colour-residual.png is not written: " in done.stderr
    assert f"{tmp_path} is a folder: name the images in it" in done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "bar-residual.png",
        "bar.png",
        "colour.png",
    ]


@pytest.mark.parametrize(("magnification", "kinds"), [(1.0, KINDS[1::2]), (2.0, KINDS[::4])])
def test_it_does_no_harm(magnification: float, kinds: tuple[str, ...]) -> None:
    """A clean image stays as it is; none whose noise can be seen, half a grey level of 8 bits,
    becomes worse.
    """
    model = load_model("sem")
    for index, kind in enumerate(kinds):
        image = simulate_image(
            HELD_BACK + 500 + index, (64, 80), kind=kind, magnification=magnification
        )
        everywhere = np.ones(image.hr.shape, bool)
        before = psnr(upsample(image.lr, magnification).clip(0, 1), image.hr, everywhere)
        after = psnr(
            super_resolve(model, image.lr, magnification=magnification), image.hr, everywhere
        )
        assert after > min(before, VISIBLE) - 0.1, (kind, before, after)
        assert psnr(super_resolve(model, image.hr, magnification=1), image.hr, everywhere) >= 45, (
            kind
        )


def test_a_training_starts_from_it(tmp_path: Path) -> None:
    pairs = simulated_folder(tmp_path / "pairs", [0])
    done = aeanet(
        *("train", pairs, "--out", tmp_path / "run", "--from", "sem"),
        *("--steps", "1", "--batch", "2", "--crop", "16", "--rate", "1e-9"),
    )
    assert done.exit_code == 0, done.output
    trained, shipped = load_model(tmp_path / "run"), load_model("sem")
    assert trained.config == shipped.config
    for name, tensor in shipped.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=0, atol=1e-7)

    other = aeanet("train", pairs, "--out", tmp_path / "other", "--from", "sem", "--model", "unet")
    assert other.exit_code == 1
    assert "leave out --model" in other.output
