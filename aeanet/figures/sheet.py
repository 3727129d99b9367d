"""A contact sheet of the simulator: kinds of specimens in rows, scans in columns, each LR beside
its target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from aeanet.data.synthetic.acquisition import Acquisition
from aeanet.data.synthetic.examples import Example, simulate_example
from aeanet.data.synthetic.scenes import KINDS, draw_scene
from aeanet.figures.style import bare, tight


def draw_sheet(
    seed: int = 0, *, kinds: Sequence[str] = KINDS, columns: int = 4, side: int = 224
) -> Figure:
    """Specimens of each kind, each with settings drawn as for training.

    Left halves are LR interpolated onto the HR grid, right halves the targets. A caption says the
    magnification, the standard deviation of the noise in grey levels, and what else disturbs the
    scan. All have one grey scale.

    Args:
        seed: of the specimens and the scans.
        kinds: the rows.
        columns: specimens of each kind.
        side: of the squares, HR px.
    """
    panel = 3.0  # inches, of LR and HR together
    figure = Figure(figsize=(columns * panel, len(kinds) * (panel / 2 + 0.2)), layout=tight())
    axes = figure.subplots(len(kinds), columns, squeeze=False)

    for row, kind in enumerate(kinds):
        for column in range(columns):
            rng = np.random.default_rng((seed, row, column))
            scene = draw_scene(rng, (side + 128, side + 128), kind)
            example = simulate_example(
                scene, Acquisition.draw(rng), rng, origin=(64, 64), crop=side
            )
            axis = axes[row, column]
            both = np.hstack([example.lr, np.ones((side, side // 56), np.float32), example.hr])
            axis.imshow(both, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(_caption(example), fontsize=6, pad=2)
            bare(axis)
        axes[row, 0].set_ylabel(kind, fontsize=9)
    return figure


def _caption(example: Example) -> str:
    settings = example.acquisition
    parts = [f"{example.magnification:.1f}x", f"noise {255 * example.noise:.1f}"]
    if settings.spot > 0.8:
        parts.append("defocused")
    if settings.astigmatism > 1.3:
        parts.append("astigmatic")
    if settings.vibration > 0.5:
        parts.append("vibration")
    disturbances = ("stripes", "charging", "streaks", "hum", "spikes", "smoothing")
    return ", ".join([*parts, *(name for name in disturbances if getattr(settings, name) > 0)])
