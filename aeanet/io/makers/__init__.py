"""What the makers of microscopes state about an image beside its values: one file a maker.

A new maker is a file with `read(header)`, which returns None for files of others, and a line in the
table.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from xml.etree import ElementTree

from aeanet.io.makers import (
    digital_micrograph,
    fei,
    hitachi,
    imagej,
    jeol,
    olympus,
    ome,
    phenom,
    tescan,
    tvips,
    zeiss,
)
from aeanet.io.makers.header import Header, Stated

__all__ = ["MAKERS", "Header", "Stated", "stated_by_maker"]

MAKERS: dict[str, Callable[[Header], Stated | None]] = {
    "OME": ome.read,
    "Phenom": phenom.read,
    "FEI / Thermo": fei.read,
    "Hitachi": hitachi.read,
    "Zeiss": zeiss.read,
    "TVIPS": tvips.read,
    "TESCAN": tescan.read,
    "JEOL": jeol.read,
    "Olympus SIS": olympus.read,
    "DigitalMicrograph": digital_micrograph.read,
    "ImageJ": imagej.read,
}
"""Readers by maker. What the first ones state counts; ImageJ writes into files of others."""

_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    OSError,
    struct.error,
    ElementTree.ParseError,
)
"""What metadata raise that are not as their maker writes them. They count as absent."""


def stated_by_maker(header: Header, form: str) -> tuple[str, Stated]:
    """The kind of a file, such as "Zeiss TIFF", and what its makers state.

    The resolution of a plain TIFF is that of printing (dots per inch) and is ignored.

    Args:
        header: of the file.
        form: its format, such as "TIFF".
    """
    kind, stated = form, Stated()
    for maker, read in MAKERS.items():
        found = None
        with suppress(*_DAMAGED):
            found = read(header)
        if found is None:
            continue
        if kind == form:
            kind = "OME-TIFF" if maker == "OME" else f"{maker} {form}"
        both = zip(stated, found, strict=True)
        stated = Stated._make(more if known is None else known for known, more in both)
    return kind, stated
