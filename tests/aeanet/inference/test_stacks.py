"""Stacks that are restored: what becomes of axes, units and values, one brightness, and runs that
are killed.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from toys import lively_network

import aeanet as package
from aeanet.data.synthetic import simulate_image
from aeanet.inference.files import restore_file
from aeanet.inference.stack_files import RestoredStack, restore_stack_file
from aeanet.io.images import ImageError
from aeanet.io.ome_zarr import create_zarr
from aeanet.io.stacks import Stack, Step, open_stack
from aeanet.networks.base import Network


class Identity(Network):
    """Gives each image back; `shift` is added to it."""

    magnification = 1.0

    def __init__(self, shift: float = 0.0, fits_range: bool = False) -> None:
        super().__init__({"name": "identity"})
        self.shift = torch.nn.Parameter(torch.tensor(shift))
        self.fits_range = fits_range

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.shift


def restored(model: Network, path: Path, target: Path, **options: Any) -> RestoredStack:
    axes = options.pop("axes", None)
    with open_stack(path, axes=axes) as stack:
        return restore_stack_file(model, stack, target, **options)


SIZES = st.tuples(*[st.integers(2, 3)] * 3, st.integers(5, 20), st.integers(5, 20))


@given(
    sizes=SIZES,
    axes=st.sampled_from(["ZYX", "TYX", "CYX", "TZYX", "ZCYX", "TZCYX", "TCYX"]),
    dtype=st.sampled_from(["u1", "u2", "i2", "f4"]),
    kind=st.sampled_from(["ome", "imagej", "zarr 0.4", "zarr 0.5"]),
    step=st.sampled_from([(2.5, "nm"), (0.125, "µm"), (1.5, "Å")]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_axes_units_and_values_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: tuple[int, ...],
    axes: str,
    dtype: str,
    kind: str,
    step: tuple[float, str],
    seed: int,
) -> None:
    """Written by other programs, restored at 1x by a network that changes nothing, read by them."""
    folder = tmp_path_factory.mktemp("trip")
    lengths = dict(zip("TZCYX", sizes, strict=True))
    shape = tuple(lengths[axis] for axis in axes)
    random = np.random.default_rng(seed)
    values = (random.random(shape) * 200).astype(dtype)
    if dtype == "i2" and kind == "imagej":
        values = values.astype("u2")
    name, write, read = {
        "ome": ("a.ome.tif", write_ome, read_ome),
        "imagej": ("a.tif", write_imagej, read_imagej),
        "zarr 0.4": ("a.ome.zarr", write_zarr("0.4"), read_zarr),
        "zarr 0.5": ("a.ome.zarr", write_zarr("0.5"), read_zarr),
    }[kind]
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    write(folder / "in" / name, values, axes, step)
    restored(Identity(), folder / "in" / name, folder / "out" / name)
    assert sorted(file.name for file in (folder / "out").iterdir()) == [name]
    before, after = read(folder / "in" / name), read(folder / "out" / name)
    assert after[:-1] == before[:-1]
    assert after[-1].dtype == before[-1].dtype
    np.testing.assert_allclose(after[-1], before[-1], rtol=2e-6, atol=1e-4 if dtype == "f4" else 0)


def write_ome(path: Path, values: NDArray, axes: str, step: tuple[float, str]) -> None:
    size, unit = step
    metadata: dict[str, Any] = {"axes": axes}
    for axis in "XYZ":
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    metadata |= {"TimeIncrement": 0.25, "TimeIncrementUnit": "s"}
    if "C" in axes:
        count = values.shape[axes.index("C")]
        metadata["Channel"] = {"Name": [f"detector {index}" for index in range(count)]}
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata=metadata)


def read_ome(path: Path) -> tuple[Any, ...]:
    with tifffile.TiffFile(path) as file:
        series, stated = file.series[0], tifffile.xml2dict(file.ome_metadata)
        pixels = stated["OME"]["Image"]["Pixels"]
        facts = {
            name: value
            for name, value in pixels.items()
            if name.startswith(("PhysicalSize", "TimeIncrement", "Size", "Dimension"))
        }
        channels = pixels["Channel"]
        channels = channels if isinstance(channels, list) else [channels]
        names = [channel.get("Name") for channel in channels]
        return series.axes, series.shape, facts, names, series.asarray()


def write_imagej(path: Path, values: NDArray, axes: str, step: tuple[float, str]) -> None:
    size, unit = step
    metadata = {"axes": axes, "unit": "micron" if unit == "µm" else unit, "spacing": size}
    metadata |= {"finterval": 0.25, "Labels": [f"s{n}" for n in range(values[..., 0, 0].size)]}
    axes_of_imagej = "".join(axis for axis in "TZCYX" if axis in axes)
    assert axes == axes_of_imagej
    tifffile.imwrite(path, values, imagej=True, resolution=(1 / size, 1 / size), metadata=metadata)


def read_imagej(path: Path) -> tuple[Any, ...]:
    with tifffile.TiffFile(path) as file:
        series, stated = file.series[0], dict(file.imagej_metadata or {})
        resolution = file.pages.first.resolution
        return series.axes, series.shape, stated, resolution, series.asarray()


def write_zarr(version: str) -> Callable[[Path, NDArray, str, tuple[float, str]], None]:
    names = {"nm": "nanometer", "µm": "micrometer", "Å": "angstrom"}

    def write(path: Path, values: NDArray, axes: str, step: tuple[float, str]) -> None:
        size, unit = step
        group: Any = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
        chunks = tuple(max(1, length // 2) for length in values.shape)
        group.create_array("0", shape=values.shape, dtype=values.dtype, chunks=chunks)[:] = values
        described = []
        for axis in axes.lower():
            entry = {"name": axis, "type": {"t": "time", "c": "channel"}.get(axis, "space")}
            if axis != "c":
                entry["unit"] = "second" if axis == "t" else names[unit]
            described.append(entry)
        scale = [1.0 if axis == "C" else 0.25 if axis == "T" else size for axis in axes]
        transformations = [{"type": "scale", "scale": scale}]
        image: Any = {
            "axes": described,
            "datasets": [{"path": "0", "coordinateTransformations": transformations}],
        }
        if version == "0.4":
            group.attrs["multiscales"] = [image | {"version": version}]
        else:
            group.attrs["ome"] = {"version": version, "multiscales": [image]}

    return write


def read_zarr(path: Path) -> tuple[Any, ...]:
    group: Any = zarr.open_group(path, mode="r")
    ome = group.attrs.get("ome", group.attrs)
    image = ome["multiscales"][0]
    version = ome.get("version", image.get("version"))
    scale = image["datasets"][0]["coordinateTransformations"]
    return group.metadata.zarr_format, version, image["axes"], scale, np.asarray(group["0"])


def volume(seed: int = 0, planes: int = 5, side: int = 40) -> NDArray[np.uint16]:
    """Slices of a pattern whose exposure changes from slice to slice."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, : side + 8]
    pattern = 0.2 * np.sin(x / 3) * np.cos(y / 5)
    slices = [
        0.3 + 0.02 * number + pattern + random.normal(0, 0.02, pattern.shape)
        for number in range(planes)
    ]
    return np.rint(np.clip(slices, 0, 1) * 20000).astype(np.uint16)


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
    array = pytest.importorskip("dask.array")
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

    lazy = package.restore_stack(
        Identity(0.25), array.from_array(values), axes="ZYX", magnification=2
    )
    assert isinstance(lazy, array.Array)
    np.testing.assert_array_equal(lazy[1].compute(), one)
    with pytest.raises(ValueError, match="wanted letters of T, Z and C"):
        package.restore_stack(Identity(), values)


def write_volume(folder: Path, name: str, values: NDArray) -> Path:
    """A volume in a file of the kind that its name says."""
    path = folder / name
    if name.endswith(".zarr"):
        chunks = (1, *values.shape[1:])
        create_zarr(path, "ZYX", values.shape, values.dtype, chunks, {"Z": (30.0, "nm")})
        zarr.open_array(path / "0", mode="r+")[:] = values
    elif name.endswith(".mrc"):
        path.write_bytes(mrc_of(values))
    elif name.endswith(".tif"):
        metadata = {"axes": "ZYX", "spacing": 30.0, "unit": "nm"}
        tifffile.imwrite(path, values, imagej=True, metadata=metadata)
    else:
        path.mkdir()
        for number, plane in enumerate(values):
            Image.fromarray(plane).save(path / f"{number}.png")
    return path


def mrc_of(values: NDArray[np.uint16]) -> bytes:
    depth, height, width = values.shape
    size = np.array([width, height, depth, 6, 0, 0, 0, width, height, depth], "<i4").tobytes()
    cell = np.array([2.0 * width, 2.0 * height, 30.0 * depth, 90, 90, 90], "<f4").tobytes()
    head = (size + cell + np.array([1, 2, 3], "<i4").tobytes()).ljust(1024, b"\0")
    return head + values.astype("<u2").tobytes()


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


def shared_main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
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
    mp.spawn(shared_main, (tmp_path,), nprocs=2)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert len(one) > 20
    assert [one[name] for name in sorted(one)] == [two[name] for name in sorted(two)]


def test_attention_over_all_planes(tmp_path: Path) -> None:
    """By whole planes and by tiles alike. Among equal planes it is as attention over each of them;
    among others it is not.
    """
    model, values = lively_network(), volume(6, planes=2, side=64)
    same = np.stack([values[0]] * 2)
    for name, planes in {"two": values, "same": same}.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, planes, metadata={"axes": "ZYX"}, photometric="minisblack")
        for keys in ("plane", "stack"):
            for tile in (None, 44):
                target = tmp_path / f"{name}-{keys}-{tile}.tif"
                options: Any = {"attend_to": keys, "tile": tile, "magnification": 1.0}
                restored(model, path, target, **options)

    def result(name: str) -> NDArray:
        return tifffile.imread(tmp_path / f"{name}.tif").astype(float)

    np.testing.assert_allclose(result("same-stack-None"), result("same-plane-None"), atol=2)
    np.testing.assert_allclose(result("two-stack-44"), result("two-stack-None"), atol=2)
    assert np.abs(result("two-stack-None") - result("two-plane-None")).max() > 20


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
