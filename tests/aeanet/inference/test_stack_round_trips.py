"""Axes, units and values of stacks come back, as other programs write and read them."""

from collections.abc import Callable
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
