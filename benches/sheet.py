"""`python -m benches.sheet OUT.png`: a contact sheet of the simulator, kinds of specimens in rows,
scans in columns, each LR beside its target.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aeanet.data.synthetic import KINDS, Acquisition, Example, draw_scene, simulate_example
from aeanet.figures.style import render, show_image, tight
from aeanet.io.atomic import write_atomically

PANEL = 3.0  # inches, of LR and HR together


def draw_sheet(
    seed: int = 0, *, kinds: Sequence[str] = KINDS, columns: int = 4, side: int = 224
) -> Figure:
    """`columns` specimens of each kind, each with settings drawn as for training, in squares of
    `side` HR px.

    Left halves are LR interpolated onto the HR grid, right halves the targets. A caption says the
    magnification, the standard deviation of the noise in grey levels, and what else disturbs the
    scan. All have one grey scale.
    """
    # a generator for each square: more rows or columns leave the others as they are
    figure = Figure(figsize=(columns * PANEL, len(kinds) * (PANEL / 2 + 0.2)), layout=tight())
    axes = figure.subplots(len(kinds), columns, squeeze=False)
    gap = np.ones((side, side // 56), np.float32)
    for row, kind in enumerate(kinds):
        for column in range(columns):
            rng = np.random.default_rng((seed, row, column))

            # the scene is larger than the scan, whose drift and blur reach beyond its edges
            scene = draw_scene(rng, (side + 128, side + 128), kind)
            settings = Acquisition.draw(rng)
            example = simulate_example(scene, settings, rng, origin=(64, 64), crop=side)
            axis = axes[row, column]
            show_image(axis, np.hstack([example.lr, gap, example.hr]), (0, 1))
            axis.set_title(_caption(example), fontsize=6, pad=2)
        axes[row, 0].set_ylabel(kind, fontsize=9)
    return figure


def _caption(example: Example) -> str:
    # strengths are always drawn, so they are named only where one would see them
    settings = example.acquisition
    parts = [f"{example.magnification:.1f}x", f"noise {255 * example.noise:.1f}"]
    if settings.spot > 0.8:
        parts.append("defocused")
    if settings.astigmatism > 1.3:
        parts.append("astigmatic")
    if settings.vibration > 0.5:
        parts.append("vibration")

    # these are zero unless the scan has them
    disturbances = (
        "stripes",
        "charging",
        "streaks",
        "hum",
        "spikes",
        "slow",
        "smoothing",
        "across",
        "resampled",
    )
    return ", ".join([*parts, *(name for name in disturbances if getattr(settings, name) > 0)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.sheet", description=__doc__)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the specimens and the scans; default 0"
    )
    parser.add_argument("--columns", type=int, default=4, help="specimens of each kind; default 4")
    options = parser.parse_args()
    write_atomically(options.out, render(lambda: draw_sheet(options.seed, columns=options.columns)))


if __name__ == "__main__":
    main()
