"""Files that appear whole or not at all, and files of tensors (safetensors) written in this way."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aeanet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


LONGEST_NAME = 255  # bytes, on the file systems in use


class FolderError(UserError):
    """A folder into which nothing can be written."""


def same_file(path: Path, other: Path) -> bool:
    """Whether both are there and are one file."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def make_folder(folder: Path) -> None:
    """Make a folder and try to write into it, so that a run does not fail after hours of work.

    Raises:
        FolderError: if that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError):
        raise FolderError(f"{folder} cannot be made a folder: a file is in its place.") from None
    except OSError as error:
        raise FolderError(
            f"{folder} cannot be used as a folder for results: {error.strerror or error}."
        ) from error


def hidden(path: Path, ending: str) -> Path:
    """A hidden file beside another, named after it: `.NAME.ending`.

    A name that would become longer than file systems take (255 bytes) is replaced by its hash.
    """
    name = f".{path.name}{ending}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}{ending}"
    return path.with_name(name)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place, then move it there. What was there before survives a full disk
    or a killed process.

    Raises:
        OSError: naming the file.
    """
    temporary: Path | None = None
    try:
        # The name does not hold that of the file, which may be as long as a name can be.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".aeanet.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

        # its bytes are on the disk, so that the name never stands for a part of them
        temporary.chmod(0o644)  # a temporary file is private to its owner
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, as `write_atomically` does. The same ones
    give the same bytes.

    Raises:
        OSError: naming the file.
    """
    import safetensors.torch

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, _in_order(safetensors.torch.save(stored, metadata)))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata in order. The library writes them in any order."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def read_tensors(path: Path) -> "tuple[dict[str, str], dict[str, Tensor]]":
    """Metadata and tensors of a safetensors file, on the CPU.

    Raises:
        safetensors.SafetensorError: if it is not one.
    """
    import safetensors

    with safetensors.safe_open(path, framework="pt") as stored:
        names = list(stored.keys())  # it is no mapping, so it cannot be iterated over
        return stored.metadata() or {}, {name: stored.get_tensor(name) for name in names}
