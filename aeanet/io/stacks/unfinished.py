"""A stack that is being written: what is complete survives a killed process.

Beside the place of the result is a hidden folder with the planes so far, what was asked for, and a
list of the planes that are complete. A second run that asks for the same goes on from there.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from aeanet.io.atomic import hidden
from aeanet.io.images.micrograph import encoding
from aeanet.io.large import check_folder_of, check_room, locked, put_in_place, remove
from aeanet.io.stacks.contents import Contents
from aeanet.io.stacks.writing import check_target, form_of
from aeanet.io.text import json_text, read_json, write_json

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_REQUEST, _RESULT, _DONE = "request.json", "result", "planes-{}.jsonl"
_BEGUN = "begun"  # a file that says that the file of the result is made


class Unfinished:
    """Planes that are written one by one.

    Attributes:
        done: the record of each plane that is complete, by its number.
    """

    def __init__(self, path: Path, folder: Path, rank: int) -> None:
        self.path = path
        self.folder = folder
        self.done: dict[int, Any] = _records(folder)
        self._list = os.open(
            folder / _DONE.format(rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        self._write: Callable[[int, NDArray], None] | None = None

    def note(self, name: str) -> Any:
        """What `put` kept, by this run or by the one before it; None if there is nothing."""
        file = self.folder / f"{name}.json"
        return read_json(file) if file.is_file() else None

    def put(self, name: str, record: Any) -> None:
        """Keep something that was found about the stack, for JSON."""
        with encoding(self.path):
            write_json(self.folder / f"{name}.json", record)

    @contextmanager
    def planes_of(self, contents: Contents) -> Iterator[None]:
        """Within it, `add` writes planes of the result that `begin` made."""
        form = form_of(self.path, contents)
        with ExitStack() as stack:
            with encoding(self.path):
                self._write = stack.enter_context(form.opened(self.folder / _RESULT, contents))
            yield

    def add(self, number: int, values: NDArray, record: Any) -> None:
        """Write a plane, then list it as complete.

        Args:
            number: from 0 in the order of the axes.
            values: (Y, X) of the type of the stack.
            record: what is known of it, for JSON.
        """
        assert self._write is not None
        with encoding(self.path):
            self._write(number, values)
            line = json_text({"plane": number, "record": record}) + "\n"
            os.write(self._list, line.encode())
            os.fsync(self._list)
        self.done[number] = record

    def close(self) -> None:
        os.close(self._list)


def _records(folder: Path) -> dict[int, Any]:
    """Of the planes that are complete. The last line of a list may be cut: that plane counts as not
    written.
    """
    done = {}
    for file in sorted(folder.glob(_DONE.format("*"))):
        for line in file.read_bytes().split(b"\n")[:-1]:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            done[int(entry["plane"])] = entry["record"]
    return done


@contextmanager
def unfinished(
    path: Path, request: Mapping[str, Any], group: "ProcessGroup | None" = None
) -> Iterator[Unfinished]:
    """Begin to write a stack, or go on with one. Nothing appears at `path` until `finish`.

    Args:
        path: where it appears.
        request: all that its bytes depend on, for JSON. What was begun by another request is
            dropped.
        group: processes that write one stack together, on one file system.

    Raises:
        ImageError: if it cannot be written there, or another run writes it.
    """
    from aeanet.distributed import agreeing

    # beside its place, so that the complete result is moved there in one step
    path = path.resolve()  # of a link, the file that it points to is replaced
    folder = hidden(path, ".unfinished")
    leads = group is None or group.rank() == 0

    # the first process holds the lock to the end, and drops what was begun by another request
    with ExitStack() as stack:
        with agreeing(group), encoding(path):
            if leads:
                check_folder_of(path)
                stack.enter_context(locked(path))
                asked = json_text(request)
                if not _is_of(folder, asked):
                    remove(folder)
                    folder.mkdir()
                    write_json(folder / _REQUEST, asked)
                stack.callback(_remove_unless_begun, folder)

        # now the folder is there for all, and what is complete in it is known
        with agreeing(group), encoding(path):
            work = Unfinished(path, folder, 0 if group is None else group.rank())
            stack.callback(work.close)
        yield work


def _remove_unless_begun(folder: Path) -> None:
    """Leave nothing of a run that ended before its first plane."""
    if not (folder / _BEGUN).exists():
        remove(folder)


def _is_of(folder: Path, asked: str) -> bool:
    try:
        return bool(read_json(folder / _REQUEST) == asked)
    except (OSError, ValueError):
        return False


def begin(work: Unfinished, contents: Contents) -> None:
    """Make the file of the result, unless it is there.

    Raises:
        ImageError: if the disk has no room for it.
    """
    begun = work.folder / _BEGUN
    with encoding(work.path):
        check_target(work.path, contents)
        if begun.exists():
            return
        remove(work.folder / _RESULT)
        check_room(work.path, contents.planes * contents.plane_bytes)
        form_of(work.path, contents).create(work.folder / _RESULT, contents)
        begun.touch()


def finish(work: Unfinished) -> None:
    """Move the result, which is complete, to its place."""
    with encoding(work.path):
        put_in_place(work.folder / _RESULT, work.path)
        remove(work.folder)
