"""Planes that lie one after the other in a file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aeanet.io.large import write_at


def read_block(
    path: Path, number: int, start: int, shape: tuple[int, int], dtype: np.dtype
) -> NDArray:
    """A plane in the byte order of this machine.

    Raises:
        ValueError: if the file ends before it.
    """
    count = shape[0] * shape[1]
    values = np.fromfile(path, dtype, count, offset=start + number * count * dtype.itemsize)
    if values.size < count:
        raise ValueError("the file ends before it")
    return values.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def block_writer(
    path: Path, start: int, dtype: np.dtype
) -> Iterator[Callable[[int, NDArray], None]]:
    """Writes planes, each from its place on, in the type and byte order of the file."""
    descriptor = os.open(path, os.O_WRONLY)

    def write(number: int, values: NDArray) -> None:
        block = np.ascontiguousarray(values, dtype)
        write_at(descriptor, block.data, start + number * block.nbytes)
        os.fsync(descriptor)

    try:
        yield write
    finally:
        os.close(descriptor)
