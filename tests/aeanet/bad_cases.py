"""A bad or odd input of the command, and how one is written down in a line.

In a command line, RUN is the folder of a good model, GOOD a good image, PAIRS a folder of one good
pair, and `a.*` what the case makes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bad_files import (
    GREY,
    both,
    encoded,
    folder_of,
    nothing,
    put,
)

FLOATS = GREY.astype(np.float32)
SIGNED = FLOATS - 100
RAMP = np.linspace(-1, 1, 192).reshape(12, 16) * 1.7e308
NOT_FINITE = np.where(GREY > 128, FLOATS, np.nan).astype(np.float32)
BLOBS = np.random.default_rng(1).random((90, 110)).astype(np.float32)
TWICE = np.stack([GREY, GREY])
MOST_INT = np.full((9, 9), 2**31 - 1, np.int32)
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(99)
ZIP = b"PK\x03\x04" + bytes(99)
PICKLE = b"\x80\x02}q\0." + bytes(99)
PNG, JPG, BMP, TIF = (encoded(kind) for kind in ("png", "jpg", "bmp", "tif"))
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Case:
    """What `make` makes in a folder, the command line run there, its exit code, and a part of what
    it says.
    """

    make: Callable[[Path], object]
    command: str
    code: int
    says: str


def image(name: str, make: Callable[[Path], object], says: str) -> Case:
    """An image that cannot be restored, before a good one that is."""
    return Case(make, f"predict RUN '{name}' GOOD --out out", 1, says)


def odd_image(name: str, make: Callable[[Path], object]) -> Case:
    """An image that looks odd and is restored."""
    return Case(make, f"predict RUN '{name}' GOOD --out out", 0, "")


def option_of(command: str, says: str, code: int = 1) -> Case:
    """A command line that is refused before anything is read."""
    return Case(nothing, command, code, says)


def bad_model(make: Callable[[Path], object], says: str) -> Case:
    return Case(make, "predict run GOOD --out out", 1, says)


def already_there(command: str, *files: str) -> Case:
    """A command that would replace one of the files that are there."""
    makes = [both(folder_of(file), put(file, b"mine")) for file in files]
    return Case(
        both(*makes), command, 1, f"{files[-1]} is already there; replace it with --overwrite."
    )


def filled(
    value: complex, dtype: torch.dtype = torch.float32
) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update(lr=torch.full((32, 9), value, dtype=dtype))
