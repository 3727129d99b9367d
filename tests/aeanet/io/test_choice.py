"""Files with several images: the user says which, or the only raw one is taken."""

from pathlib import Path
from typing import Any

import maker_files as makers
import numpy as np
import pytest
import tifffile
import zarr
from maker_files import GREY
from microscope_files import bcf, emd
from PIL import Image
from toys import aeanet, lively_network

from aeanet.inference.files import restore_file
from aeanet.io.images import ImageError, PixelSize, read_image
from aeanet.io.images.micrograph import decoding
from aeanet.io.mosaics import open_mosaic, shape_by_regions

DEEP = np.random.default_rng(1).integers(0, 65536, (20, 30)).astype(np.uint16)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path, **options)
    return str(error.value)


def test_the_only_raw_page_is_taken(tmp_path: Path) -> None:
    raw = GREY.astype(np.uint16) * 200
    path = makers.olympus(tmp_path / "a.tif", raw)
    image = read_image(path)
    np.testing.assert_array_equal(image.to_raw(image.pixels), raw)
    assert (image.which, image.colour) == ("image 2 of 2", False)
    first = read_image(path, image="1")
    assert (first.dtype, first.which) == (np.uint8, "")
    with open_mosaic(path) as mosaic:
        assert mosaic.dtype == np.uint16


def test_pages_by_number_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for index, name in enumerate(("SE", "BSE", "BSE", "7")):
            tags = [(285, 2, None, name, True)]
            file.write(GREY + index, photometric="minisblack", extratags=tags, metadata=None)
    for wanted, index in {"1": 0, "SE": 0, " se ": 0, "2": 1, "3": 2, "4": 3, "7": 3}.items():
        image = read_image(path, image=wanted)
        np.testing.assert_array_equal(image.to_raw(image.pixels), GREY + index)
        assert shape_by_regions(path, wanted) is None
    for wanted in ("0", "5", "-1", "TE", "", "²"):
        assert f"no image has the name or number {wanted!r}" in refusal(path, image=wanted)
    assert "several images have the name or number 'BSE'" in refusal(path, image="BSE")
    assert (
        "one is wanted; choose one by its number or name (--image, where a command has it), or "
        "save it in a file of its own" in refusal(path)
    )


@pytest.mark.parametrize("rows", [1, 20])
def test_a_number_beyond_the_page_that_imagej_describes(tmp_path: Path, rows: int) -> None:
    """ImageJ describes a stack beyond 4 GB once. Its first image may lie in several strips."""
    stack = np.stack([DEEP, 65535 - DEEP, DEEP // 2])
    path = tmp_path / "a.tif"
    options: Any = {"metadata": {"axes": "ZYX"}, "rowsperstrip": rows}
    tifffile.imwrite(path, stack, imagej=True, truncate=True, **options)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    for number, plane in enumerate(stack, 1):
        image = read_image(path, image=str(number))
        np.testing.assert_array_equal(image.to_raw(image.pixels), plane)
        with open_mosaic(path, str(number)) as mosaic:
            part = mosaic.read(slice(5, 9), slice(3, 30))
            np.testing.assert_array_equal(mosaic.to_raw(part), plane[5:9, 3:30])
    assert "no image has the name or number '4'" in refusal(path, image="4")

    path.write_bytes(path.read_bytes()[:-1])
    assert read_image(path, image="2").pixels.shape == DEEP.shape
    assert "cut short: the file ends before image 3." in refusal(path, image="3")


def test_a_number_beyond_the_pages_that_are_left(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options: Any = {"metadata": {"axes": "ZYX"}, "compression": "zlib"}
    with tifffile.TiffWriter(path, imagej=True) as file:
        file.write(np.stack([DEEP] * 4), **options)
    with tifffile.TiffFile(path) as file:
        third = file.pages[2].offset
    path.write_bytes(path.read_bytes()[:third])
    assert "its list of pages ends after 2, before image 4" in refusal(path, image="4")


def test_a_mask_beside_the_image_is_none(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY, photometric="minisblack", metadata=None)
        file.write(GREY > 128, subfiletype=4, photometric="minisblack", metadata=None)
    assert read_image(tmp_path / "a.tif").pixels.shape == GREY.shape


def test_signals_by_number_and_by_title(tmp_path: Path) -> None:
    path = emd(tmp_path / "a.emd", DEEP, 65535 - DEEP, np.zeros(50, np.float32))
    for wanted, expected in {"signal0": DEEP, "1": DEEP, "signal1": 65535 - DEEP}.items():
        image = read_image(path, image=wanted)
        np.testing.assert_array_equal(image.to_raw(image.pixels), expected)
    assert "no image has the name or number 'BSE'" in refusal(path, image="BSE")
    assert "choose one by its number or name (--image" in refusal(path)


def test_the_detector_and_not_a_map_made_of_spectra(tmp_path: Path) -> None:
    path = emd(tmp_path / "a.emd", DEEP.astype(np.float32), DEEP, DEEP.astype(np.float32))
    image = read_image(path)
    np.testing.assert_array_equal(image.to_raw(image.pixels), DEEP)
    assert image.which == "image 2 of 3"


def test_se_and_bse_of_bruker(tmp_path: Path) -> None:
    path = tmp_path / "a.bcf"
    path.write_bytes(bcf(DEEP, (0.5, 0.5), bse=65535 - DEEP))
    for wanted, expected in {"SE": DEEP, "BSE": 65535 - DEEP, "2": 65535 - DEEP}.items():
        image = read_image(path, image=wanted)
        np.testing.assert_array_equal(image.to_raw(image.pixels), expected)
    assert "SE (20 x 30 uint16), BSE (20 x 30 uint16); choose one" in refusal(path)


def test_a_file_of_one_image_has_number_one(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", image="1").pixels.shape == GREY.shape
    for wanted in ("SE", "", "2"):
        assert f"number {wanted!r}" in refusal(tmp_path / "a.png", image=wanted)
    zarr.create_array(tmp_path / "a.zarr", data=GREY)
    assert shape_by_regions(tmp_path / "a.zarr", "1") == GREY.shape
    with pytest.raises(ImageError, match="no image has the name or number 'SE'"):
        shape_by_regions(tmp_path / "a.zarr", "SE")


def test_the_command_chooses_and_says_so(tmp_path: Path) -> None:
    path = makers.zeiss(tmp_path / "a.tif", 12.33, 5.0)
    shown = aeanet("info", path, "--image", "2")
    assert shown.exit_code == 0, shown.output
    assert "x: 5\n" in shown.output
    assert "choose one by its number or name (--image" in aeanet("info", path).output

    out = ("--magnification", "1", "--flips", "1", "--out", tmp_path / "out")
    done = aeanet("restore", makers.olympus(tmp_path / "b.tif"), path, "--image", "2", *out)
    assert done.exit_code == 0, done.output
    assert tifffile.imread(tmp_path / "out" / "b.tif").dtype == np.uint16
    done = aeanet("restore", tmp_path / "b.tif", "--overwrite", *out)
    assert "b.tif: It holds several images; image 2 of 2 is taken, the only raw one." in done.output


def test_a_page_that_is_read_by_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aeanet.io.mosaics.reading.LARGE", 10)
    path = makers.zeiss(tmp_path / "a.tif", 12.0, 5.0)
    model = lively_network()
    restored = restore_file(model, path, tmp_path / "b.tif", magnification=1.0, chosen="2")
    assert restored.source is None  # it was never in memory as a whole
    assert read_image(tmp_path / "b.tif").pixel_size == PixelSize(5.0, 5.0, "nm")
    np.testing.assert_array_equal(np.rint(restored.pixels()[0] * 255), GREY + 1)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("The 'sparse' library was not found. To load it must be installed."),
        ModuleNotFoundError("No module named 'sparse'", name="sparse"),
        ValueError("<COMPRESSION.LZW: 5> requires the 'sparse' package"),
    ],
)
def test_a_missing_package_is_not_damage(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(ImageError) as shown, decoding(tmp_path / "a.emd"):
        raise error
    assert str(shown.value) == (
        f"{tmp_path / 'a.emd'} cannot be read without the package sparse: install it by pip "
        "install sparse."
    )
