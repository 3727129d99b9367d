"""Images read by regions: what is read is what the file holds."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from mosaic_files import NANOMETRES, image, write_zarr

from aeanet.io.images import ImageError, read_image
from aeanet.io.mosaics import open_mosaic, shape_by_regions


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (32, 48)},
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "lzw", "tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_regions_of_a_tiff_are_those_of_the_whole(
    tmp_path: Path, dtype: str, options: dict
) -> None:
    values = image(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    whole = read_image(tmp_path / "a.tif", keep_bar=True)
    with open_mosaic(tmp_path / "a.tif") as mosaic:
        assert (mosaic.shape, mosaic.dtype) == (values.shape, values.dtype)
        assert (mosaic.low, mosaic.high) == (whole.low, whole.high)
        for rows, columns in ((slice(0, 150), slice(0, 203)), (slice(31, 70), slice(100, 203))):
            assert np.array_equal(mosaic.raw(rows, columns), values[rows, columns])
            assert np.array_equal(mosaic.read(rows, columns), whole.pixels[rows, columns])


def test_white_may_be_zero(tmp_path: Path) -> None:
    values = image("uint8")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    with open_mosaic(tmp_path / "a.tif") as mosaic:
        assert np.array_equal(mosaic.raw(slice(3, 5), slice(4, 9)), 255 - values[3:5, 4:9])


def test_an_ome_zarr_image_of_another_writer(tmp_path: Path) -> None:
    """Version 0.4 of the format, with a channel axis."""
    values = image("uint16")
    write_zarr(tmp_path / "a.ome.zarr", values)
    with open_mosaic(tmp_path / "a.ome.zarr") as mosaic:
        assert mosaic.pixel_size == NANOMETRES
        assert np.array_equal(mosaic.raw(slice(60, 70), slice(5, 200)), values[60:70, 5:200])
    assert shape_by_regions(tmp_path / "a.ome.zarr") == values.shape


def test_reduced_pages_are_no_images_of_their_own(tmp_path: Path) -> None:
    values = image("uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values)
        file.write(values[::2, ::2], subfiletype=1)
    with open_mosaic(tmp_path / "a.tif") as mosaic:
        assert np.array_equal(mosaic.raw(slice(0, 150), slice(0, 203)), values)


def cut(path: Path) -> None:
    tifffile.imwrite(path, image("uint8"))
    path.write_bytes(path.read_bytes()[:20_000])


BAD = {
    "cut short": cut,
    "No such file": lambda path: None,
    "one grey image is wanted": lambda path: tifffile.imwrite(
        path, image("uint8", (30, 40))[..., None].repeat(3, 2)
    ),
    "holds 2 images": lambda path: tifffile.imwrite(
        path, np.stack([image("uint8")] * 2), photometric="minisblack"
    ),
    "cannot be read as an image": lambda path: path.write_bytes(b"nothing of the kind"),
    "holds 0 images": lambda path: path.write_bytes(b"II*\0\xff\xff\xff\x7f"),
    "only unsigned integers": lambda path: tifffile.imwrite(
        path, image("float32"), photometric="miniswhite"
    ),
    "NaN or infinite": lambda path: tifffile.imwrite(path, np.full((20, 20), np.nan, np.float32)),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, words: str) -> None:
    BAD[words](tmp_path / "a.tif")
    with pytest.raises(ImageError, match=words) as caught, open_mosaic(tmp_path / "a.tif"):
        pass
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_zarr_group_that_is_no_image(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(ImageError, match="name no multiscales"), open_mosaic(tmp_path / "a.zarr"):
        pass


def test_which_images_are_read_by_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8"))
    assert shape_by_regions(tmp_path / "a.tif") is None
    assert shape_by_regions(tmp_path / "a.png") is None
    (tmp_path / "empty.tif").write_bytes(b"II*\0\xff\xff\xff\x7f")
    for name, words in (
        ("missing.tif", "No such file"),
        ("missing.zarr", "No such file"),
        ("empty.tif", "cannot be read as an image"),
    ):
        with pytest.raises(ImageError, match=words):
            shape_by_regions(tmp_path / name)
    monkeypatch.setattr("aeanet.io.mosaics.reading.LARGE", 10_000)
    assert shape_by_regions(tmp_path / "a.tif") == (150, 203)
