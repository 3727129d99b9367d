"""Tables, as plain text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows, of one length each, one a line; columns are as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html_table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), caption: str = "") -> str:
    """The rows as a table of a web page or a notebook. Texts are escaped.

    Args:
        rows: texts of one length each.
        head: names of the columns.
        caption: what the table is.
    """
    parts = ["<table>"]
    if caption:
        parts.append(f'<caption style="text-align: left">{escape(caption)}</caption>')
    if head:
        parts.append(f"<thead>{_html_row(head, 'th')}</thead>")
    parts.append("<tbody>")
    parts += [_html_row(row, "td") for row in rows]
    parts.append("</tbody></table>")
    return "\n".join(parts)


def _html_row(cells: Sequence[str], tag: str) -> str:
    opening = f'<{tag} style="text-align: left">'
    return f"<tr>{''.join(f'{opening}{escape(cell)}</{tag}>' for cell in cells)}</tr>"
