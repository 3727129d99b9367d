"""Text that any terminal, figure and file takes, and JSON that any program reads."""

import json
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aeanet.errors import UserError
from aeanet.io.atomic import write_atomically

# Control characters, and halves of characters: what Python makes of names that are no UTF-8.
_NOT_SHOWN = ("Cc", "Cs")


class RecordError(UserError):
    """A JSON file that cannot be read."""


def visible(text: str) -> str:
    """One line, in which control characters and bytes of a name that are no UTF-8 stand as their
    codes.
    """
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _NOT_SHOWN else c for c in text)


def json_text(record: Any, indent: int | None = None) -> str:
    """Strict JSON in ASCII (RFC 8259), which has no NaN and no infinity.

    These become the texts "NaN", "Infinity" and "-Infinity", from which `float` makes the same
    numbers again. Without `indent` all is on one line, without spaces.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(_strict(record), indent=indent, separators=separators, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_strict(name): _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def write_json(path: Path, record: Any, indent: int | None = 2) -> None:
    """Write a record as strict JSON (`json_text`), whole or not at all.

    Raises:
        OSError: naming the file.
    """
    write_atomically(path, (json_text(record, indent) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RecordError: if it is damaged.
        OSError: if it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}.") from error
