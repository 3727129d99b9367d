"""Stacks in the files of microscope makers, read by rosettasciio plane by plane: DM3, DM4, EMD."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from aeanet.io.images.choice import Candidate, choose
from aeanet.io.images.microscopes import load_signals, title_of
from aeanet.io.pixel_size import LENGTHS, TIMES, short_unit
from aeanet.io.stacks.contents import AXES, UNKNOWN, Contents, Step
from aeanet.io.stacks.stack import Stack

_NAMES = {"time": "T", "z": "Z", "depth": "Z", "slice": "Z", "channel": "C"}


def open_signal(path: Path) -> Stack | None:
    """The one stack of images in a file; spectra and single images beside it are ignored. None if
    there is no stack.

    Raises:
        NotOneImageError: if there are several.
        Exception: for a damaged file whatever rosettasciio raises.
    """
    stacks = [signal for signal in load_signals(path) if _is_stack(signal)]
    if not stacks:
        return None

    # all count as raw, so that of several stacks none is taken
    candidates = [Candidate(signal, title_of(signal), True) for signal in stacks]
    signal, _ = choose(candidates, None, f"one stack is wanted, it holds {len(stacks)}")
    data, axes = signal["data"], signal["axes"]

    # of two axes with one letter it is not known which is which
    letters = "".join(_letter(axis) for axis in axes[:-2])
    if len(set(letters)) < len(letters):
        letters = UNKNOWN * len(letters)

    # Only a length or a time is a step: what is not calibrated has neither.
    steps = {
        letter: Step(float(axis["scale"]), short_unit(axis["units"]))
        for letter, axis in zip(f"{letters}YX", axes, strict=True)
        if letter != UNKNOWN and axis["scale"] > 0 and short_unit(axis["units"]) in LENGTHS | TIMES
    }
    shape = tuple(data.shape)
    contents = Contents(f"{letters}YX", shape, np.dtype(data.dtype), steps, kind=path.suffix[1:])
    return Stack(contents, lambda plane: data[contents.index(plane)], path)


def _is_stack(signal: dict[str, Any]) -> bool:
    """Whether it has two axes of an image, the last ones, and others before these."""
    data, axes = signal["data"], signal["axes"]
    if data.ndim != len(axes) or data.ndim < 3 or data.dtype.kind not in "uif":
        return False
    height, width = axes[-2:]
    is_image = not (height.get("navigate") or width.get("navigate"))
    # NCEM's files do not say which axes are those of the image; an energy has another unit.
    return is_image and height["units"] == width["units"] and math.prod(data.shape[:-2]) > 1


def _letter(axis: dict[str, Any]) -> str:
    """By its name, else by its unit."""
    unit = short_unit(axis.get("units") or "")
    letter = _NAMES.get(str(axis.get("name") or "").lower())
    if letter == "Z" and unit not in LENGTHS:
        letter = None  # rosettasciio calls any third axis z
    if letter is None:
        letter = "Z" if unit in LENGTHS else "T" if unit in TIMES else UNKNOWN
    return letter if letter in AXES else UNKNOWN
