"""Files of several planes as other programs write them, and what is said of those that are not
clear.
"""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import microscope_files as files
import numpy as np
import pytest
import rsciio.emd
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from aeanet.io.images import ImageError, PixelSize, read_image
from aeanet.io.stacks import AxesError, Stack, Step, find_stack, open_stack

VALUES = np.random.default_rng(2).integers(0, 65536, (2, 3, 10, 14)).astype(np.uint16)
VOLUME = VALUES[0]
NANOMETRES = {"Y": Step(4.0, "nm"), "X": Step(3.0, "nm")}
IN_TWO = {"resolution": (1 / 3, 1 / 4), "metadata": {"axes": "TZYX", "unit": "nm", "spacing": 30.0}}


def imagej(path: Path) -> None:
    tifffile.imwrite(path, VALUES, imagej=True, **IN_TWO)


def imagej_beyond_4_gb(path: Path) -> None:
    """ImageJ then describes the first plane alone."""
    tifffile.imwrite(path, VALUES, imagej=True, truncate=True, **IN_TWO)


def ome(path: Path, **options: Any) -> None:
    sizes = {"PhysicalSizeX": 3.0, "PhysicalSizeY": 4.0, "PhysicalSizeZ": 30.0}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    metadata = {"axes": "TZYX"} | sizes | units
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(VALUES, subifds=1, metadata=metadata, photometric="minisblack", **options)
        file.write(VALUES[..., ::2, ::2], subfiletype=1, photometric="minisblack", **options)


def compressed(path: Path) -> None:
    ome(path, compression="zlib", tile=(16, 16))


def ome_zarr(path: Path, version: str = "0.4") -> None:
    group: Any = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("fine", shape=VALUES.shape, dtype="u2", chunks=(1, 2, 5, 6))[:] = VALUES
    space = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 30.0, 4.0, 3.0]}]
    image = {
        "axes": [{"name": "t", "type": "time"}, *space],
        "datasets": [{"path": "fine", "coordinateTransformations": scale}],
        "version": version,
    }
    if version == "0.4":
        group.attrs["multiscales"] = [image]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.tif", imagej),
        ("a.tif", imagej_beyond_4_gb),
        ("a.ome.tif", ome),
        ("a.ome.tif", compressed),
        ("a.ome.zarr", ome_zarr),
        ("b.ome.zarr", lambda path: ome_zarr(path, "0.5")),
    ],
)
def test_axes_steps_and_values(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    with open_stack(tmp_path / name) as stack:
        assert (stack.axes, stack.shape, stack.dtype) == ("TZYX", VALUES.shape, np.uint16)
        assert stack.steps == NANOMETRES | {"Z": Step(30.0, "nm")}
        assert stack.pixel_size == PixelSize(3.0, 4.0, "nm")
        np.testing.assert_array_equal(np.asarray(stack), VALUES)
        np.testing.assert_array_equal(stack.plane(4), VALUES[1, 1])
        assert stack.name_of(4) == f"plane 5 (T 2, Z 2) of {tmp_path / name}"


@pytest.mark.parametrize(
    "key", [1, -1, (1, 2), (..., 3), (0, slice(1, 3), 2), slice(5, 5), (1, 0, 2, 3)]
)
def test_it_is_indexed_as_an_array(key: Any) -> None:
    stack = Stack.of_array(VALUES, "tzyx")
    np.testing.assert_array_equal(stack[key], VALUES[key])
    assert stack[key].shape == VALUES[key].shape
    assert (len(stack), stack.ndim, stack.planes) == (2, 4, 6)
    with pytest.raises(IndexError):
        stack.plane(6)


def test_dask_reads_what_it_computes() -> None:
    read = []

    class Counted:
        shape, dtype, ndim = VALUES.shape, VALUES.dtype, VALUES.ndim

        def __getitem__(self, key: Any) -> NDArray:
            read.append(key)
            return VALUES[key]

    lazy = Stack.of_array(Counted(), "TZYX").to_dask()
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype, lazy.chunksize) == (VALUES.shape, np.uint16, (1, 1, 10, 14))
    np.testing.assert_array_equal(lazy[1, 2].compute(), VALUES[1, 2])
    assert read == [(1, 2)]


def test_threads_of_dask_read_one_plane_at_a_time() -> None:
    """They share the file: compressed TIFF comes out damaged where two read it at once."""
    reading, most = [], []

    def read(number: int) -> NDArray:
        reading.append(number)
        time.sleep(0.002)
        most.append(len(reading))
        reading.remove(number)
        return VOLUME[number]

    lazy = Stack(Stack.of_array(VOLUME, "ZYX").contents, read).to_dask()
    with dask.config.set(scheduler="threads", num_workers=3):
        np.testing.assert_array_equal(lazy.compute(), VOLUME)
    assert most == [1, 1, 1]


def mrc(path: Path, values: NDArray, mode: int, order: str = "<", flags: bytes = b"") -> None:
    depth, height, width = values.shape
    grid = struct.pack(f"{order}10i", width, height, depth, mode, 0, 0, 0, width, height, depth)
    cell = (width * 3.0, height * 4.0, depth * 30.0, 90, 90, 90)
    head = bytearray((grid + struct.pack(f"{order}6f3i", *cell, 1, 2, 3)).ljust(1024, b"\0"))
    head[92:96] = struct.pack(f"{order}i", 64)  # bytes of an extended header
    head[152 : 152 + len(flags)] = flags
    head[212:214] = {"<": b"\x44\x44", ">": b"\x11\x11"}[order]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(bytes(head) + bytes(64) + data)


@pytest.mark.parametrize(
    ("mode", "kind"), [(0, "i1"), (0, "u1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")]
)
@pytest.mark.parametrize("order", "<>")
def test_mrc(tmp_path: Path, mode: int, kind: str, order: str) -> None:
    values = (VOLUME // 700).astype(kind)
    imod = struct.pack(f"{order}2I", 1146047817, 0) if kind == "u1" else b""
    mrc(tmp_path / "a.mrc", values, mode, order, imod)
    with open_stack(tmp_path / "a.mrc") as stack:
        assert (stack.axes, stack.dtype) == ("ZYX", np.dtype(kind))
        assert stack.steps == {
            axis: Step(size, "Å") for axis, size in zip("XYZ", (3.0, 4.0, 30.0), strict=True)
        }
        np.testing.assert_array_equal(np.asarray(stack), values)


def test_the_kinds_of_rosettasciio(tmp_path: Path) -> None:
    seconds = {"T": Step(0.5, "s")}
    dm3 = files.dm3(VOLUME, (3.0, 4.0), "nm", further=(0.5, "s"))
    (tmp_path / "a.dm3").write_bytes(dm3)
    (tmp_path / "a.dm4").write_bytes(files.dm3(VOLUME, (3.0, 4.0), "nm", 4, (0.5, "s")))
    scales = {"time": (0.5, "s"), "y": (4.0, "nm"), "x": (3.0, "nm")}
    axes = [
        {"name": name, "scale": scale, "units": unit, "offset": 0.0, "size": VOLUME.shape[index]}
        | {"navigate": name == "time", "index_in_array": index}
        for index, (name, (scale, unit)) in enumerate(scales.items())
    ]
    metadata = {"General": {"title": "grains"}, "Signal": {"signal_type": ""}}
    signal = {"data": VOLUME, "axes": axes, "metadata": metadata, "original_metadata": {}}
    rsciio.emd.file_writer(str(tmp_path / "a.emd"), signal)
    for name in ("a.dm3", "a.dm4", "a.emd"):
        with open_stack(tmp_path / name) as stack:
            assert (stack.axes, stack.steps) == ("TYX", NANOMETRES | seconds), name
            np.testing.assert_array_equal(np.asarray(stack), VOLUME)


def test_a_series_of_tia(tmp_path: Path) -> None:
    one = files.ser(VOLUME[0], (3e-9, 4e-9))
    start = len(one) - VOLUME[0].nbytes - 50 - 8 - 8
    element = one[start + 8 : -8]
    images = [element[:50] + plane[::-1].tobytes() for plane in VOLUME]
    head = bytearray(one[:start])
    head[14:22] = struct.pack("<2I", 3, 3)
    offsets = [start + 24 + index * len(images[0]) for index in range(3)]
    content = struct.pack("<3I", *offsets) + bytes(12) + b"".join(images)
    (tmp_path / "a.ser").write_bytes(bytes(head) + content)
    with open_stack(tmp_path / "a.ser", axes="TYX") as stack:
        assert stack.steps == NANOMETRES
        np.testing.assert_array_equal(np.asarray(stack), VOLUME)
    with pytest.raises(AxesError, match="--axes ZYX"):
        open_stack(tmp_path / "a.ser")


def test_a_folder_of_numbered_slices(tmp_path: Path) -> None:
    for number, plane in enumerate(VOLUME):
        Image.fromarray(plane).save(tmp_path / f"s{8 + number}.png")  # 8, 9, 10
    (tmp_path / "notes.txt").write_text("of the microscope")
    (tmp_path / "._s8.png").write_bytes(b"of macOS, beside s8.png")
    with open_stack(tmp_path, axes="ZYX") as stack:
        np.testing.assert_array_equal(np.asarray(stack), VOLUME)
    with pytest.raises(AxesError, match="holds 3 images"):
        open_stack(tmp_path)
    Image.fromarray(VOLUME[0][:5]).save(tmp_path / "s9.png")
    with open_stack(tmp_path, axes="ZYX") as stack, pytest.raises(ImageError) as error:
        stack.plane(1)
    assert str(error.value) == (
        f"plane 2 of {tmp_path} has 5 x 14 values, wanted 10 x 14 as in others."
    )


def test_pages_that_are_no_planes(tmp_path: Path) -> None:
    """A thumbnail, a label of another size, a copy in colour with a scale bar, and a mask."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        plain: Any = {"metadata": None, "contiguous": False}
        for plane in VOLUME:
            file.write(plane, photometric="minisblack", **plain)
        file.write(VOLUME[0][::2, ::2], photometric="minisblack", **plain)
        file.write(VOLUME[0][:3], photometric="minisblack", **plain)
        file.write(np.zeros((10, 14, 3), np.uint8), photometric="rgb", **plain)
        file.write(VOLUME[0] > 9, photometric="minisblack", subfiletype=4, **plain)
    with open_stack(tmp_path / "a.tif", axes="ZYX") as stack:
        np.testing.assert_array_equal(np.asarray(stack), VOLUME)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (None, "holds 3 images (14 x 10, 14 x 10, 14 x 10) and does not say what they are"),
        ("XYZ", "the axes of {} are 'XYZ', wanted letters of T, Z and C, each once, then YX"),
        ("ZZYX", "wanted letters of T, Z and C, each once"),
        ("TZYX", "4 axes, TZYX, do not fit to the 3 x 10 x 14 values of {}"),
        ("", "the axes of {} are ''"),
    ],
)
def test_axes_that_cannot_be_told(tmp_path: Path, axes: str | None, words: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", metadata=None)
    with pytest.raises(AxesError) as error:
        open_stack(path, axes=axes)
    assert words.format(path) in str(error.value)
    with open_stack(path, axes="zyx") as stack:
        np.testing.assert_array_equal(np.asarray(stack), VOLUME)


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    imagej_beyond_4_gb(path)
    path.write_bytes(path.read_bytes()[:-150])
    with pytest.raises(ImageError, match="the file ends before the last of its 6 images"):
        open_stack(path)

    mrc(tmp_path / "a.mrc", VOLUME, 6)
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(content[:-150])
    with open_stack(tmp_path / "a.mrc") as stack:
        np.testing.assert_array_equal(stack.plane(1), VOLUME[1])
        with pytest.raises(ImageError) as error:
            stack.plane(2)
    assert str(error.value).startswith(f"plane 3 of {tmp_path / 'a.mrc'} cannot be read")
    assert "the file ends before it" in str(error.value)

    with tifffile.TiffWriter(path) as file:
        for plane in VOLUME:
            file.write(plane, photometric="minisblack", metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as file:
        third = file.pages[2].offset
    path.write_bytes(path.read_bytes()[:third])
    with pytest.raises(ImageError, match="its list of pages ends after 2"):
        open_stack(path, axes="ZYX")

    # of which the first plane alone would be taken for the image
    tifffile.imwrite(path, VOLUME, ome=True, metadata={"axes": "ZYX"}, contiguous=False)
    path.write_bytes(path.read_bytes()[:third])
    with pytest.raises(ImageError, match="its list of pages ends after"):
        read_image(path)


def test_an_axis_of_one_plane_without_a_name_is_none(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[:1])
    assert find_stack(tmp_path / "a.tif") is None
    with open_stack(tmp_path / "a.tif") as stack:
        assert (stack.axes, stack.planes) == ("YX", 1)
        np.testing.assert_array_equal(stack.plane(0), VOLUME[0])


def test_an_image_alone_is_one_plane(tmp_path: Path) -> None:
    Image.fromarray(VOLUME[0]).save(tmp_path / "a.png")
    (tmp_path / "a.dm3").write_bytes(files.dm3(VOLUME[0], (3.0, 4.0), "nm"))
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0])
    for name in ("a.png", "a.dm3", "a.tif"):
        with open_stack(tmp_path / name) as stack:
            assert (stack.axes, stack.planes) == ("YX", 1)
            np.testing.assert_array_equal(np.asarray(stack), VOLUME[0])
    with pytest.raises(ImageError, match="is no stack of a known kind"):
        open_stack(tmp_path / "a.txt")


def named(path: Path, axes: str, *names: str) -> Path:
    """VOLUME as OME-TIFF, with channels of these names."""
    metadata = {"axes": axes, "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, VOLUME, ome=True, metadata=metadata, photometric="minisblack")
    return path


@pytest.mark.parametrize("wanted", ["se", "1"])
def test_a_stack_without_an_axis_of_channels_is_its_channel(tmp_path: Path, wanted: str) -> None:
    stack = find_stack(named(tmp_path / "a.tif", "ZYX", "SE"), channel=wanted)
    assert stack is not None
    with stack:
        assert stack.axes == "ZYX"
        np.testing.assert_array_equal(np.asarray(stack), VOLUME)


def test_no_such_channel_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, close = [], Stack.close

    def closing(stack: Stack) -> None:
        closed.append(stack.path)
        close(stack)

    monkeypatch.setattr(Stack, "close", closing)
    path = named(tmp_path / "a.tif", "ZYX", "SE")
    for wanted in ("TE", "2"):
        with pytest.raises(AxesError, match=r"holds 1 channel \(SE\); none"):
            find_stack(path, channel=wanted)
    assert closed == [path, path]

    # who says that the axis is Z says that its planes are no channels, so no name is of one
    path = named(tmp_path / "b.tif", "CYX", "SE", "BSE", "TE")
    with pytest.raises(AxesError, match="holds 1 channel; none"):
        find_stack(path, axes="ZYX", channel="SE")
