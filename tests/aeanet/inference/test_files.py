"""`restore_file`: the same result whether an image is taken at once, in tiles or by regions."""

from pathlib import Path

import maker_files as makers
import numpy as np
import pytest
import tifffile
import zarr
from toys import lively_network, uneven_noise

from aeanet import restore_file, super_resolve
from aeanet.inference import memory
from aeanet.inference.prediction import PredictionError
from aeanet.io.images import ImageError, read_image
from aeanet.io.mosaics import open_mosaic

LEVELS = np.rint(uneven_noise(60, 100) * 255).astype(np.uint8)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "lr.tif", LEVELS)
    return tmp_path / "lr.tif"


@pytest.mark.parametrize("scarce", [False, True])
def test_the_memory_decides_on_tiles_and_not_on_the_result(
    image: Path, scarce: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lively_network()
    if scarce:  # room for tiles of 64 px with their halo, not for the result of 120 x 200
        side = 64 + 2 * memory.reach_of(model).halo
        needed = memory.bytes_per_pixel(model) * side**2 / memory.SHARE
        monkeypatch.setattr(memory, "free_bytes", lambda device: int(needed) + 1000)
    passes: list[tuple[int, int]] = []
    target = image.with_name("hr.tif")
    restore_file(
        model,
        image,
        target,
        magnification=2,
        progress=lambda done, total: passes.append((done, total)),
    )
    # 2 x 4 tiles, once for the attention, once for the result.
    assert passes[-1] == ((16, 16) if scarce else (1, 1))
    expected = super_resolve(model, LEVELS / np.float32(255), magnification=2)
    written = read_image(target)
    assert written.dtype == np.uint8
    np.testing.assert_allclose(written.pixels, expected, atol=0.51 / 255)


def test_the_recording_is_never_replaced(image: Path) -> None:
    link = image.with_name("link.tif")
    link.symlink_to(image)
    for target in (image, link):
        with pytest.raises(ImageError, match="is the image itself, which would be lost"):
            restore_file(lively_network(), image, target, magnification=2)
    np.testing.assert_array_equal(tifffile.imread(image), LEVELS)


def test_an_image_by_regions_gives_the_same(image: Path) -> None:
    model = lively_network()
    model.magnification = 2.0
    source, target = image.with_name("lr.zarr"), image.with_name("hr.zarr")
    zarr.open_array(source, mode="w", shape=LEVELS.shape, dtype="uint8", chunks=(32, 32))[:] = (
        LEVELS
    )
    restore_file(model, image, image.with_name("hr.tif"))
    restore_file(model, source, target, tile=64)
    with open_mosaic(target) as mosaic:
        by_regions = mosaic.read(slice(0, 120), slice(0, 200))
    np.testing.assert_allclose(
        by_regions, read_image(image.with_name("hr.tif")).pixels, atol=1.01 / 255
    )


@pytest.mark.parametrize("keep_bar", [False, True])
def test_the_bar_of_an_image_by_regions_is_cut_off_or_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_bar: bool
) -> None:
    """The same as of an image in memory, in the result and where it is judged."""
    bar = np.where(np.indices((8, 100)).sum(0) % 3, 0, 255).astype(np.uint8)
    image = makers.phenom(tmp_path / "lr.tif", np.vstack([LEVELS, bar]), bar=8)
    model, results = lively_network(), []
    for large in (2**25, 10):
        monkeypatch.setattr("aeanet.io.mosaics.reading.LARGE", large)
        target = tmp_path / f"{large}.tif"
        restored = restore_file(model, image, target, magnification=1.0, keep_bar=keep_bar)
        assert [part.shape for part in restored.pixels()] == [(68 if keep_bar else 60, 100)] * 2
        results.append(tifffile.imread(target).astype(int))
    assert results[0].shape == results[1].shape == (68 if keep_bar else 60, 100)
    assert np.abs(results[0] - results[1]).max() <= 1
    assert restored.source is None


def test_an_unknown_magnification_is_refused(image: Path) -> None:
    with pytest.raises(PredictionError, match="does not know its magnification"):
        restore_file(lively_network(), image, image.with_name("hr.tif"))
