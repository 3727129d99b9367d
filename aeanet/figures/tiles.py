"""Quality against tile size, the paper's Fig. 6."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from aeanet.figures.style import COLOURS


@dataclass(frozen=True)
class Curve:
    """A model's mean Δ PSNR (dB) for each tile side (px): tiles each alone and stitched, tiles sharing their sums; and
    for the whole image."""

    label: str
    sizes: Sequence[int]
    stitched: Sequence[float]
    exact: Sequence[float]
    whole: float


def draw_curves(curves: Sequence[Curve]) -> Figure:
    """A colour a model: filled marks for stitched tiles, open ones for exact tiling, both ending in the whole image."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axis = figure.subplots()
    sizes = list(curves[0].sizes)
    places = np.arange(len(sizes) + 1)
    for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
        axis.plot(
            places, [*curve.exact, curve.whole], "o--", color=colour, markerfacecolor="none", linewidth=1, markersize=5
        )
        axis.plot(
            places, [*curve.stitched, curve.whole], "o-", color=colour, linewidth=1.6, markersize=5, label=curve.label
        )
    axis.plot([], [], "o-", color="gray", markersize=5, label="tiles alone, stitched")
    axis.plot([], [], "o--", color="gray", markerfacecolor="none", linewidth=1, markersize=5, label="exact tiling")
    axis.set_xticks(places, [*map(str, sizes), "whole\nimage"])
    axis.set_xlabel("tile side (px)")
    axis.set_ylabel("Δ PSNR (dB)")
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    figure.legend(loc="outside right center", fontsize=8)
    return figure
