"""Stacks in OME-Zarr, and Zarr arrays of several planes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import NotOneImageError
from aeanet.io.ome_zarr import (
    VERSION,
    check_folder,
    check_stored,
    create_zarr,
    open_zarr,
    short_steps,
)
from aeanet.io.stacks.contents import AXES, UNKNOWN, Contents, Step
from aeanet.io.stacks.stack import Stack

OME_ZARR = "OME-Zarr"
_CHUNK = 1024  # px, the largest side of one


def open_zarr_stack(path: Path) -> Stack:
    """The finest level of an OME-Zarr image, or a Zarr array, as a stack.

    Raises:
        ImageError: for a folder that is no image.
        NotOneImageError: for values or axes of which none are those of planes.
    """
    # refused now, and not when a plane is asked for
    check_folder(path)
    image = open_zarr(path)
    array = image.array
    if array.ndim < 2 or array.dtype.kind not in "uif":
        raise NotOneImageError(f"it holds {array.dtype} values of shape {array.shape}")
    check_stored(path, array)

    # names that do not fit to the array say nothing
    letters = "".join(image.axes).upper()
    if len(letters) != array.ndim or letters[-2:] != "YX":
        letters = UNKNOWN * (array.ndim - 2) + "YX"
    axes = "".join(axis if axis in f"{AXES}YX" else UNKNOWN for axis in letters)

    # the channels have names if all of them have one
    channels = [str(entry.get("label", "")) for entry in image.omero.get("channels", ())]
    contents = Contents(
        axes,
        tuple(array.shape),
        np.dtype(array.dtype),
        {axis: Step(*step) for axis, step in short_steps(image).items()},
        tuple(channels) if all(channels) else (),
        image.bits,
        f"{OME_ZARR} {image.version}".strip() if image.version else "Zarr",
        {"omero": dict(image.omero), "name": image.name, "version": image.version},
    )
    return Stack(contents, lambda plane: array[contents.index(plane)], path)


def create(path: Path, contents: Contents) -> None:
    """Make an OME-Zarr image of one level, of the version that was read, in chunks of a plane."""
    # no chunk has values of two planes, so that planes can be written by several processes
    stated = contents.metadata
    chunks = [1] * len(contents.leading) + [min(side, _CHUNK) for side in contents.plane_shape]

    # how it is shown, and its name, go on from the image that was read
    create_zarr(
        path,
        contents.axes,
        contents.shape,
        contents.dtype,
        chunks,
        contents.steps,
        version=stated.get("version") or VERSION,
        bits=contents.bits,
        omero=stated.get("omero") or _omero(contents.channels),
        name=stated.get("name", ""),
    )


@contextmanager
def opened(path: Path, contents: Contents) -> Iterator[Any]:
    """Writes planes, each of which has its own files."""
    import zarr

    array: Any = zarr.open_array(path / "0", mode="r+")

    def write(number: int, values: NDArray) -> None:
        array[contents.index(number)] = values

    yield write


def _omero(channels: Sequence[str]) -> dict[str, Any]:
    return {"channels": [{"label": name} for name in channels]} if channels else {}
