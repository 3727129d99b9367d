"""From a file or a folder to a stack."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from aeanet.io.images.micrograph import ImageError, decoding
from aeanet.io.images.reading import SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIX, check_file, decode
from aeanet.io.stacks.contents import UNKNOWN, AxesError, Contents, checked_axes, steps_of
from aeanet.io.stacks.folder import open_folder
from aeanet.io.stacks.microscopes import open_signal
from aeanet.io.stacks.mrc import open_mrc
from aeanet.io.stacks.ser import open_ser
from aeanet.io.stacks.stack import Stack
from aeanet.io.stacks.tiff import open_tiff
from aeanet.io.stacks.zarr import open_zarr_stack

MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".rec", ".ali")
_READERS: dict[str, Callable[[Path], Stack | None]] = {
    **dict.fromkeys(TIFF_SUFFIXES, open_tiff),
    ZARR_SUFFIX: open_zarr_stack,
    **dict.fromkeys(MRC_SUFFIXES, open_mrc),
    ".ser": open_ser,
    ".dm3": open_signal,
    ".dm4": open_signal,
    ".emd": open_signal,
}
"""Readers of files that may hold several planes, by the ending of their names."""
STACK_SUFFIXES = tuple(_READERS)
_LISTED = 4  # planes of which a sentence says the size


def open_stack(path: str | os.PathLike[str], *, axes: str | None = None) -> Stack:
    """Open a volume, a time series or another stack of images. Planes are read when asked for.

    TIFF (ImageJ's hyperstacks, OME-TIFF, plain pages), OME-Zarr and Zarr, MRC, DM3, DM4, SER, EMD,
    and a folder of numbered slices. Pages in colour beside raw ones, thumbnails and masks are no
    planes. An image alone is a stack of one plane, with the axes YX.

    Args:
        path: of the file or folder.
        axes: what the axes are, such as "ZYX", where the file does not say it, or says it wrongly.

    Returns:
        The stack; close it, or use it in a `with`.

    Raises:
        ImageError: for a file that cannot be read as a stack.
        AxesError: if the axes are neither stated nor given, or do not fit.
    """
    path = Path(path)
    stack = _opened(path)
    try:
        return _named(stack, axes)
    except AxesError:
        stack.close()
        raise


def find_stack(path: Path, axes: str | None = None, channel: str | None = None) -> Stack | None:
    """The stack in a file or folder; None for an image alone, and for what cannot be opened as a
    stack: reading it as an image says what is wrong with it.

    Args:
        path: of the file; of a folder if `axes` are given.
        axes: as in `open_stack`.
        channel: the one to take, by name or number from 1.

    Raises:
        AxesError: if it holds several planes, and its axes are not known; if it has no such
            channel.
        ImageError: if axes were given, and it is no stack.
    """
    # what holds one image by its kind is not opened at all
    if path.suffix.lower() not in STACK_SUFFIXES and not (axes is not None and path.is_dir()):
        return None

    # who names axes means a stack, and is told why there is none
    try:
        stack = open_stack(path, axes=axes)
    except ImageError:
        if axes is not None:
            raise
        return None

    # the planes of the channel that is wanted count, not all of the file
    if channel is not None:
        try:
            stack = stack.channel(channel)
        except AxesError:
            stack.close()
            raise
    if stack.planes > 1:
        return stack
    stack.close()
    return None


def _opened(path: Path) -> Stack:
    # a Zarr image is a folder too, which slices are not taken from
    suffix = path.suffix.lower()
    if path.is_dir() and suffix != ZARR_SUFFIX:
        return open_folder(path)
    if suffix not in _READERS and suffix not in SUFFIXES:
        raise ImageError(
            f"{path} is no stack of a known kind: a name ending in one of "
            f"{', '.join(STACK_SUFFIXES)} is wanted, or a folder of slices."
        )

    # a reader that finds no stack leaves the file to that of single images
    if suffix != ZARR_SUFFIX:
        check_file(path)
    with decoding(path):
        stack = _READERS.get(suffix, _of_one_image)(path)
        return _of_one_image(path) if stack is None else stack


def _of_one_image(path: Path) -> Stack:
    """What holds no stack: a PNG and the like."""
    decoded = decode(path)
    raw, steps = decoded.raw, steps_of(decoded.stated.pixel_size)
    contents = Contents("YXS"[: raw.ndim], raw.shape, raw.dtype, steps, kind=decoded.kind)
    return Stack(contents, lambda _: raw, path)


def _named(stack: Stack, axes: str | None) -> Stack:
    """The stack with the axes given, else with those that its file states."""
    # axes that are given count before those of the file; nobody need name that of colours
    contents = stack.contents
    if axes is not None:
        if contents.axes == "YXS" and len(axes.strip()) == 3 and axes.upper() != "YXS":
            # a stack of three or four slices is often written as an image in colour
            return Stack.of_array(np.moveaxis(np.asarray(stack), -1, 0), axes)
        if contents.axes.endswith("S") and not axes.upper().endswith("S"):
            axes += "S"
        axes = checked_axes(axes, contents.shape, stack.path)
    elif UNKNOWN not in contents.axes:
        return stack
    else:
        height, width = contents.plane_shape
        sizes = [f"{width} x {height}"] * min(contents.planes, _LISTED)
        listed = ", ".join([*sizes, "..."] if contents.planes > _LISTED else sizes)
        raise AxesError(
            f"{stack.path} holds {contents.planes} images ({listed}) and does not say what they "
            "are: take all by --axes ZYX (a volume), TYX (a time series) or CYX (channels); one "
            "grey image is wanted otherwise: choose one by its number or name (--image on the "
            "command line)."
        )

    # Steps of the axes that the file names otherwise are not those of the new names.
    kept = {axis for axis, old in zip(axes, contents.axes, strict=True) if axis == old}
    steps = {axis: step for axis, step in contents.steps.items() if axis in kept}
    stack.contents = replace(contents, axes=axes, steps=steps)
    return stack
