"""Stacks in TIFF, uncompressed: as ImageJ writes them where they came from it, else OME-TIFF."""

import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from aeanet.io.pixel_size import LENGTHS, METRES, TIMES, tiff_resolution
from aeanet.io.quiet import quietly
from aeanet.io.stacks.blocks import block_writer
from aeanet.io.stacks.contents import Contents
from aeanet.io.stacks.tiff import IMAGEJ

_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_IMAGEJ_ORDER = "TZCYX"
_KEPT = ("fps", "loop", "max", "min", "mode", "Info", "Labels", "LUTs", "Ranges")  # of ImageJ
_ASCII = {"µm": "micron", "Å": "angstrom"}  # ImageJ's description has no other letters
_CLASSIC = 2**32 - 2**25  # bytes of values, beyond which a file is a BigTIFF


def create(path: Path, contents: Contents) -> None:
    """Make a file whose planes are 0. Of two that are made of equal contents all bytes agree."""
    of_imagej = contents.kind == IMAGEJ and contents.dtype.name in _IMAGEJ_TYPES
    in_order = contents.axes == "".join(axis for axis in _IMAGEJ_ORDER if axis in contents.axes)
    options = _imagej(contents) if of_imagej and in_order else _ome(contents)
    with quietly("tifffile"):  # it says that ImageJ's files beyond 4 GB describe one plane
        tifffile.imwrite(path, shape=contents.shape, photometric="minisblack", **options)


def opened(path: Path, _contents: Contents) -> AbstractContextManager[Any]:
    """Writes planes into a file that `create` made."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        start: Any = series.dataoffset
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    return block_writer(path, start, dtype)


def _ome(contents: Contents) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": contents.axes}

    # A name that does not change from one run to the next.
    facts = repr((contents.axes, contents.shape, contents.dtype.str, dict(contents.steps)))
    metadata["UUID"] = uuid.uuid5(uuid.NAMESPACE_URL, facts).urn

    # a step whose unit is neither a time along T nor a length elsewhere cannot be stated
    for axis, (size, unit) in contents.steps.items():
        name = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        if unit in (TIMES if axis == "T" else LENGTHS):
            metadata |= {name: size, f"{name}Unit": unit}

    # what the file that was read stated beside, if it did
    if contents.bits is not None:
        metadata["SignificantBits"] = contents.bits
    if contents.channels:
        metadata["Channel"] = {"Name": list(contents.channels)}
    if contents.metadata.get("name"):
        metadata["Name"] = contents.metadata["name"]

    # BigTIFF where offsets of 32 bits end; the size of a pixel again, for programs without OME
    return {
        "ome": True,
        "bigtiff": contents.planes * contents.plane_bytes > _CLASSIC,
        "dtype": contents.dtype.newbyteorder("<"),
        "metadata": metadata,
    } | tiff_resolution(contents.pixel_size)


def _imagej(contents: Contents) -> dict[str, Any]:
    """ImageJ has one unit for all lengths, and seconds."""
    # what ImageJ wrote of the stack itself, such as its display, goes on
    stated = contents.metadata
    metadata: dict[str, Any] = {"axes": contents.axes}
    metadata |= {name: stated[name] for name in _KEPT if name in stated}

    # the resolution is in pixels per this unit, so TIFF's own unit stays empty
    size = contents.pixel_size
    options: dict[str, Any] = {}
    if size is not None:
        metadata["unit"] = _ASCII.get(size.unit, size.unit)
        options = {"resolution": (1 / size.x, 1 / size.y), "resolutionunit": "NONE"}
    elif "unit" in stated:
        metadata["unit"] = stated["unit"]

    # there is one unit for all lengths, that of the pixels
    if "Z" in contents.steps:
        spacing, unit = contents.steps["Z"]
        if size is not None and unit in METRES:
            spacing *= METRES[unit] / METRES[size.unit]
        metadata["spacing"] = float(f"{spacing:.12g}")
    if "T" in contents.steps:
        metadata["finterval"] = contents.steps["T"].size

    # ImageJ's own byte order
    dtype = contents.dtype.newbyteorder(">")
    return {"imagej": True, "dtype": dtype, "metadata": metadata} | options
