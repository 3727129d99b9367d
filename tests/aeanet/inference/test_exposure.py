"""What the shipped model is shown of an image: its result does not depend on the image's type and
range, and outliers do no harm.
"""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toys import aeanet

from aeanet import restore_file, super_resolve
from aeanet.imaging.exposure import Exposure, Outliers
from aeanet.inference.exposure import find_exposure
from aeanet.inference.files import Restored
from aeanet.inference.prediction import RunOptions, reader
from aeanet.networks.base import Network
from aeanet.networks.registry import SHIPPED_FOLDER, load_model

REACH = 64  # px: more than the network sees around a pixel


@pytest.fixture(scope="module")
def sem() -> Network:
    return load_model("sem")


def square_wave(side: int = 192) -> tuple[NDArray, NDArray]:
    """100 +- 35, and with noise of 8."""
    y, x = np.mgrid[:side, :side]
    clean = 100 + 35 * np.sign(np.sin(x / 11) * np.cos(y / 13))
    return clean, clean + 8 * np.random.default_rng(0).standard_normal(clean.shape)


def restored(
    sem: Network, folder: Path, raw: NDArray, outliers: Outliers = "keep"
) -> tuple[NDArray, Restored]:
    tifffile.imwrite(folder / "in.tif", raw)
    done = restore_file(
        sem,
        folder / "in.tif",
        folder / "out.tif",
        magnification=1,
        outliers=outliers,
        precision="float32",
    )
    return tifffile.imread(folder / "out.tif"), done


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint16", "uint8"])
@pytest.mark.parametrize("hot", [None, 5_000, 65_535, 1_000_000])
def test_one_hot_pixel_does_no_harm(
    sem: Network, tmp_path: Path, dtype: str, hot: int | None
) -> None:
    clean, noisy = square_wave()
    if hot and np.dtype(dtype).kind == "u" and hot > np.iinfo(dtype).max:
        hot = 250  # as far out as the type goes
    if hot:
        noisy[3, 3] = hot
    raw, done = restored(sem, tmp_path, noisy.astype(dtype))
    assert raw.dtype == dtype
    assert np.sqrt(np.mean((raw - clean)[20:] ** 2)) <= 3.1
    found = done.exposure
    assert list(zip(found.rows, found.columns, strict=True)) == ([(3, 3)] if hot else [])
    if hot:
        assert raw[3, 3] == hot


def test_a_dead_pixel_is_kept_or_replaced(sem: Network, tmp_path: Path) -> None:
    _, noisy = square_wave(96)
    noisy[40, 50] = 0
    raw, _ = restored(sem, tmp_path, noisy.astype(np.float32))
    assert raw[40, 50] == 0
    raw, _ = restored(sem, tmp_path, noisy.astype(np.float32), outliers="replace")
    assert raw[40, 50] > 50


@pytest.mark.parametrize(("value", "area"), [(65_535, np.s_[150:160, 100:190]), (0, np.s_[:9, :])])
def test_a_flat_area_far_outside_is_left_in_place(
    sem: Network, tmp_path: Path, value: int, area: tuple[slice, slice]
) -> None:
    clean, noisy = square_wave()
    noisy, clean = noisy + 2000, clean + 2000
    noisy[area] = value
    raw, done = restored(sem, tmp_path, noisy.astype(np.uint16))
    assert done.exposure.rows.size == 0
    assert np.abs(raw[area].astype(float) - value).max() < 40
    assert np.sqrt(np.mean((raw - clean)[20:140] ** 2)) <= 3.1


def test_corners_lines_and_dots_of_the_specimen_are_no_outliers() -> None:
    image = np.full((96, 96), 0.2, np.float32)
    image += 0.01 * np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)
    image[:40, 20:60] += 0.3
    bright = image.copy()
    bright[70, 10:80] = 1  # a line of 1 px, brighter than all else
    bright[80:83, 20:23] = 1
    for this in (image, bright):
        assert find_exposure(reader(this), this.shape).rows.size == 0


@pytest.mark.parametrize("value", [0.0, 3.5e-4, -2.0, 1e9, 200.0])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "int8"])
def test_an_image_of_one_value_has_a_result_of_that_value(
    sem: Network, tmp_path: Path, dtype: str, value: float
) -> None:
    if np.dtype(dtype).kind != "f":
        value = np.clip(value, np.iinfo(dtype).min, np.iinfo(dtype).max)
    image = np.full((40, 30), value).astype(dtype)
    result, _ = restored(sem, tmp_path, image)
    np.testing.assert_allclose(result, image, rtol=1e-6, atol=1e-6 * (value == 0))


def test_an_image_clipped_at_both_ends_is_shown_as_it_is() -> None:
    image = np.random.default_rng(2).normal(0.5, 0.5, (64, 64)).clip(0, 1)
    found = find_exposure(reader(image), image.shape)
    assert (found.low, found.high) == (0, 1)


def test_a_model_trained_on_pairs_is_shown_the_image_as_it_is(sem: Network, tmp_path: Path) -> None:
    assert sem.fits_range
    (tmp_path / "model.safetensors").write_bytes((SHIPPED_FOLDER / "sem.safetensors").read_bytes())
    assert not load_model(tmp_path).fits_range


@settings(max_examples=5)
@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-10, 10))
def test_scaling_and_shifting_an_image_does_so_to_its_result(
    scale: float, shift: float, tmp_path_factory: pytest.TempPathFactory, sem: Network
) -> None:
    folder = tmp_path_factory.mktemp("scaled")
    _, noisy = square_wave(64)
    first, _ = restored(sem, folder, noisy)
    other, _ = restored(sem, folder, scale * (noisy + shift * 100))
    assert np.abs(other / scale - shift * 100 - first).max() < 1e-3 * np.ptp(noisy)


def disturbed(image: NDArray, how: str) -> NDArray:
    """An image in [0, 1] with what detectors add."""
    image = image.copy()
    if how == "outlier":
        image[10, 10] = 0.99
    if how == "outliers":
        image[np.random.default_rng(1).random(image.shape) < 0.004] = 0.99
    if how == "saturated":
        image = image.clip(None, 0.6)
    if how == "two values":
        image = np.where(image > 0.45, 0.6, 0.3)
    return image


@settings(max_examples=12)
@given(
    dtype=st.sampled_from(
        [*(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32)), "f4", "f8"]
    ),
    how=st.sampled_from(["nothing", "outlier", "outliers", "saturated", "two values"]),
    data=st.data(),
)
def test_every_type_and_range_gives_the_result_of_the_image_in_zero_to_one(
    dtype: str,
    how: str,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
    sem: Network,
) -> None:
    """To the rounding of the file's values; a result beyond those of the image is not compared, as
    types without a range of their own have that of the image.
    """
    folder = tmp_path_factory.mktemp("types")
    _, noisy = square_wave(64)
    image = disturbed((noisy / 200).clip(0.01, 0.95), how)

    # A range somewhere in that of the type, at least 100 levels wide.
    kind = np.dtype(dtype).kind
    least, most = (-1e6, 1e6) if kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    width = data.draw(st.floats(1e-3 if kind == "f" else 100.0, (most - least) / 2))
    offset = data.draw(st.floats(least, most - width))
    levels = offset + width * image
    raw = levels.astype(dtype) if kind == "f" else np.rint(levels).astype(dtype)

    # What rounding leaves of the image is what both are restored from.
    exact = (raw.astype(np.float64) - offset) / width
    want, _ = restored(sem, folder, exact)
    got, _ = restored(sem, folder, raw)
    assert got.dtype == dtype
    got, want = (one.clip(exact.min(), exact.max()) for one in ((got - offset) / width, want))
    step = 0.51 / width if kind in "iu" else 1e-6 * (1 + abs(offset) / width)
    assert np.abs(got - want).max() < step + 1e-3


@settings(max_examples=5)
@given(row=st.integers(0, 30), column=st.integers(0, 30), value=st.sampled_from([-1e4, 400.0, 1e6]))
def test_an_outlier_changes_the_result_only_around_it(
    row: int, column: int, value: float, tmp_path_factory: pytest.TempPathFactory, sem: Network
) -> None:
    folder = tmp_path_factory.mktemp("outlier")
    _, noisy = square_wave(128)
    before, _ = restored(sem, folder, noisy)
    noisy[row, column] = value
    after, _ = restored(sem, folder, noisy)
    assert after[row, column] == pytest.approx(value, rel=1e-6)
    changed = np.abs(after - before)
    assert changed[row + REACH :].max() < 0.2
    assert changed[:, column + REACH :].max() < 0.2
    after[row, column] = before[row, column]
    assert np.abs(after - before).max() < 20


def test_tiles_and_regions_give_the_same(sem: Network, tmp_path: Path) -> None:
    _, noisy = square_wave(160)
    noisy[[3, 77, 78], [3, 100, 101]] = 4000
    levels = noisy.astype(np.uint16)
    image = levels / np.float32(4095)
    options: RunOptions = {"precision": "float32"}
    at_once = super_resolve(sem, image, magnification=2, **options)
    tiled = super_resolve(sem, image, magnification=2, tile=128, **options)
    np.testing.assert_allclose(tiled, at_once, atol=1e-5)
    zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(160, 160), dtype="uint16")[:] = levels
    done = restore_file(
        sem, tmp_path / "a.zarr", tmp_path / "b.zarr", magnification=2, tile=128, **options
    )
    by_regions = done.pixels()[1]
    np.testing.assert_allclose(by_regions, at_once, atol=0.51 / 4095)
    assert done.exposure.rows.size == 3
    np.testing.assert_array_equal(np.rint(by_regions[6:8, 6:8] * 4095), 4000)


def test_outliers_come_back_in_a_result_of_any_magnification() -> None:
    found = Exposure(
        rows=np.array([2]), columns=np.array([5]), values=np.array([9.0]), usual=np.array([1.0])
    )
    result = np.zeros((24, 24))
    put = found.put(found.values, result, (slice(0, 24), slice(0, 24)), 3.0)
    assert np.argwhere(put).min(0).tolist() == [6, 15]
    assert np.count_nonzero(put) == 9
    part = found.put(found.values, result[7:12, 10:16], (slice(7, 12), slice(10, 16)), 3.0)
    np.testing.assert_array_equal(part, put[7:12, 10:16])


def test_the_command_names_outliers_and_noise(tmp_path: Path) -> None:
    _, noisy = square_wave(96)
    noisy[40, 50] = 5000
    tifffile.imwrite(tmp_path / "a.tif", noisy.astype(np.uint16))
    ran = aeanet(
        "restore", tmp_path / "a.tif", "--magnification", 1, "--out", tmp_path / "o",
        "--outliers", "replace",
    )  # fmt: skip
    assert ran.exit_code == 0
    assert "1 outlier, such as a hot or dead pixel" in ran.output
    assert "replaced." in ran.output
    noise = float(ran.output.split("range used (")[1].split()[0])
    assert noise == pytest.approx(8, rel=0.15)
    assert tifffile.imread(tmp_path / "o" / "a.tif")[40, 50] < 200
