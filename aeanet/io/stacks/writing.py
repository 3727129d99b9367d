"""In which kind of file a stack is written: that which it was read from, where others than its
maker write it, else OME-TIFF.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from numpy.typing import NDArray

from aeanet.io.images.reading import ZARR_SUFFIX
from aeanet.io.images.writing import result_name
from aeanet.io.ome_zarr import ZARR_METADATA
from aeanet.io.stacks import folder, mrc, tiff_writing, zarr
from aeanet.io.stacks.contents import Contents
from aeanet.io.stacks.opening import MRC_SUFFIXES

WritePlane = Callable[[int, NDArray], None]
"""Takes the number of a plane and its values. They are on the disk when it returns."""


class Form(NamedTuple):
    """How a kind of file is written.

    Attributes:
        create: makes the file of a stack, with planes of 0.
        opened: a context in which planes are written into it.
    """

    create: Callable[[Path, Contents], None]
    opened: Callable[[Path, Contents], AbstractContextManager[WritePlane]]


def form_of(path: Path, contents: Contents) -> Form:
    """The form of a stack that is to be written to `path`, by its ending and the kind that it has
    been read from.
    """
    suffix = path.suffix.lower()
    if suffix == ZARR_SUFFIX:
        return Form(zarr.create, zarr.opened)
    if suffix in MRC_SUFFIXES:
        return Form(mrc.create, mrc.opened)
    if contents.kind == folder.SLICES and not suffix:
        return Form(folder.create, folder.opened)
    return Form(tiff_writing.create, tiff_writing.opened)


def stack_name(path: Path) -> str:
    """The file name of the result for a stack: that of a folder or an MRC file stays, others are
    those of `images.result_name`.
    """
    suffix = path.suffix.lower()
    is_folder = path.is_dir() and suffix != ZARR_SUFFIX
    return path.name if is_folder or suffix in MRC_SUFFIXES else result_name(path)


def check_target(path: Path, contents: Contents) -> None:
    """Raise OSError if a result would replace a folder that holds something else."""
    if not path.is_dir():
        return
    here = {entry.name for entry in path.iterdir()}
    if path.suffix.lower() == ZARR_SUFFIX:
        known = bool(here & ZARR_METADATA)
    else:
        known = here <= set(map(result_name, contents.metadata.get("names", ())))
    if not known:
        raise OSError("it is a folder, and not that of an image")
