"""The header of an MRC file, of which rosettasciio assumes the byte order and the sign of bytes.

Sources: the standard MRC2014 (Cheng et al., J. Struct. Biol. 192, 2015), and mrc_format of IMOD.
"""

import struct
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import NotOneImageError

Order = Literal["<", ">"]

HEADER = 1024  # bytes
_STAMPS = {0x44: "<", 0x11: ">"}  # first byte of the machine stamp
_IMOD = 1146047817  # the stamp of files that IMOD wrote
_SIGNED = 1  # the bit of IMOD's flags
UNSIGNED = (_IMOD, 0)
"""IMOD's stamp and flags, by which bytes are not signed."""
_WIDTH, _MODE = 0, 12  # where they are in the header
_GREATEST_MODE = 200  # those in use go to 101
_NOT_READ = {3: "complex integers", 5: "bytes of IMOD's old kind", 16: "RGB", 101: "4 bits a pixel"}


def byte_order(path: Path) -> Order:
    """Little or big endian. The machine stamp, which tells, may be missing or wrong; in the right
    order the numbers are small.

    Raises:
        NotOneImageError: for values of a kind that is not read.
    """
    head = _head(path)
    stamped = _STAMPS.get(head[212])

    def doubt(order: Order) -> tuple[bool, bool, int]:
        is_no_mode = _number(head, order, _MODE) > _GREATEST_MODE
        return is_no_mode, order != stamped, _number(head, order, _WIDTH)

    order = min(get_args(Order), key=doubt)
    mode = _number(head, order, _MODE)
    if mode in _NOT_READ:
        raise NotOneImageError(f"it holds {_NOT_READ[mode]} (MRC mode {mode}), which are not read")
    return order


def as_stored(raw: NDArray, path: Path) -> NDArray:
    """The values that rosettasciio read, in the byte order of the file, with the sign of its bytes:
    those of mode 0 are signed unless IMOD's stamp says that they are not.
    """
    if raw.dtype.itemsize > 1:
        return raw.view(raw.dtype.newbyteorder(byte_order(path)))
    return raw.view(np.int8 if bytes_are_signed(path) else np.uint8)


def bytes_are_signed(path: Path) -> bool:
    """Whether those of mode 0 are: unless IMOD's stamp says that they are not."""
    stamp, flags = struct.unpack_from(f"{byte_order(path)}2I", _head(path), 152)
    return stamp != _IMOD or bool(flags & _SIGNED)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER).ljust(HEADER, b"\0")


def _number(head: bytes, order: Order, at: int) -> int:
    return struct.unpack_from(f"{order}I", head, at)[0]
