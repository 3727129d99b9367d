"""A table of estimates, as text, Markdown, CSV and plain data."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aeanet.scoring.confidence import Estimate


@dataclass(frozen=True)
class Column:
    """A column, the digits of its numbers after the point, and whether its highest number is set in
    bold.
    """

    title: str
    digits: int = 2
    best: bool = False


Cell = str | Estimate | None


@dataclass(frozen=True)
class Table:
    """A table of text and estimates; None is an empty cell."""

    key: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def shown(self) -> list[list[tuple[str, bool]]]:
        """Each cell's text, and whether it is the best of its column."""
        highest = [self._highest(index) for index in range(len(self.columns))]
        return [
            [
                (self._text(cell, column), isinstance(cell, Estimate) and cell.mean == top)
                for cell, column, top in zip(row, self.columns, highest, strict=True)
            ]
            for row in self.rows
        ]

    def _highest(self, index: int) -> float | None:
        """The highest number of a column in which it is set in bold."""
        cells = [row[index] for row in self.rows if self.columns[index].best]
        return max((cell.mean for cell in cells if isinstance(cell, Estimate)), default=None)

    def markdown(self) -> str:
        lines = [
            [column.title for column in self.columns],
            ["---"] + ["---:"] * (len(self.columns) - 1),
        ]
        lines += [[f"**{text}**" if best else text for text, best in row] for row in self.shown()]
        escaped = [[text.replace("|", r"\|") for text in line] for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in escaped)

    def csv(self) -> str:
        """In full precision. An estimate has three columns: its mean and the two ends of its 95 %
        interval.
        """
        lines: list[list[Any]] = [[] for _ in range(1 + len(self.rows))]
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            wide = any(isinstance(cell, Estimate) for cell in cells)
            lines[0] += [column.title + end for end in (("", " low", " high") if wide else ("",))]
            for line, cell in zip(lines[1:], cells, strict=True):
                line += _numbers(cell) if wide else [cell]
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(lines)
        return buffer.getvalue()

    def record(self) -> dict[str, Any]:
        """Plain data; an estimate is {"mean", "interval"}."""
        return {
            "title": self.title,
            "columns": [column.title for column in self.columns],
            "rows": [[_plain(cell) for cell in row] for row in self.rows],
        }

    def _text(self, cell: Cell, column: Column) -> str:
        if isinstance(cell, Estimate):
            return cell.text(column.digits)
        return "–" if cell is None else cell


def _plain(cell: Cell) -> Any:
    if not isinstance(cell, Estimate):
        return cell
    interval = cell.interval and [round(end, 5) for end in cell.interval]
    return {"mean": round(cell.mean, 5), "interval": interval}


def _numbers(cell: Cell) -> list[float | str | None]:
    if isinstance(cell, Estimate):
        return [cell.mean, *(cell.interval or (None, None))]
    return [cell, None, None]
