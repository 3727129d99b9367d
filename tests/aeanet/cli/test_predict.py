"""`aeanet predict`: formats, tiles, magnifications, and files that are kept."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from toys import aeanet, assert_one_sentence, lively_network, uneven_noise

from aeanet.io.images import read_image
from aeanet.io.mosaics import open_mosaic
from aeanet.networks.registry import build_model, save_model


def test_16_bit_and_colour_images_go_through(run: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    deep = random.integers(0, 65536, (12, 16)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(random.integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(
        tmp_path / "colour.bmp"
    )
    result = aeanet(
        "predict", run, tmp_path / "deep.tif", tmp_path / "colour.bmp", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "out" / "deep.tif").dtype == np.uint16
    assert read_image(tmp_path / "out" / "deep.tif").pixels.shape == (24, 32)
    assert read_image(tmp_path / "out" / "colour.png").dtype == np.uint8


def test_a_bad_image_does_not_stop_the_good_ones(run: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [tmp_path / "broken.png", tmp_path / "missing.png", pairs / "lr" / "0.png"]
    result = aeanet("predict", run, *images, "--out", tmp_path / "out")
    assert_one_sentence(result, "2 of 3 images could not be restored")
    assert "broken.png cannot be read as an image" in result.stderr
    assert "missing.png cannot be read" in result.stderr
    assert (tmp_path / "out" / "0.png").exists()


def test_tiles_change_nothing(tmp_path: Path) -> None:
    model = lively_network()
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    tifffile.imwrite(tmp_path / "a.tif", (uneven_noise(100, 140) * 65535).astype(np.uint16))
    for folder, options in (
        ("whole", ["--tile", "2000"]),
        ("tiled", ["--tile", "100"]),
        ("auto", []),
    ):
        result = aeanet(
            "predict", tmp_path / "run", tmp_path / "a.tif", "--out", tmp_path / folder, *options
        )
        assert result.exit_code == 0, result.output
    whole, tiled, auto = (
        tifffile.imread(tmp_path / name / "a.tif") for name in ("whole", "tiled", "auto")
    )
    assert np.array_equal(auto, whole)
    # A rounding error may lie on a rounding step.
    assert np.abs(tiled.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("magnification", ["0", "-1", "inf", "nan"])
def test_a_magnification_that_cannot_be(
    run: Path, pairs: Path, tmp_path: Path, magnification: str
) -> None:
    options = ["--out", tmp_path / "out", "--magnification", magnification]
    assert_one_sentence(
        aeanet("predict", run, pairs / "lr" / "0.png", *options), "wanted a number from 0.9 to 16"
    )


def test_a_model_that_does_not_know_its_magnification(pairs: Path, tmp_path: Path) -> None:
    save_model(build_model("unet"), tmp_path / "run" / "model.safetensors")
    options = ["--out", tmp_path / "out"]
    result = aeanet("predict", tmp_path / "run", pairs / "lr" / "0.png", *options)
    assert_one_sentence(result, "does not know its magnification")
    assert (
        aeanet(
            "predict", tmp_path / "run", pairs / "lr" / "0.png", *options, "--magnification", 2
        ).exit_code
        == 0
    )


def test_images_by_regions_and_other_magnifications(run: Path, pairs: Path, tmp_path: Path) -> None:
    zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(60, 80), dtype="uint8", chunks=(32, 32))[
        :
    ] = 100
    options = ["--magnification", "1.5", "--tile", "64", "--precision", "bfloat16"]
    result = aeanet(
        "predict",
        run,
        tmp_path / "a.zarr",
        pairs / "lr" / "0.png",
        "--out",
        tmp_path / "out",
        *options,
    )
    assert result.exit_code == 0, result.output
    with open_mosaic(tmp_path / "out" / "a.zarr") as restored:
        assert restored.shape == (90, 120)
    assert read_image(tmp_path / "out" / "0.png").pixels.shape == (354, 480)


@pytest.mark.parametrize(
    ("tile", "words"), [("0", "a tile of 0 px is too small"), ("big", "--tile is 'big', wanted")]
)
def test_a_tile_that_cannot_be_is_refused_before_anything_is_done(
    run: Path, pairs: Path, tmp_path: Path, tile: str, words: str
) -> None:
    result = aeanet(
        "predict", run, pairs / "lr" / "0.png", "--out", tmp_path / "out", "--tile", tile
    )
    assert_one_sentence(result, words)
    assert not (tmp_path / "out").exists()


def test_results_never_replace_inputs_or_one_another(
    run: Path, pairs: Path, tmp_path: Path
) -> None:
    image = tmp_path / "0.png"
    image.write_bytes((pairs / "lr" / "0.png").read_bytes())
    result = aeanet("predict", run, image, "--out", tmp_path)
    assert_one_sentence(result, "1 of 1 images could not be restored")
    assert "would replace an input image" in result.stderr
    assert image.read_bytes() == (pairs / "lr" / "0.png").read_bytes()
    both = aeanet("predict", run, image, pairs / "lr" / "0.png", "--out", tmp_path / "out")
    assert_one_sentence(both, "1 of 2 images could not be restored")
    assert f"would be written to {tmp_path / 'out' / '0.png'}, as {image} is" in both.stderr
    assert (tmp_path / "out" / "0.png").exists()


def test_earlier_results_are_kept_unless_they_are_to_be_replaced(
    run: Path, pairs: Path, tmp_path: Path
) -> None:
    images = [pairs / "lr" / f"{seed}.png" for seed in range(2)]
    (tmp_path / "1.png").write_bytes(b"earlier")
    again = aeanet("predict", run, *images, images[0], "--out", tmp_path)
    assert_one_sentence(again, "1 of 2 images could not be restored")
    assert "1.png is already there; replace it with --overwrite" in again.stderr
    assert again.stdout.split() == [str(tmp_path / "0.png")]
    assert (tmp_path / "1.png").read_bytes() == b"earlier"
    assert aeanet("predict", run, *images, "--out", tmp_path, "--overwrite").exit_code == 0
    assert (
        read_image(tmp_path / "1.png").pixels.shape == read_image(tmp_path / "0.png").pixels.shape
    )
