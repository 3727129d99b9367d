"""What the pages of all commands share."""

import csv
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from aeanet.cli.shared import note, warn
from aeanet.errors import sentence_or_raise
from aeanet.page import Cell, Facts, Page, Part, Section, Table, Text, write_page

_FOR_LOOKING = (
    "The pictures have 8 bits, and may have lost some detail: they are for looking. Measure in the "
    "files of the results."
)


def save_page(file: Path, page: Page) -> bool:
    """Write a page, and say where it is. If that fails it is said why, and nothing else is lost.

    Returns:
        Whether it was written.
    """
    try:
        write_page(file, page)
    except OSError as error:
        warn(f"The page is not written, the results are: {sentence_or_raise(error)}")
        return False
    note(f"{file}: a page to look at.")
    return True


def how_it_was_made(settings: Sequence[tuple[str, str]], *, pictures: bool = True) -> Section:
    """The last section of a page: settings and versions."""
    import torch

    versions = f"aeanet {version('aeanet')}, torch {torch.__version__}"
    facts = Facts([*settings, ("versions", f"{versions}, Python {platform.python_version()}")])
    parts: list[Part] = [Text([_FOR_LOOKING], look="soft"), facts] if pictures else [facts]
    return Section("How this was made", parts, "made")


def table_of(text: str, name: str) -> Table:
    """A table of CSV, which can be sorted, and saved under its name."""
    head, *lines = csv.reader(text.splitlines())
    return Table(
        head, [[cell_of(value) for value in line] for line in lines], "", True, {name: text}
    )


def cell_of(text: str) -> Cell:
    """A cell that is sorted by its number, if it has one."""
    try:
        return Cell(text, float(text))
    except ValueError:
        return Cell(text)
