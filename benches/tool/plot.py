"""Gain against time, drawn from the record."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aeanet.figures.style import COLOURS, render

from ..denoising.methods import METHODS
from ..denoising.networks import FEWER_FLIPS, SHIPPED
from ..denoising.scores import Scores

_LABEL = {"textcoords": "offset points", "fontsize": 8}
TITLES = {4: SHIPPED, **{flips: title for title, flips in FEWER_FLIPS.items()}}
"""The rows of the comparison of denoisers, by the flips."""


def gain_of_method(name: str, scores: Scores) -> float:
    """Mean over the real pairs, dB, with the one strength that is best for them."""
    place, strength = scores.place_and_strength(name)
    gains = scores.whole[name][place][str(strength)]
    return statistics.fmean(gain[0] for gain in gains.values())


def gain_of_shipped(flips: int, scores: Scores) -> float:
    return statistics.fmean(gain[0] for gain in scores.models[TITLES[flips]].values())


def draw(record: dict[str, Any], scores: Scores) -> Figure:
    """A point for each method: seconds of one more image of a folder, and its gain; a line for the
    shipped model, with one flip and with four, in each precision.
    """
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axis = figure.subplots()
    for number, precision in enumerate(dict.fromkeys(row["precision"] for row in record["rows"])):
        rows = [row for row in record["rows"] if row["precision"] == precision]
        seconds = [row["further_seconds"] for row in rows]
        gains = [gain_of_shipped(row["flips"], scores) for row in rows]
        axis.plot(seconds, gains, "o-", color=COLOURS[number], label=f"{SHIPPED}, {precision}")
        for row, x, y in zip(rows, seconds, gains, strict=True):
            flips = "1 flip" if row["flips"] == 1 else f"{row['flips']} flips"
            apart = 6 if number else -13  # points: above the marker, or below
            axis.annotate(flips, (x, y), (0, apart), ha="center", **_LABEL)
    for name, found in record["others"].items():
        place = found["further_seconds"], gain_of_method(name, scores)
        axis.plot(*place, "s", color="0.5")
        axis.annotate(METHODS[name].title, place, (0, 6), ha="center", **_LABEL)
    axis.set(
        xscale="log",
        xlabel="seconds for one more image of 1280 x 944 px",
        ylabel="Δ PSNR over bicubic (dB)",
    )
    axis.margins(0.12)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid()
    axis.legend(loc="lower right")
    return figure


def write(record: dict[str, Any], scores: Scores, path: Path) -> None:
    path.write_bytes(render(lambda: draw(record, scores)))
