"""The header of an MRC file, of which rosettasciio assumes the byte order and the sign of bytes.

Sources: the standard MRC2014 (Cheng et al., J. Struct. Biol. 192, 2015), and mrc_format of IMOD.
"""

import struct
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.micrograph import NotOneImageError

Order = Literal["<", ">"]

_ORDERS: tuple[Order, Order] = ("<", ">")
HEADER = 1024  # bytes
_STAMPS = {0x44: "<", 0x11: ">"}  # first byte of the machine stamp
_IMOD = 1146047817  # the stamp of files that IMOD wrote
_SIGNED = 1  # the bit of IMOD's flags
UNSIGNED = (_IMOD, 0)
"""IMOD's stamp and flags, by which bytes are not signed."""
_BYTES = 0  # the mode
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
        return _mode(head, order) > _GREATEST_MODE, order != stamped, _width(head, order)

    order = min(_ORDERS, key=doubt)
    mode = _mode(head, order)
    if mode in _NOT_READ:
        raise NotOneImageError(f"it holds {_NOT_READ[mode]} (MRC mode {mode}), which are not read")
    return order


def as_stored(raw: NDArray, path: Path) -> NDArray:
    """The values that rosettasciio read, in the byte order of the file, with the sign of its bytes:
    those of mode 0 are signed unless IMOD's stamp says that they are not.
    """
    head = _head(path)
    order = byte_order(path)
    if _mode(head, order) != _BYTES:
        return raw.view(raw.dtype.newbyteorder(order))
    return raw.view(np.int8 if bytes_are_signed(path) else np.uint8)


def bytes_are_signed(path: Path) -> bool:
    """Whether those of mode 0 are: unless IMOD's stamp says that they are not."""
    head = _head(path)
    stamp, flags = struct.unpack_from(f"{byte_order(path)}2I", head, 152)
    return stamp != _IMOD or bool(flags & _SIGNED)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER).ljust(HEADER, b"\0")


def _mode(head: bytes, order: Order) -> int:
    return struct.unpack_from(f"{order}I", head, 12)[0]


def _width(head: bytes, order: Order) -> int:
    return struct.unpack_from(f"{order}I", head, 0)[0]
