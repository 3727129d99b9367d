"""Figures of what has many named rows; matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.2
"""Inches that a row takes."""
_LONGEST = 44  # characters of a name


def new_figure(width: float, rows: int) -> Figure:
    """An empty figure, `width` inches wide and as high as so many rows need.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError("a plot needs the package matplotlib: pip install matplotlib.") from error
    return Figure(figsize=(width, 1.2 + ROW * max(rows, 6)), layout="constrained")


def shortened(name: str) -> str:
    """A name without the middle if it is long."""
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a panel, from the top down."""
    shown = [shortened(name) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize="x-small", parse_math=False)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)


def bars(
    names: Sequence[str],
    numbers: Sequence[float],
    *,
    title: str,
    label: str,
    kinds: Sequence[str] = (),
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """A bar for each name, from the top down.

    Args:
        names, numbers: of the bars.
        title: of the figure.
        label: of the numbers.
        kinds: of the bars, which have the colour of their kind.
        colours: of each kind that there may be.

    Raises:
        ImportError: matplotlib is not installed.
    """
    # numbers stand at the ends of the bars, where the margin leaves room for them
    figure = new_figure(7, len(names))
    axes = figure.subplots()
    painted = [(colours or {}).get(kind, "C0") for kind in kinds] or "C0"
    drawn = axes.barh(range(len(names)), numbers, color=painted)
    axes.bar_label(drawn, fmt="{:,.0f}", fontsize="x-small", padding=2)
    axes.margins(x=0.15)
    name_rows(axes, names)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(title, fontsize="medium", parse_math=False)

    # The legend has the kinds that are there; it may not lie on a bar.
    for kind in dict.fromkeys(kinds):
        axes.barh([0], [0], color=(colours or {}).get(kind, "C0"), label=kind)
    if kinds:
        figure.legend(loc="outside lower center", ncols=len({*kinds}), fontsize="small")
    return figure
