"""Stacks that are restored: one brightness, runs that are killed or shared, damaged planes."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
import torch.distributed as dist
import zarr
from processes import run_ranks
from toy_stacks import Identity, restored, volume, write_volume
from toys import lively_network

import aeanet as package
from aeanet.data.synthetic import simulate_image
from aeanet.inference.brightness import survey
from aeanet.inference.exposure import find_exposure
from aeanet.inference.files import restore_file
from aeanet.inference.prediction import reader
from aeanet.io.images import ImageError
from aeanet.io.images.micrograph import fraction
from aeanet.io.stacks import Stack, Step, open_stack
from aeanet.networks.base import Network


def test_one_brightness_or_one_for_each_plane(tmp_path: Path) -> None:
    """With one for each plane, each is what it would be in a file of its own. With one for all, the
    network is shown the same grey of each plane as the same grey.
    """
    values, model = volume(planes=3), Identity(0.01, fits_range=True)
    tifffile.imwrite(tmp_path / "a.tif", values, metadata={"axes": "ZYX"}, photometric="minisblack")
    options: Any = {"magnification": 2.0}
    restored(model, tmp_path / "a.tif", tmp_path / "each.tif", per_plane=True, **options)
    for number, plane in enumerate(values):
        tifffile.imwrite(tmp_path / "one.tif", plane)
        restore_file(model, tmp_path / "one.tif", tmp_path / "alone.tif", **options)
        each = tifffile.imread(tmp_path / "each.tif")[number]
        np.testing.assert_array_equal(each, tifffile.imread(tmp_path / "alone.tif"))

    shown = []

    class Seen(Identity):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.shape[2:] == values.shape[1:]:  # not what the memory is measured on
                shown.append(images[0, 0].numpy().astype(np.float64))
            return super().forward(images)

    for per_plane in (False, True):
        shown.clear()
        out = tmp_path / f"{per_plane}.tif"
        restored(Seen(fits_range=True), tmp_path / "a.tif", out, per_plane=per_plane)
        lines = [
            np.polyfit(plane.ravel().astype(float), seen.ravel(), 1)
            for plane, seen in zip(values, shown, strict=True)
        ]
        spread = np.ptp(lines, axis=0) / np.abs(np.mean(lines, axis=0))
        assert (spread.max() < 1e-3) != per_plane, spread


def test_channels_have_a_brightness_each(tmp_path: Path) -> None:
    values = np.stack([volume(1), volume(2) // 50], 1)
    metadata = {"axes": "ZCYX", "Channel": {"Name": ["SE", "BSE"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata=metadata, photometric="minisblack")
    options: Any = {"magnification": 1.0}
    with open_stack(tmp_path / "a.ome.tif") as stack:
        both = package.restore_stack(Identity(fits_range=True), stack, **options)
        for index, name in enumerate(("SE", "bse")):
            alone = package.restore_stack(Identity(fits_range=True), stack.channel(name), **options)
            assert (alone.axes, both.axes) == ("ZYX", "ZCYX")
            np.testing.assert_array_equal(alone[2], both[2, index])
        with pytest.raises(ValueError, match="holds 2 channels"):
            stack.channel("TE")


def test_restoring_is_lazy_and_takes_dask() -> None:
    values = volume()
    stack = Stack.of_array(values, "ZYX", {"Z": Step(30.0, "nm"), "X": Step(2.0, "nm")})
    read = []
    reader = stack._read
    stack._read = lambda plane: read.append(plane) or reader(plane)
    result = package.restore_stack(Identity(0.25), stack, magnification=2)
    assert (result.axes, result.shape, result.dtype) == ("ZYX", (5, 80, 96), np.uint16)
    assert result.steps == {"Z": Step(30.0, "nm"), "X": Step(1.0, "nm")}
    assert read == []
    one = result[1]
    assert sorted(read) == [0, 1, 1, 2, 3, 4]  # all once for the brightness

    lazy = package.restore_stack(Identity(0.25), da.from_array(values), axes="ZYX", magnification=2)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy[1].compute(), one)
    with pytest.raises(ValueError, match="give them, such as axes='ZYX'"):
        package.restore_stack(Identity(), values)
    with pytest.raises(TypeError, match=r"the path 'a\.tif': open it with aeanet\.open_stack"):
        package.restore_stack(Identity(), "a.tif")


def content(path: Path) -> dict[str, bytes]:
    """All bytes of a file or folder."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


KINDS = ("a.tif", "a.ome.zarr", "a.mrc", "slices")


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Killed when a plane is written, when one is listed, and in the middle of a line of the list.
    A run that asks for something else begins anew.
    """
    source = write_volume(tmp_path, name, volume(3))
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    model = Identity(0.1)
    axes = "ZYX" if name == "slices" else None
    whole, target = tmp_path / "whole" / name, tmp_path / "parts" / name
    counts: list[int] = []
    restored(model, source, whole, axes=axes, on_plane=lambda done, _: counts.append(done))
    assert counts == [0, 1, 2, 3, 4, 5]

    for stop in (1, 2, 4):
        process = multiprocessing.get_context("fork").Process(
            target=stopped_main, args=(model, source, target, axes, stop)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not target.exists()
    listed = next((tmp_path / "parts" / f".{name}.unfinished").glob("planes-*"))
    listed.write_bytes(listed.read_bytes()[:-7])  # as if it were cut

    counts.clear()
    records = restored(
        model, source, target, axes=axes, on_plane=lambda done, _: counts.append(done)
    ).records
    assert counts == [3, 4, 5]
    assert len(records) == 5
    assert content(target) == content(whole)
    assert [entry.name for entry in (tmp_path / "parts").iterdir()] == [name]

    process = multiprocessing.get_context("fork").Process(
        target=stopped_main, args=(Identity(0.2), source, target, axes, 3)
    )
    process.start()
    process.join()
    counts.clear()
    restored(model, source, target, axes=axes, on_plane=lambda done, _: counts.append(done))
    assert counts[0] == 0
    assert content(target) == content(whole)


def test_a_chunk_that_was_changed_after_a_kill_is_restored(tmp_path: Path) -> None:
    """The files of the values are in a folder within a Zarr image."""
    model, values = Identity(0.1), volume(3)
    source = write_volume(tmp_path, "a.ome.zarr", values)
    target = tmp_path / "b.ome.zarr"
    process = multiprocessing.get_context("fork").Process(
        target=stopped_main, args=(model, source, target, None, 3)
    )
    process.start()
    process.join()
    assert (tmp_path / ".b.ome.zarr.unfinished").is_dir()

    # planes that are done by then become others, in files that are not at the top
    changed = values[::-1].copy()
    zarr.open_array(source / "0", mode="r+")[:] = changed
    restored(model, source, target)
    whole = write_volume(tmp_path, "whole.ome.zarr", changed)
    restored(model, whole, tmp_path / "c.ome.zarr")
    again, fresh = (zarr.open_array(tmp_path / f"{name}.ome.zarr" / "0")[:] for name in "bc")
    np.testing.assert_array_equal(again, fresh)


def stopped_main(model: Network, source: Path, target: Path, axes: str | None, stop: int) -> None:
    """A run that is killed after some planes."""

    def kill(done: int, _total: int) -> None:
        if done >= stop:
            os.kill(os.getpid(), signal.SIGKILL)

    restored(model, source, target, axes=axes, on_plane=kill)


def restore_all(folder: Path, group: Any = None) -> None:
    """Two files, by whole planes and by tiles."""
    for tile in (None, 44):
        for name in ("a.tif", "a.ome.zarr"):
            target = folder / ("one" if group is None else "two") / f"{tile}-{name}"
            options: Any = {"magnification": 1.0, "tile": tile, "group": group}
            restored(lively_network(), folder / name, target, **options)


def shared_main(rank: int, folder: Path, threads: int) -> None:
    torch.set_num_threads(threads)  # another number may round otherwise
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    restore_all(folder, dist.group.WORLD)
    dist.destroy_process_group()


def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    """Five planes: two for each, and one that both share, by its tiles if there are any."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    for name in ("a.tif", "a.ome.zarr"):
        write_volume(tmp_path, name, volume(4, side=64))
    restore_all(tmp_path)
    run_ranks(shared_main, (tmp_path, torch.get_num_threads()), 2)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert len(one) == 16  # two TIFFs, and two Zarrs of two files of metadata and five planes
    assert [one[name] for name in sorted(one)] == [two[name] for name in sorted(two)]


def test_attention_over_all_planes(tmp_path: Path) -> None:
    """It is the same by whole planes and by tiles, and another than that over each plane."""
    path = tmp_path / "a.tif"
    values = volume(6, planes=2, side=64)
    tifffile.imwrite(path, values, metadata={"axes": "ZYX"}, photometric="minisblack")
    results = {}
    for keys, tile in (("plane", None), ("stack", None), ("stack", 44)):
        target = tmp_path / f"{keys}-{tile}.tif"
        options: Any = {"attend_to": keys, "tile": tile, "magnification": 1.0}
        restored(lively_network(), path, target, **options)
        results[keys, tile] = tifffile.imread(target).astype(float)
    rounding = np.abs(results["stack", 44] - results["stack", None]).mean()
    change = np.abs(results["stack", None] - results["plane", None]).mean()
    assert rounding < 0.01  # of 65,535 grey levels
    assert change > 30 * rounding + 0.1


def test_damaged_planes(tmp_path: Path) -> None:
    """One is named and nothing is written, or it is left empty and the others are as without it."""
    values = volume(5).astype(np.float32)
    values[3, 5, 6] = np.nan
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(source, values, metadata={"axes": "ZYX"}, photometric="minisblack")
    target.write_bytes(b"before")
    with pytest.raises(ImageError) as error:
        restored(Identity(), source, target)
    assert str(error.value) == (
        f"plane 4 of {source} holds NaN, infinite or complex values; all pixels must be finite. "
        "--skip-damaged leaves such planes empty."
    )
    assert target.read_bytes() == b"before"
    done = restored(Identity(), source, target, skip_damaged=True)
    assert list(done.damaged) == [3]
    result = tifffile.imread(target)
    assert not result[3].any()
    np.testing.assert_allclose(result[[0, 1, 2, 4]], values[[0, 1, 2, 4]], rtol=1e-5)

    mrc = write_volume(tmp_path, "a.mrc", volume(5))
    mrc.write_bytes(mrc.read_bytes()[:-9])
    with pytest.raises(ImageError, match=r"plane 5 of .* the file ends before it"):
        restored(Identity(), mrc, tmp_path / "b.mrc")


@pytest.mark.parametrize("damaged", [(), (0, 1, 20)])
def test_the_brightness_of_many_planes(damaged: tuple[int, ...]) -> None:
    """It is that of all planes laid beside each other, up to 5 % as every third plane is sampled,
    also if some of these are damaged.
    """
    values = np.concatenate([volume(5).astype(np.float32) + 400 * part for part in range(8)])
    good = np.delete(values, damaged, axis=0)
    stack = values.copy()
    stack[list(damaged), 0, 0] = np.nan
    found = survey(Stack.of_array(stack, "ZYX"), fits_range=True)
    assert list(found.damaged) == list(damaged)
    (brightness,) = found.channels
    assert (brightness.low, brightness.high) == (good.min(), good.max())

    laid = fraction(np.concatenate(list(good)), brightness.low, brightness.high)
    whole = find_exposure(reader(laid.astype(np.float32)), laid.shape)
    assert brightness.shown is not None
    np.testing.assert_allclose(brightness.shown, (whole.low, whole.high, whole.used), atol=0.05)


def test_threads_read_one_plane_at_a_time() -> None:
    """Files have one position, which two readers would move."""
    values, reading = volume(5), []

    def read(number: int) -> np.ndarray:
        reading.append(number)
        time.sleep(0.005)
        assert reading.pop() == number, "another plane was read at the same time"
        return values[number]

    stack = Stack(Stack.of_array(values, "ZYX").contents, read)
    with ThreadPoolExecutor(4) as pool:
        planes = list(pool.map(stack.plane, [0, 1, 2, 3, 4] * 4))
    np.testing.assert_array_equal(np.stack(planes[:5]), values)


def test_an_information_bar_is_left_out(tmp_path: Path) -> None:
    import cv2

    bar = np.zeros((24, 160), np.uint8)
    bar = cv2.putText(bar, "20.0 kV  x 500", (8, 17), cv2.FONT_HERSHEY_PLAIN, 1, 255)
    slices = [simulate_image(seed, (104, 160)).lr * 200 for seed in (7, 8)]
    values = np.stack([np.vstack([one, bar]).astype(np.uint8) for one in slices])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert restored(Identity(), path, tmp_path / "b.tif").bar == 24
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), values[:, :104])
    assert restored(Identity(), path, tmp_path / "b.tif", keep_bar=True).bar == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), values)


def test_a_folder_that_is_no_result_is_kept(tmp_path: Path) -> None:
    source = write_volume(tmp_path, "slices", volume())
    target = tmp_path / "out" / "slices"
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("all my work")
    with pytest.raises(ImageError, match="it is a folder, and not that of an image"):
        restored(Identity(), source, target, axes="ZYX")
    assert (target / "thesis.txt").read_text() == "all my work"
    (target / "thesis.txt").rename(target / "2.png")
    restored(Identity(), source, target, axes="ZYX")
    assert len(list(target.iterdir())) == 5
