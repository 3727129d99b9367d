"""Relevance of the shared references over images, the paper's Fig. 5."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aeanet.figures.style import bare, grey_limits, show_image
from aeanet.inference.relevance import SHOWN

# Its lightness rises evenly, so it can be read in print and by the colour-blind.
COLOURMAP = "inferno"


def draw_heatmaps(
    names: Sequence[str], images: Sequence[NDArray], maps: Sequence[NDArray], chosen: Sequence[int]
) -> Figure:
    """A line for each image, a column for each reference; brighter is more relevant.

    Args:
        names, images: of the lines; each image is (H, W).
        maps: of all R references in each image, (R, h, w), on any coarser grid.
        chosen: the references to show. The maps of a column have one colour scale, between the
            percentiles `SHOWN` over all images.
    """
    # In inches: a panel, between panels, around them for words; below them the colour scales.
    width, gap, edge = 1.75, 0.06, 0.25
    heights = [*(width * image.shape[0] / image.shape[1] for image in images), 0.08]
    columns = 1 + len(chosen)
    size = columns * (width + gap) + 2 * edge, sum(heights) + len(images) * gap + 2 * edge
    figure = Figure(figsize=size)
    figure.subplots_adjust(
        left=edge / size[0],
        right=1 - edge / size[0],
        bottom=edge / size[1],
        top=1 - edge / size[1],
        wspace=gap / width,
        hspace=gap / float(np.mean(heights)),
    )
    *axes, scales = figure.subplots(len(heights), columns, height_ratios=heights, squeeze=False)
    scales[0].set_axis_off()

    # the images themselves, in greys of their own
    for name, image, line in zip(names, images, axes, strict=True):
        show_image(line[0], image, grey_limits(image))
        line[0].set_ylabel(name, fontsize=8)
    axes[0][0].set_title("input", fontsize=9)

    # one colour scale for a column, without extremes, so that images can be compared
    for index, reference in enumerate(chosen, 1):
        column, scale = [line[index] for line in axes], scales[index]
        shown = [of_image[reference] for of_image in maps]
        low, high = np.percentile(np.concatenate([values.ravel() for values in shown]), SHOWN)
        for values, axis in zip(shown, column, strict=True):
            heat = axis.imshow(values, cmap=COLOURMAP, vmin=low, vmax=high, interpolation="nearest")
            bare(axis)
        column[0].set_title(f"reference {reference}", fontsize=9)
        bar = figure.colorbar(heat, cax=scale, orientation="horizontal", ticks=MaxNLocator(3))
        bar.outline.set_visible(False)
        scale.tick_params(labelsize=7, length=2)
    return figure
