"""Places of large results, which are written piece by piece: the lock, the room, and the move into
the place when all of it is there.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from aeanet.io.atomic import hidden


def check_folder_of(path: Path) -> None:
    """Raise OSError unless the folder is there in which `path` is to appear."""
    if not path.parent.is_dir():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within it, no other run writes this result. The lock ends with its process."""
    name = hidden(path, ".lock")
    try:
        lock = FileLock(name).acquire(timeout=0)
    except Timeout:
        raise OSError("another run is writing it") from None
    with lock:
        try:
            yield
        finally:
            name.unlink(missing_ok=True)


def check_room(path: Path, needed: int) -> None:
    """Raise OSError if the disk has less room than that, in bytes."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"it needs {needed / 1e9:,.1f} GB, the disk has {free / 1e9:,.1f} GB")


def put_in_place(partial: Path, path: Path) -> None:
    """Move the complete result, a file or a folder, to its place.

    A folder cannot replace another in one step: the old one is moved aside until the new one is in
    place.
    """
    old = hidden(path, ".old")
    if path.is_dir():
        os.replace(path, old)
    os.replace(partial, path)
    remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # another process may still write into it
    else:
        path.unlink(missing_ok=True)


def write_at(descriptor: int, values: memoryview, offset: int) -> None:
    """Write bytes at a place of an open file.

    Raises:
        OSError: if the disk is full.
    """
    if os.pwrite(descriptor, values, offset) != values.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
