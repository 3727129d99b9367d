"""Gain against time, drawn from the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aeanet.figures.style import COLOURS, render

from ..denoising.methods import METHODS
from ..denoising.networks import FEWER_FLIPS, SHIPPED
from ..denoising.scores import Scores
from ..denoising.table import mean_gains

_LABEL = {"textcoords": "offset points", "fontsize": 8}
TITLES = {4: SHIPPED, **{flips: title for title, flips in FEWER_FLIPS.items()}}
"""The rows of the comparison of denoisers, by the flips."""


def draw(record: dict[str, Any], scores: Scores) -> Figure:
    """A point for each method: seconds of one more image of a folder, and its gain; a line for the
    shipped model, with one flip and with four, in each precision.
    """
    # gains are of all pairs, times of one image: both by the titles of the comparison
    gain_of = mean_gains(scores, sorted(scores.bicubic))
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()

    # the shipped model: a line from one flip to four, for each precision
    for number, precision in enumerate(dict.fromkeys(row["precision"] for row in record["rows"])):
        rows = [row for row in record["rows"] if row["precision"] == precision]
        seconds = [row["further_seconds"] for row in rows]
        gains = [gain_of[TITLES[row["flips"]]] for row in rows]
        axis.plot(seconds, gains, "o-", color=COLOURS[number], label=f"{SHIPPED}, {precision}")
        for row, x, y in zip(rows, seconds, gains, strict=True):
            flips = "1 flip" if row["flips"] == 1 else f"{row['flips']} flips"
            apart = 6 if number else -13  # points: above the marker, or below
            axis.annotate(flips, (x, y), (0, apart), ha="center", **_LABEL)

    # the others: a point each, since their strength is fixed
    for name, found in record["others"].items():
        title = METHODS[name].title
        place = found["further_seconds"], gain_of[title]
        axis.plot(*place, "s", color="0.5")
        axis.annotate(title, place, (0, 6), ha="center", **_LABEL)

    # times differ by orders of magnitude
    width, height = record["result"]
    axis.set(
        xscale="log",
        xlabel=f"seconds for one more image of {width} x {height} px",
        ylabel="Δ PSNR over bicubic (dB)",
    )
    axis.margins(0.12)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid()
    axis.legend(loc="lower right")
    return figure


def write(record: dict[str, Any], scores: Scores, path: Path) -> None:
    path.write_bytes(render(lambda: draw(record, scores)))
