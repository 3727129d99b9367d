"""Text that any terminal, figure and file takes, and JSON that any program reads."""

import json
import math
import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aeanet.errors import UserError
from aeanet.io.atomic import write_atomically

# Control characters, and halves of characters: what Python makes of names that are no UTF-8.
_NOT_SHOWN = ("Cc", "Cs")
_LISTED = 16  # numbers
_LONGEST = 200  # characters of a text of several lines


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
        return json.dumps(value)
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


def record_rows(record: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[int, str, str | None]]:
    """What a record holds, line by line: how deep it is nested, the name, and the value as text,
    shortened, or None for a record within.
    """
    for name, value in record.items():
        label = name.replace("_", " ")
        if isinstance(value, dict) and value:
            yield depth, label, None
            yield from record_rows(value, depth + 1)
        elif value is None:
            # What the record of a training leaves empty was not used.
            yield depth, label, "none" if depth else "unknown"
        elif name == "command" and isinstance(value, list):
            yield depth, label, shlex.join(map(str, value))
        else:
            yield depth, label, _text(value)


def record_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """`record_rows` as lines of text."""
    for depth, name, text in record_rows(record):
        yield f"{'  ' * depth}{name}" + ("" if text is None else f": {text}")


def _text(value: Any) -> str:
    """One line: the beginning of a text, how many records or numbers there are; --json has all of
    it.
    """
    if isinstance(value, list | dict):
        if value and all(isinstance(entry, dict) for entry in value):
            return f"{len(value)} records, see --json"
        if len(value) > _LISTED and all(isinstance(entry, int | float) for entry in value):
            return f"{len(value)} numbers, see --json"
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    line, more, _ = str(value).partition("\n")
    return f"{line[:_LONGEST]} ..." if more and len(line) > _LONGEST else line
