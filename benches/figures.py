"""Figures from a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contenders import COMPILED, COPY, OUR_NAMES, PRODUCTS
from .report import Record, scaling, slope

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAP_HEADS = 2
"""Heads of the map in the scaling suite."""
CARD = 80e9
"""Memory of the card on which the map stops fitting, bytes."""
PAGE = 4096
"""The least resident memory that can be told from none, bytes."""
COMPARED = (*OUR_NAMES, COMPILED, "torch.compile", "plain eager")
GREY = {"fontsize": 8, "color": "gray"}


def figures(record: Record, folder: Path, name: str) -> list[Path]:
    """Draw what the record has: `NAME-scaling.png` and `NAME-relative.png` in `folder`."""
    drawn = []
    for what, draw in (("scaling", draw_scaling), ("relative", draw_relative)):
        figure = draw(record)
        if figure is not None:
            drawn.append(folder / f"{name}-{what}.png")
            figure.savefig(drawn[-1], dpi=130)
    return drawn


def draw_scaling(record: Record) -> Figure | None:
    """Time and memory of each contender against the image's side; None without the suite."""
    from matplotlib.figure import Figure

    if not scaling(record):
        return None
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_times(upper, record)
    _draw_memory(lower, record)

    # beyond this side the map of scores is larger than the card
    limit = (CARD / 4 / MAP_HEADS) ** 0.25
    for axes in (upper, lower):
        axes.axvline(limit, color="gray", linestyle=":")
        axes.set_xscale("log", base=2)
        axes.legend(fontsize=8, frameon=False)
    text = "beyond, no card of\n80 GB holds the map"
    upper.text(limit * 1.05, upper.get_ylim()[1] / 1.5, text, va="top", **GREY)
    upper.set_title(f"{record['device']}, torch {record['torch']}", fontsize=9)
    return figure


def _draw_times(axes: Axes, record: Record) -> None:
    for contender, curve in scaling(record).items():
        steep = "" if len(curve) < 4 else f": slope {slope(curve):.2f} in positions"
        _draw_curve(axes, contender, curve, contender + steep)
    axes.set(ylabel="block, inference, ms")


def _draw_memory(axes: Axes, record: Record) -> None:
    # a logarithm has no zero, so no memory is drawn as the least that can be told from it
    for contender, curve in scaling(record, "bytes").items():
        if contender != COPY:
            megabytes = [(side, max(value, PAGE) / 1e6) for side, value in curve]
            _draw_curve(axes, contender, megabytes, contender)

    # what the map alone would take, up to sides that nobody can run, and where a card ends
    sides = [2**i for i in range(5, 13)]
    maps = [MAP_HEADS * 4 * side**4 / 1e6 for side in sides]
    label = "the map alone, computed"
    axes.loglog(sides, maps, color="gray", linestyle="--", linewidth=1, label=label)
    axes.axhline(CARD / 1e6, color="gray", linestyle=":")
    axes.text(sides[0], CARD / 1e6 * 1.3, f"{CARD / 1e9:.0f} GB", **GREY)
    axes.set(
        xlabel="image side, pixels (32 channels, float32)",
        ylabel="memory beyond input and output, MB",
    )


def _draw_curve(axes: Axes, contender: str, curve: list[tuple[int, float]], label: str) -> None:
    sides, values = zip(*curve, strict=True)
    width = 2.5 if contender in OUR_NAMES else 1.2
    axes.loglog(sides, values, marker="o", markersize=4, linewidth=width, label=label)


def draw_relative(record: Record) -> Figure | None:
    """Inference of the block over the slower of two yardsticks; None without the suite."""
    from matplotlib.figure import Figure

    # a group of bars for each case, a bar for each contender that any case has
    times = relative_times(record)
    if not times:
        return None
    cases = list(dict.fromkeys(case for case, _ in times))
    figure = Figure(figsize=(7, 1 + 0.5 * len(cases)), layout="constrained")
    axes = figure.subplots()
    compared = [name for name in COMPARED if any(name == found for _, found in times)]

    # bars of a group lie side by side around the line of their case
    step = 0.78 / len(compared)
    for number, contender in enumerate(compared):
        rows = [row for row, case in enumerate(cases) if (case, contender) in times]
        middles = [row + step * (number - (len(compared) - 1) / 2) for row in rows]
        widths = [times[cases[row], contender] for row in rows]
        axes.barh(middles, widths, height=0.92 * step, label=contender)

    # the yardstick is 1; the first case is at the top
    axes.axvline(1, color="gray", linestyle=":")
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel=f"time of inference; 1 is {PRODUCTS}, or moving the bytes if that is slower")
    axes.legend(fontsize=8, frameon=False)
    return figure


def relative_times(record: Record) -> dict[tuple[str, str], float]:
    """(case, contender) -> time over the slower of two library products and three halves of a
    copy, which are the two reads and the write that the block needs.
    """
    # only forward passes of the block that were timed beside both yardsticks
    found: dict[tuple[str, str], float] = {}
    for group, results in record["groups"].items():
        if not group.startswith("block | ") or not group.endswith("| forward"):
            continue
        products, copy = (_median(results, name) for name in (PRODUCTS, COPY))
        if products is None or copy is None:
            continue

        # an ideal kernel is bound by the slower of both: by its products or by its bytes
        case = ", ".join(group.split(" | ")[1:-1])
        for contender in COMPARED:
            median = _median(results, contender)
            if median is not None:
                found[case, contender] = median / max(products, 1.5 * copy)
    return found


def _median(results: dict[str, Any], contender: str) -> float | None:
    median: float | None = results.get(contender, {}).get("median")
    return median
