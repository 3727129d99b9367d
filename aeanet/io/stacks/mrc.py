"""Stacks in MRC files: the header, and planes read from their place in the file.

Source: the standard MRC2014 (Cheng et al., J. Struct. Biol. 192, 2015), www.ccpem.ac.uk.
"""

import math
import struct
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import ImageError, NotOneImageError
from aeanet.io.images.mrc import HEADER, UNSIGNED, byte_order, bytes_are_signed
from aeanet.io.pixel_size import METRES
from aeanet.io.stacks.blocks import block_writer, read_block
from aeanet.io.stacks.contents import Contents, Step
from aeanet.io.stacks.stack import Stack

MRC = "MRC"
_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}  # by mode
_SIZE, _SAMPLES, _CELL, _ORDER, _RANGE, _EXTENDED = 0, 28, 40, 64, 76, 92  # bytes
_STAMP, _MAP, _RMS = 152, 208, 216
_NOT_KNOWN = 0.0, -1.0, -2.0  # the least, the greatest and the mean value
_RMS_NOT_KNOWN = -1.0  # the root mean square deviation from the mean
_USUAL_ORDER = (1, 2, 3)  # columns, rows and sections are X, Y and Z
_ANGSTROM = "Å"


def open_mrc(path: Path) -> Stack:
    """An MRC file as a stack: its sections are Z.

    Raises:
        NotOneImageError: for values that are not read, or a volume that is stored along other axes.
    """
    # the extended header is kept behind the header, for the result to have both
    order = byte_order(path)
    with path.open("rb") as file:
        head = file.read(HEADER)
        if len(head) < HEADER:
            raise ValueError(f"its header has {len(head)} of {HEADER} bytes")
        (extended,) = struct.unpack_from(f"{order}i", head, _EXTENDED)
        if not 0 <= extended <= path.stat().st_size - HEADER:
            raise ValueError(f"its extended header would have {extended} bytes")
        head += file.read(extended)

    # planes are read as X in Y in Z; zeros state no order
    width, height, depth, mode = struct.unpack_from(f"{order}4i", head, _SIZE)
    if mode not in _TYPES or min(width, height, depth) < 1:
        raise NotOneImageError(f"it holds {width} x {height} x {depth} values of mode {mode}")
    stored_along = struct.unpack_from(f"{order}3i", head, _ORDER)
    if depth > 1 and stored_along not in (_USUAL_ORDER, (0, 0, 0)):
        raise NotOneImageError(f"its columns, rows and sections are axes {stored_along}")

    # mode 0 is signed by the standard, and unsigned by the stamp of IMOD
    dtype = np.dtype(order + _TYPES[mode])
    if mode == 0 and not bytes_are_signed(path):
        dtype = np.dtype("u1")

    def read(plane: int) -> NDArray:
        return read_block(path, plane, len(head), (height, width), dtype)

    # a single section is an image, without Z
    leading = (depth,) if depth > 1 else ()
    contents = Contents(
        "ZYX" if leading else "YX",
        (*leading, height, width),
        dtype.newbyteorder("="),
        _steps(head, order),
        kind=MRC,
        metadata={"head": head, "order": order},
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


def create(path: Path, contents: Contents) -> None:
    """Make a file whose planes are 0, with the header of the file that the stack was read from.

    Raises:
        ImageError: for values that MRC cannot hold.
    """
    # bytes without a sign have mode 0 too; IMOD's stamp tells them apart
    modes = {np.dtype(name): mode for mode, name in _TYPES.items()} | {np.dtype("u1"): 0}
    if contents.dtype not in modes:
        raise ImageError(f"{path.name} is not written: MRC cannot hold {contents.dtype} values.")

    # the header that was read stays, but for what is other in the result
    order = contents.metadata.get("order", "<")
    head = bytearray(contents.metadata.get("head") or _new_header(contents))
    height, width = contents.plane_shape
    size = (width, height, contents.planes, modes[contents.dtype])
    struct.pack_into(f"{order}4i", head, _SIZE, *size)
    struct.pack_into(f"{order}2i", head, _SAMPLES, width, height)

    # the cell has the length of all pixels together; along Z both stay as they are
    cell = _length(contents, "X", width), _length(contents, "Y", height)
    struct.pack_into(f"{order}2f", head, _CELL, *cell)

    # statistics are known after the last plane, when the header is long written
    struct.pack_into(f"{order}3f", head, _RANGE, *_NOT_KNOWN)
    struct.pack_into(f"{order}f", head, _RMS, _RMS_NOT_KNOWN)
    if contents.dtype == np.uint8:
        struct.pack_into(f"{order}2I", head, _STAMP, *UNSIGNED)

    # planes that are not yet written are a hole in the file, which reads as 0
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + contents.planes * contents.plane_bytes)


def opened(path: Path, contents: Contents) -> AbstractContextManager[Any]:
    """Writes planes into a file that `create` made."""
    dtype = contents.dtype.newbyteorder(byte_order(path))
    start = path.stat().st_size - contents.planes * contents.plane_bytes
    return block_writer(path, start, dtype)


def _new_header(contents: Contents) -> bytes:
    """Of a stack that came from no MRC file."""
    head = bytearray(HEADER)
    struct.pack_into("<i", head, _SAMPLES + 8, contents.planes)
    struct.pack_into("<f", head, _CELL + 8, _length(contents, "Z", contents.planes))
    struct.pack_into("<3f3i", head, _CELL + 12, 90, 90, 90, *_USUAL_ORDER)
    struct.pack_into("<4s4B", head, _MAP, b"MAP ", 0x44, 0x44, 0, 0)
    return bytes(head)


def _length(contents: Contents, axis: str, number: int) -> float:
    """Of the stack along an axis, in angstrom; 0 if it is not known."""
    size, unit = contents.steps.get(axis, (0.0, _ANGSTROM))
    return number * size * METRES[unit] / METRES[_ANGSTROM] if unit in METRES else 0.0
