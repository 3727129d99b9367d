"""Axes, units and values of stacks come back, as other programs write and read them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toy_stacks import Identity, restored

TYPES = ["u1", "u2", "i2", "f4"]


@dataclass(frozen=True)
class Trip:
    """A stack as another program writes it."""

    shape: tuple[int, ...]
    axes: str
    dtype: str
    kind: str
    step: tuple[float, str]
    seed: int

    @property
    def name(self) -> str:
        return {"ome": "a.ome.tif", "imagej": "a.tif"}.get(self.kind, "a.ome.zarr")

    def make(self, folder: Path) -> tuple[Path, Path]:
        """Write it, restore it at 1x by a network that changes nothing, and give both files."""
        values = (np.random.default_rng(self.seed).random(self.shape) * 200).astype(self.dtype)
        source, target = folder / "in" / self.name, folder / "out" / self.name
        source.parent.mkdir()
        target.parent.mkdir()
        write: Any = {"ome": write_ome, "imagej": write_imagej}
        version = self.kind.removeprefix("zarr ")
        write.get(self.kind, write_zarr(version))(source, values, self.axes, self.step)
        restored(Identity(), source, target)
        assert [file.name for file in target.parent.iterdir()] == [self.name]
        return source, target


@st.composite
def trips(draw: st.DrawFn) -> Trip:
    lengths = dict(zip("TZC", draw(st.tuples(*[st.integers(2, 3)] * 3)), strict=True))
    lengths |= {"Y": draw(st.integers(5, 20)), "X": draw(st.integers(5, 20))}
    axes = draw(st.sampled_from(["ZYX", "TYX", "CYX", "TZYX", "ZCYX", "TZCYX", "TCYX"]))
    kind = draw(st.sampled_from(["ome", "imagej", "zarr 0.4", "zarr 0.5"]))
    dtype = draw(st.sampled_from(["u1", "u2", "f4"] if kind == "imagej" else TYPES))
    step = draw(st.sampled_from([(2.5, "nm"), (0.125, "µm"), (1.5, "Å")]))
    shape = tuple(lengths[axis] for axis in axes)
    return Trip(shape, axes, dtype, kind, step, draw(st.integers(0, 2**16)))


@given(trip=trips())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_axes_units_and_values_come_back(
    tmp_path_factory: pytest.TempPathFactory, trip: Trip
) -> None:
    source, target = trip.make(tmp_path_factory.mktemp("trip"))
    read = {"ome": read_ome, "imagej": read_imagej}.get(trip.kind, read_zarr)
    check_alike(trip, read(source), read(target))


@given(trip=trips())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_as_bioio_and_ome_zarr_read_them(
    tmp_path_factory: pytest.TempPathFactory, trip: Trip
) -> None:
    for package in ("bioio", "bioio_ome_tiff", "bioio_tifffile", "bioio_ome_zarr", "ome_zarr"):
        # in no extra: they bring many packages, of which pip takes very long to choose the versions
        pytest.importorskip(package, reason=f"{package} is not installed: other readers of stacks")
    source, target = trip.make(tmp_path_factory.mktemp("trip"))
    check_alike(trip, read_bioio(source, trip.kind), read_bioio(target, trip.kind))
    if trip.name.endswith(".zarr"):
        check_alike(trip, read_ome_zarr(source), read_ome_zarr(target))


def check_alike(trip: Trip, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    """All that is read is the same; values that went through pixels up to rounding."""
    assert after[:-1] == before[:-1]
    assert after[-1].dtype == before[-1].dtype
    tolerance = 1e-4 if trip.dtype == "f4" else 0
    np.testing.assert_allclose(after[-1], before[-1], rtol=2e-6, atol=tolerance)


def read_bioio(path: Path, kind: str) -> tuple[Any, ...]:
    from importlib import import_module

    from bioio import BioImage

    reader = {"ome": "bioio_ome_tiff", "imagej": "bioio_tifffile"}.get(kind, "bioio_ome_zarr")
    image = BioImage(path, reader=import_module(reader).Reader)
    sizes = tuple(image.physical_pixel_sizes)
    names = image.channel_names
    return image.dims.order, image.shape, sizes, image.time_interval, names, image.data


def read_ome_zarr(path: Path) -> tuple[Any, ...]:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    (node,) = list(Reader(parse_url(path))())
    stated = {name: node.metadata.get(name) for name in ("axes", "coordinateTransformations")}
    return stated, np.asarray(node.data[0])


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
    unit = {"µm": "micron", "Å": "angstrom"}.get(unit, unit)
    metadata = {"axes": axes, "unit": unit, "spacing": size}
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
