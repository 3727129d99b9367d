"""OME-Zarr images 0.4 and 0.5 (ngff.openmicroscopy.org), and plain Zarr arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeanet.io.images.micrograph import ImageError
from aeanet.io.images.tiff import MOST_PIXELS_PER_BYTE
from aeanet.io.pixel_size import PixelSize, short_unit

VERSION = "0.5"  # of what is written, unless it is asked for another
# An attribute of aeanet: OME-Zarr, unlike OME-TIFF, has none for the bits of the values.
_BITS = "significant_bits"
ZARR_METADATA = {"zarr.json", ".zgroup", ".zarray"}
_UNITS = {
    "pm": "picometer",
    "Å": "angstrom",
    "nm": "nanometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "ns": "nanosecond",
    "µs": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
_LARGE = 2**25  # pixels
_TYPES = {"t": "time", "c": "channel"}  # of axes; others are of space


@dataclass(frozen=True)
class ZarrImage:
    """The finest level of an OME-Zarr image, or a Zarr array.

    Attributes:
        array: of Zarr.
        version: of OME-Zarr; empty for a Zarr array.
        axes: their names, small letters; empty where none are stated.
        scale: of each axis; empty where none are stated.
        units: of each axis, None where it has none.
        bits: of an integer that the values use.
        omero: how its channels are shown, with their names.
        name: of the image.
    """

    array: Any
    version: str = ""
    axes: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    bits: int | None = None
    omero: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def pixel_size(self) -> PixelSize | None:
        """Of the last two axes. Where only one of them has a unit, it is that of both."""
        if not self.scale or len(self.units) < 2:
            return None
        y, x = self.units[-2:]
        return PixelSize.of(self.scale[-1], self.scale[-2], x or y, y)


def check_folder(path: Path) -> None:
    """Raise ImageError unless `path` is a folder that holds Zarr's metadata."""
    try:
        here = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read as a Zarr folder: {error.strerror or error}."
        ) from error
    if not here & ZARR_METADATA:
        raise ImageError(
            f"{path} holds no Zarr image: none of the files {', '.join(sorted(ZARR_METADATA))} is "
            "in it."
        )


def open_zarr(path: Path) -> ZarrImage:
    """Open an image, or an array.

    Raises:
        ImageError: for a group that is no image.
        Exception: for damaged metadata whatever Zarr and Python raise.
    """
    import zarr

    # the attribute may hold anything: only a number of bits that a type can have counts
    node: Any = zarr.open(path, mode="r")
    stated = node.attrs.get(_BITS)
    bits = stated if isinstance(stated, int) and 1 <= stated <= 64 else None
    if not isinstance(node, zarr.Group):
        return ZarrImage(node, bits=bits)

    # 0.5 has its metadata under "ome", 0.4 at the top
    ome: Any = node.attrs.get("ome", node.attrs)
    if "multiscales" not in ome:
        raise ImageError(f"{path} holds no OME-Zarr image: its metadata name no multiscales.")
    image = ome["multiscales"][0]
    level = image["datasets"][0]  # the finest
    array = zarr.open_array(path / level["path"], mode="r")
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", ())]

    # scales of the level and of the whole image multiply; the last axes of all lists are Y and X
    transformations = (
        *level.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    )
    scales = [entry["scale"] for entry in transformations if entry["type"] == "scale"]
    last = range(-min(map(len, scales), default=0), 0)
    return ZarrImage(
        array,
        str(ome.get("version", image.get("version", ""))),
        tuple(str(axis.get("name", "")).lower() for axis in axes),
        tuple(math.prod(factors[axis] for factors in scales) for axis in last),
        tuple(axis.get("unit") for axis in axes),
        bits,
        ome.get("omero") or {},
        str(image.get("name", "")),
    )


def check_stored(path: Path, array: Any) -> None:
    """Raise ImageError if a large array has fewer bytes than any compression leaves of it."""
    pixels = math.prod(array.shape)
    if pixels > _LARGE and pixels > MOST_PIXELS_PER_BYTE * (stored := array.nbytes_stored()):
        raise ImageError(
            f"{path} is damaged: {stored:,} bytes cannot hold the {pixels:,} pixels it states."
        )


def create_zarr(
    path: Path,
    axes: str,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    steps: Mapping[str, tuple[float, str]],
    *,
    version: str = VERSION,
    bits: int | None = None,
    omero: Mapping[str, Any] | None = None,
    name: str = "",
) -> None:
    """Create an image of one level, filled with 0.

    Args:
        path: of its folder.
        axes: a letter each.
        shape, dtype, chunks: of its array.
        steps: from one position to the next and its unit, of the axes where they are known.
        version: of OME-Zarr: "0.4" is written in Zarr's second format, others in its third.
        bits, omero, name: as in `ZarrImage`.
    """
    import zarr

    # units by their full names; those that OME-Zarr does not know are left out
    described = []
    for axis in axes.lower():
        entry = {"name": axis, "type": _TYPES.get(axis, "space")}
        unit = steps.get(axis.upper(), (1.0, ""))[1]
        if unit in _UNITS:
            entry["unit"] = _UNITS[unit]
        described.append(entry)

    # the step of each axis is the scale of the only level; 1 where it is not known
    scale = [steps.get(axis, (1.0, ""))[0] for axis in axes.upper()]
    image: dict[str, Any] = {
        "axes": described,
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        ],
    }
    if name:
        image["name"] = name
    shown: dict[str, Any] = {"omero": dict(omero)} if omero else {}

    # 0.4 has its metadata at the top, in Zarr's second format; later ones have them under "ome"
    old = version == "0.4"
    group: Any = zarr.open_group(path, mode="w", zarr_format=2 if old else 3)
    if old:
        group.attrs.update({"multiscales": [image | {"version": version}]} | shown)
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [image]} | shown
    if bits:
        group.attrs[_BITS] = bits

    # the second format does not name axes, and 0.4 keeps its chunks in nested folders
    layout: dict[str, Any] = {"dimension_names": tuple(axes.lower())}
    if old:
        layout = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    group.create_array("0", shape=tuple(shape), dtype=dtype, chunks=tuple(chunks), **layout)


def short_steps(image: ZarrImage) -> dict[str, tuple[float, str]]:
    """What `create_zarr` takes, of an image that was opened. An axis without a unit whose scale is
    1 has none.
    """
    return {
        axis.upper(): (size, short_unit(unit or ""))
        for axis, size, unit in zip(image.axes, image.scale, image.units, strict=False)
        if unit or size != 1
    }
