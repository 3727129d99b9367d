"""LR, results and HR side by side: one whole pair with a detail of it, or crops of several pairs
(the paper's Fig. 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, sobel, uniform_filter

from aeanet.data.crops import Region, split_3x4
from aeanet.data.registration import RegisteredPair
from aeanet.figures.style import HIGHLIGHT, grey_limits, render, show_image, tight
from aeanet.imaging.metrics import psnr
from aeanet.io.atomic import write_atomically
from aeanet.scoring.evaluation import Score

CROP = 112  # px: side of the crops of Fig. 4, at most a third of the test columns' width


def draw_comparison(path: Path, pair: RegisteredPair, restored: NDArray, score: Score) -> None:
    """Write a PNG of one pair: bicubic LR, the result and HR, their scores, and below each an
    enlarged detail.

    The detail is a sixth of the field wide, where there is most structure. All panels have the same
    grey scale.

    Args:
        path: of the file.
        pair: the registered pair.
        restored: (H, W) in [0, 1], on the grid of the pair.
        score: of the result.

    Raises:
        OSError: naming the file.
    """
    height, width = pair.hr.shape
    everything = slice(0, height), slice(0, width)
    rows, columns = _detail(pair, everything, (max(1, height // 6), max(1, width // 6)))
    panels = (
        ("LR, bicubic", pair.lr, f"{score.psnr_bicubic:.2f} dB · SSIM {score.ssim_bicubic:.3f}"),
        ("super-resolved", restored, f"{score.psnr:.2f} dB · SSIM {score.ssim:.3f}"),
        ("HR, the truth", pair.hr, pair.name),
    )

    def draw() -> Figure:
        panel = 3.4  # inches
        detail_height = panel * (rows.stop - rows.start) / (columns.stop - columns.start)
        size = 3 * panel, panel * height / width + detail_height + 0.6
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(2, 3, height_ratios=(panel * height / width, detail_height))
        for (title, image, caption), whole, detail in zip(panels, *axes, strict=True):
            show_image(whole, image, grey_limits(pair.hr))
            show_image(detail, image[rows, columns], grey_limits(pair.hr), HIGHLIGHT)
            whole.set_title(f"{title}\n", fontsize=11, fontweight="bold")
            whole.text(0.5, 1.02, caption, transform=whole.transAxes, ha="center", va="bottom")
            whole.add_patch(_frame(rows, columns))
        return figure

    write_atomically(path, render(draw))


@dataclass(frozen=True)
class CropRow:
    """One line of Fig. 4.

    Attributes:
        pair: the registered pair.
        crop: rows and columns in its test columns.
        panels: title -> the image of the crop, and its PSNR in dB.
    """

    pair: RegisteredPair
    crop: Region
    panels: dict[str, tuple[NDArray, float | None]]


def crop_row(pair: RegisteredPair, results: Mapping[str, NDArray]) -> CropRow:
    """The crop of the test columns with most structure, from LR, the results (title -> (H, W)) and
    HR.
    """
    region = _test_columns(pair)
    side = min(CROP, (region[1].stop - region[1].start) // 3, pair.hr.shape[0] // 2)
    crop = _detail(pair, region, (side, side))
    truth, valid = pair.hr[crop], pair.mask[crop]
    shown = {"LR, bicubic": np.clip(pair.lr, 0, 1), **results}
    panels: dict[str, tuple[NDArray, float | None]] = {
        title: (image[crop], psnr(image[crop], truth, valid) if valid.any() else None)
        for title, image in shown.items()
    }
    return CropRow(pair, crop, panels | {"HR, the truth": (truth, None)})


def draw_crops(lines: Sequence[CropRow]) -> Figure:
    """The paper's Fig. 4: a line for each pair, with its HR test columns and a crop of them by each
    method.
    """
    # the first column is narrow, as the test columns are
    titles = ["test columns", *lines[0].panels]
    panel = 1.55  # inches
    size = panel * (len(titles) - 0.38), (panel + 0.2) * len(lines) + 0.25
    figure = Figure(figsize=size, layout=tight())
    widths = [0.55] + [1] * (len(titles) - 1)
    axes = figure.subplots(len(lines), len(titles), squeeze=False, width_ratios=widths)

    for row, (context, *crops) in zip(lines, axes, strict=True):
        # The test columns, with a frame where the crop lies in them.
        limits = grey_limits(row.pair.hr)
        region = _test_columns(row.pair)
        show_image(context, row.pair.hr[region], limits)
        rows, columns = (
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(row.crop, region, strict=True)
        )
        context.add_patch(_frame(rows, columns))
        context.set_xlabel(row.pair.name, fontsize=8)

        # in the greys of the whole HR, so that brightness can be compared along a line
        for axis, (image, decibel) in zip(crops, row.panels.values(), strict=True):
            show_image(axis, image, limits)
            axis.set_xlabel("" if decibel is None else f"{decibel:.2f} dB", fontsize=8)

    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    return figure


def _test_columns(pair: RegisteredPair) -> Region:
    tests = split_3x4(pair.hr.shape)[1]
    return slice(tests[0][0].start, tests[-1][0].stop), tests[0][1]


def _frame(rows: slice, columns: slice) -> Rectangle:
    width, height = columns.stop - columns.start, rows.stop - rows.start
    corner = columns.start, rows.start
    return Rectangle(corner, width, height, fill=False, edgecolor=HIGHLIGHT, linewidth=1.5)


def _detail(pair: RegisteredPair, region: Region, window: tuple[int, int]) -> Region:
    """The window of a region with most structure, evenly spread: the highest mean of the root of
    HR's gradient.

    Args:
        pair: the registered pair.
        region: rows and columns of it.
        window: height and width of the window, px.
    """
    smooth = gaussian_filter(pair.hr, 2)
    gradient = np.hypot(sobel(smooth, axis=0), sobel(smooth, axis=1))
    structure = uniform_filter((np.sqrt(gradient) * pair.mask)[region], window, mode="constant")

    # The centres of windows that lie wholly in the region.
    tall, wide = window
    height, width = structure.shape
    inner = structure[tall // 2 : height - tall // 2, wide // 2 : width - wide // 2]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    top = region[0].start + min(row, height - tall)
    left = region[1].start + min(column, width - wide)
    return slice(top, top + tall), slice(left, left + wide)
