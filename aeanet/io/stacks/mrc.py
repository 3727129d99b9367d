"""Stacks in MRC files: the header, and planes read from their place in the file.

Source: the standard MRC2014 (Cheng et al., J. Struct. Biol. 192, 2015), www.ccpem.ac.uk.
"""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import NotOneImageError
from aeanet.io.images.mrc import HEADER, byte_order, bytes_are_signed
from aeanet.io.stacks.contents import Contents, Step
from aeanet.io.stacks.stack import Stack

MRC = "MRC"
_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}  # by mode
_SIZE, _SAMPLES, _CELL, _ORDER, _RANGE, _EXTENDED = 0, 28, 40, 64, 76, 92  # bytes
_USUAL_ORDER = (1, 2, 3)  # columns, rows and sections are X, Y and Z
_ANGSTROM = "Å"


def open_mrc(path: Path) -> Stack:
    """An MRC file as a stack: its sections are Z.

    Raises:
        NotOneImageError: for values that are not read, or a volume that is stored along other axes.
    """
    order = byte_order(path)
    with path.open("rb") as file:
        head = file.read(HEADER)
    if len(head) < HEADER:
        raise ValueError(f"its header has {len(head)} of {HEADER} bytes")
    width, height, depth, mode = struct.unpack_from(f"{order}4i", head, _SIZE)
    if mode not in _TYPES or min(width, height, depth) < 1:
        raise NotOneImageError(f"it holds {width} x {height} x {depth} values of mode {mode}")
    stored_along = struct.unpack_from(f"{order}3i", head, _ORDER)
    if depth > 1 and stored_along not in (_USUAL_ORDER, (0, 0, 0)):
        raise NotOneImageError(f"its columns, rows and sections are axes {stored_along}")

    dtype = np.dtype(order + _TYPES[mode])
    if mode == 0 and not bytes_are_signed(path):
        dtype = np.dtype("u1")
    (extended,) = struct.unpack_from(f"{order}i", head, _EXTENDED)
    start = HEADER + max(extended, 0)
    count = width * height

    def read(plane: int) -> NDArray:
        values = np.fromfile(path, dtype, count, offset=start + plane * count * dtype.itemsize)
        if values.size < count:
            raise ValueError("the file ends before it")
        return values.reshape(height, width).astype(dtype.newbyteorder("="))

    leading = (depth,) if depth > 1 else ()
    contents = Contents(
        "ZYX" if leading else "YX",
        (*leading, height, width),
        dtype.newbyteorder("="),
        _steps(head, order),
        kind=MRC,
        metadata={"path": path, "order": order, "start": start},
    )
    return Stack(contents, read, path)


def _steps(head: bytes, order: str) -> dict[str, Step]:
    """The sides of a voxel; none where the cell or its samples are not stated."""
    samples = struct.unpack_from(f"{order}3i", head, _SAMPLES)
    cell = struct.unpack_from(f"{order}3f", head, _CELL)
    return {
        axis: Step(float(f"{length / number:.9g}"), _ANGSTROM)
        for axis, length, number in zip("XYZ", cell, samples, strict=True)
        if number > 0 and length > 0 and math.isfinite(length)
    }
