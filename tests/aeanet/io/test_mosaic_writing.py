"""Images written by regions appear whole or not at all."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from mosaic_files import NANOMETRES, RANDOM, image, write_zarr
from toys import lively_network, tiles_alone, uneven_noise

from aeanet.imaging.upsampling import upsample
from aeanet.inference.files import super_resolve_mosaic
from aeanet.inference.prediction import super_resolve
from aeanet.io.images import ImageError, PixelSize, read_image, write_image
from aeanet.io.mosaics import create_mosaic, open_mosaic
from aeanet.networks.unet import UShape


@pytest.fixture
def model() -> UShape:
    model = lively_network()
    model.magnification = 2.0
    return model


@pytest.mark.parametrize("name", ["b.tif", "b.zarr"])
@pytest.mark.parametrize(
    ("dtype", "scale", "rounding"),
    [("uint8", 255, 0.5003), ("uint16", 65535, 0.57), ("float32", 1, 0)],
)
def test_what_is_written_by_regions_can_be_read(
    tmp_path: Path, name: str, dtype: str, scale: int, rounding: float
) -> None:
    """In any order, at any place, with the type, range and pixel size that were asked for."""
    tifffile.imwrite(tmp_path / "a.tif", image(dtype, (20, 20)))
    pixels = RANDOM.random((300, 530), dtype=np.float32) * 1.2 - 0.1
    corners = [(row, column) for row in range(0, 300, 100) for column in range(0, 530, 212)]
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        create_mosaic(
            tmp_path / name, pixels.shape, like=like, pixel_size=NANOMETRES, tile=212
        ) as write,
    ):
        for row, column in RANDOM.permutation(corners):
            region = slice(row, min(row + 100, 300)), slice(column, min(column + 212, 530))
            write(*region, pixels[region])
        assert not (tmp_path / name).exists()
    with open_mosaic(tmp_path / name) as mosaic:
        got = mosaic.raw(slice(0, 300), slice(0, 530))
        assert (mosaic.dtype, mosaic.pixel_size) == (np.dtype(dtype), NANOMETRES)
    np.testing.assert_allclose(got, pixels.clip(0, 1) * scale, atol=rounding)
    if name == "b.tif":
        assert np.array_equal(tifffile.imread(tmp_path / name), got)
    assert sorted(os.listdir(tmp_path)) == ["a.tif", name]


@pytest.mark.parametrize("target", ["out.tif", "out.ome.zarr"])
@pytest.mark.parametrize("magnification", [2.0, 1.7])
def test_from_file_to_file_is_what_memory_gives(
    tmp_path: Path, model: UShape, target: str, magnification: float
) -> None:
    values = (uneven_noise(81, 120) * 65535).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        values,
        ome=True,
        metadata={
            "axes": "YX",
            "PhysicalSizeX": 3.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 4.0,
            "PhysicalSizeYUnit": "nm",
        },
    )
    super_resolve_mosaic(
        model, tmp_path / "a.tif", tmp_path / target, tile=50, magnification=magnification
    )
    whole = super_resolve(model, (values / 65535).astype(np.float32), magnification=magnification)
    with open_mosaic(tmp_path / target) as result:
        got = result.raw(*(slice(0, length) for length in result.shape)) / 65535
        assert result.pixel_size == PixelSize(3.0 / magnification, 4.0 / magnification, "nm")
    np.testing.assert_allclose(got, whole, atol=0.5 / 65535 + 1e-5)
    large = upsample((values / 65535).astype(np.float32), magnification)
    assert np.abs(tiles_alone(model, large, 50) - whole).max() > 1e-3


@pytest.mark.parametrize("white", [4095, 65535])
def test_a_dark_result_keeps_its_range(tmp_path: Path, white: int) -> None:
    """16 bits of which a dark image uses 12 are not taken for those of a detector with 12, or the
    other way round.
    """
    values = image("uint16") // (65536 // (white + 1))
    tifffile.imwrite(tmp_path / "a.tif", values)
    dark = np.full(values.shape, 0.01, np.float32)
    for name in ("b.tif", "b.zarr"):
        with (
            open_mosaic(tmp_path / "a.tif") as like,
            create_mosaic(tmp_path / name, values.shape, like=like) as write,
        ):
            write(slice(0, 150), slice(0, 203), dark)
        with open_mosaic(tmp_path / name) as result:
            assert result.high == white
    assert read_image(tmp_path / "b.tif").high == white
    write_image(tmp_path / "c.tif", dark, like=read_image(tmp_path / "a.tif", keep_bar=True))
    assert read_image(tmp_path / "c.tif").high == white


@pytest.mark.parametrize(("dtype", "wider"), [("float16", "float32"), ("uint64", "float64")])
def test_types_that_ome_does_not_know(tmp_path: Path, dtype: str, wider: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(400).reshape(20, 20).astype(dtype))
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        create_mosaic(tmp_path / "b.tif", (20, 20), like=like) as write,
    ):
        write(slice(0, 20), slice(0, 20), like.read(slice(0, 20), slice(0, 20)))
    result = tifffile.imread(tmp_path / "b.tif")
    assert result.dtype == wider
    np.testing.assert_allclose(result, np.arange(400).reshape(20, 20), rtol=1e-3)


@pytest.mark.parametrize("name", ["b.tif", "b.zarr"])
def test_one_run_at_a_time_writes_an_image(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8"))
    everywhere = slice(0, 20), slice(0, 20)
    with open_mosaic(tmp_path / "a.tif") as like:
        for value in (0.2, 0.4):  # the second replaces the first
            with create_mosaic(tmp_path / name, (20, 20), like=like) as write:
                with (
                    pytest.raises(ImageError, match="another run is writing it"),
                    create_mosaic(tmp_path / name, (20, 20), like=like),
                ):
                    pass
                write(*everywhere, np.full((20, 20), value, np.float32))
    with open_mosaic(tmp_path / name) as result:
        assert (result.raw(*everywhere) == 102).all()
    assert sorted(os.listdir(tmp_path)) == ["a.tif", name]


@pytest.mark.parametrize("name", ["b.tif", "b.zarr"])
def test_a_folder_that_is_no_image_stays(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8"))
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        pytest.raises(ImageError, match="it is a folder, and not that of an image"),
        create_mosaic(tmp_path / name, (20, 20), like=like),
    ):
        pass
    assert (tmp_path / name / "notes.txt").read_text() == "mine"


def test_the_image_that_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "b.zarr").symlink_to(tmp_path / "disk" / "b.zarr")
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        create_mosaic(tmp_path / "b.zarr", (20, 20), like=like) as write,
    ):
        write(slice(0, 20), slice(0, 20), np.ones((20, 20), np.float32))
    assert (tmp_path / "b.zarr").is_symlink()
    with open_mosaic(tmp_path / "disk" / "b.zarr") as result:
        assert (result.raw(slice(0, 20), slice(0, 20)) == 255).all()


@pytest.mark.parametrize("side", [None, 20, 500])
def test_an_image_smaller_than_the_halo(tmp_path: Path, model: UShape, side: int | None) -> None:
    write_zarr(tmp_path / "a.zarr", image("uint8", (10, 9)))
    super_resolve_mosaic(model, tmp_path / "a.zarr", tmp_path / "b.zarr", tile=side)
    with open_mosaic(tmp_path / "b.zarr") as result:
        assert result.shape == (20, 18)


def test_an_interrupted_run_leaves_what_was_there(tmp_path: Path, model: UShape) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8", (60, 60)))
    (tmp_path / "out.tif").write_bytes(b"an earlier result")

    def interrupt(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        super_resolve_mosaic(
            model, tmp_path / "a.tif", tmp_path / "out.tif", tile=40, progress=interrupt
        )
    assert (tmp_path / "out.tif").read_bytes() == b"an earlier result"
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "out.tif"]


def test_a_disk_that_fills_up(
    tmp_path: Path, model: UShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8", (60, 60)))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ImageError, match=r"out.tif cannot be written: No space left on device\."):
        super_resolve_mosaic(model, tmp_path / "a.tif", tmp_path / "out.tif", tile=40)
    assert os.listdir(tmp_path) == ["a.tif"]


def test_a_result_larger_than_the_disk_is_refused_at_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8"))
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        pytest.raises(ImageError, match=r"it needs 1,000,000,000\.0 GB, the disk has"),
        create_mosaic(tmp_path / "b.tif", (10**9, 10**9), like=like),
    ):
        pass
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["b.tif", "b.zarr"])
def test_a_target_that_cannot_be_written(
    tmp_path: Path, name: str, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image("uint8"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(tifffile, "imwrite", refuse)
    monkeypatch.setattr(zarr, "open_group", refuse)
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        pytest.raises(ImageError, match=rf"{name} cannot be written: {os.strerror(error)}\."),
        create_mosaic(tmp_path / name, (10, 10), like=like),
    ):
        pass
    with (
        open_mosaic(tmp_path / "a.tif") as like,
        pytest.raises(ImageError, match=rf"{name} cannot be written: No such file or directory\."),
        create_mosaic(tmp_path / "nowhere" / name, (10, 10), like=like),
    ):
        pass
    assert os.listdir(tmp_path) == ["a.tif"]
