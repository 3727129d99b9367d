"""Quality against tile size, the paper's Fig. 6."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aeanet.figures.style import COLOURS


@dataclass(frozen=True)
class Curve:
    """A model's mean Δ PSNR (dB) for each tile side.

    Attributes:
        label: of the model.
        sizes: the tile sides, px.
        stitched, exact: of tiles that attend to themselves, and of exact tiles.
        whole: of the whole image.
    """

    label: str
    sizes: Sequence[int]
    stitched: Sequence[float]
    exact: Sequence[float]
    whole: float


def draw_curves(curves: Sequence[Curve]) -> Figure:
    """A colour for each model, filled marks for stitched tiles, open marks for exact tiles.

    Left: Δ PSNR over bicubic interpolation, as in the paper. Right: its difference from that of
    the whole image.
    """
    # the whole image is the last place, at which both kinds of tiles meet
    figure = Figure(figsize=(8, 3.3), layout="constrained")
    absolute, relative = figure.subplots(1, 2)
    sizes = list(curves[0].sizes)
    places = np.arange(len(sizes) + 1)
    marks = {"marker": "o", "markersize": 5}
    exact_style: dict[str, Any] = {"ls": "--", "lw": 1, "mfc": "none"} | marks
    stitched_style: dict[str, Any] = {"ls": "-", "lw": 1.6} | marks

    # exact tiles first: the filled marks of the others lie on top
    for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
        for axis, origin in ((absolute, 0.0), (relative, curve.whole)):
            for values, style in ((curve.exact, exact_style), (curve.stitched, stitched_style)):
                shown = np.subtract([*values, curve.whole], origin)
                axis.plot(places, shown, color=colour, **style)

    # The legend names colours and marks apart: empty lines stand for them.
    models = [absolute.plot([], [], color=colour, lw=3)[0] for colour in COLOURS[: len(curves)]]
    styles = (stitched_style, exact_style)
    ways = [absolute.plot([], [], color="gray", **style)[0] for style in styles]
    labels = [*(curve.label for curve in curves), "tiles alone, stitched", "exact tiling"]
    figure.legend([*models, *ways], labels, loc="outside right center", fontsize=8)

    # sides are names at even distances, not numbers on a scale
    for axis, title in ((absolute, "Δ PSNR (dB)"), (relative, "tiles minus whole image (dB)")):
        axis.set_xticks(places, [*map(str, sizes), "whole\nimage"])
        axis.set(xlabel="tile side (px)", ylabel=title)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
    return figure
