"""The drift of repeated scans, frame after frame."""

import numpy as np
from matplotlib.figure import Figure

from aeanet.data.frames import AlignedFrames
from aeanet.figures.style import COLOURS


def draw_drift(aligned: AlignedFrames) -> Figure:
    """Where each line of each frame lies, against the time in frames."""
    # a frame takes the time around its number, and each line its share of that
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    axes = figure.subplots()
    number, lines, _ = aligned.displacement.shape
    within = (np.arange(lines) + 0.5) / lines + 0.5
    for axis, name, colour in ((1, "along the lines (x)", 0), (0, "across them (y)", 1)):
        for n in aligned.used:
            label = name if n == aligned.used[0] else None
            moved = aligned.displacement[n, :, axis]
            axes.plot(n + within, moved, color=COLOURS[colour], label=label)

    # of a frame that was left out only the time is shown; one of them is in the legend
    for index, n in enumerate(sorted(aligned.left_out)):
        label = "left out" if index == 0 else None
        axes.axvspan(n + 0.5, n + 1.5, color="0.5", alpha=0.25, linewidth=0, label=label)

    # of many frames only some have their number
    axes.set_xlim(0.5, number + 0.5)
    axes.set_xticks(np.arange(1, number + 1, max(1, number // 16)))
    axes.set(xlabel="frame", ylabel="drift, px")
    axes.grid(axis="y")
    axes.legend()
    return figure
