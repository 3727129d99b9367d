"""Reads what microscopes write, with the size of a pixel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aeanet.io.images import ImageError
from aeanet.io.stacks import AxesError, Stack, open_stack

_READ_BY_NAPARI = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of a file; None for a list of files, for folders that are no OME-Zarr, and where
    napari reads the file itself and no size of a pixel is stated that it would lose.
    """
    if isinstance(path, list):
        return None
    if Path(path).is_dir() and Path(path).suffix.lower() != ".zarr":
        return None
    if Path(path).suffix.lower() not in _READ_BY_NAPARI:
        return read_layers
    try:
        with _opened(path) as stack:
            return read_layers if stack.steps else None
    except ImageError:
        return None


def read_layers(path: str) -> list[LayerData]:
    """A layer for each channel of a file, with its scale and units.

    Several planes are read when they are shown, and the file stays open for that.

    Raises:
        ImageError: for a file that cannot be read.
    """
    stack = _opened(path)
    name = Path(path).name
    channels = stack.contents.sizes.get("C", 0)
    if not channels:
        return [_layer(stack, name)]

    # names count only if there is one for each channel
    names = list(stack.contents.channels)
    if len(names) != channels:
        names = [f"channel {number + 1}" for number in range(channels)]
    return [
        _layer(stack.channel(str(number + 1)), f"{name} {channel}")
        for number, channel in enumerate(names)
    ]


def _opened(path: str) -> Stack:
    """A file of pages that does not say what they are is taken for a volume."""
    try:
        return open_stack(path)
    except AxesError:
        return open_stack(path, axes="ZYX")


def _layer(stack: Stack, name: str) -> LayerData:
    axes = stack.axes.removesuffix("S")
    steps = [stack.steps.get(axis) for axis in axes]
    properties = {
        "name": name,
        "scale": [1.0 if step is None else step.size for step in steps],
        "units": ["pixel" if step is None or not step.unit else step.unit for step in steps],
        "axis_labels": list(axes),
        "rgb": stack.axes.endswith("S"),
        "metadata": {"kind": stack.contents.kind},
    }
    data = np.asarray(stack) if stack.planes == 1 else stack.to_dask()
    return data, properties, "image"
