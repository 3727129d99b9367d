"""LR, results and HR side by side: one whole pair with a detail of it, or crops of several pairs
(Fig. 4).
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
    grey scale. `restored` is (H, W) in [0, 1], on the grid of the pair. Raises OSError, naming the
    file.
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
    """One line of Fig. 4: a pair, a crop of its test columns, and title -> (image of the crop, its
    PSNR in dB).
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
    titles = list(lines[0].panels)
    panel = 1.55  # inches
    figure = Figure(
        figsize=(panel * (len(titles) + 0.62), (panel + 0.2) * len(lines) + 0.25), layout=tight()
    )
    axes = figure.subplots(
        len(lines), len(titles) + 1, squeeze=False, width_ratios=[0.55, *[1] * len(titles)]
    )
    for row, (context, *crops) in zip(lines, axes, strict=True):
        limits = grey_limits(row.pair.hr)
        region = _test_columns(row.pair)
        show_image(context, row.pair.hr[region], limits)
        rows, columns = (
            slice(c.start - r.start, c.stop - r.start)
            for c, r in zip(row.crop, region, strict=True)
        )
        context.add_patch(_frame(rows, columns))
        context.set_xlabel(row.pair.name, fontsize=8)
        for axis, (image, decibel) in zip(crops, row.panels.values(), strict=True):
            show_image(axis, image, limits)
            axis.set_xlabel("" if decibel is None else f"{decibel:.2f} dB", fontsize=8)
    for axis, title in zip(axes[0], ["test columns", *titles], strict=True):
        axis.set_title(title, fontsize=9)
    return figure


def _test_columns(pair: RegisteredPair) -> Region:
    tests = split_3x4(pair.hr.shape)[1]
    return slice(tests[0][0].start, tests[-1][0].stop), tests[0][1]


def _frame(rows: slice, columns: slice) -> Rectangle:
    corner, size = (
        (columns.start, rows.start),
        (columns.stop - columns.start, rows.stop - rows.start),
    )
    return Rectangle(corner, *size, fill=False, edgecolor=HIGHLIGHT, linewidth=1.5)


def _detail(pair: RegisteredPair, region: Region, window: tuple[int, int]) -> Region:
    """The window of a region with most structure, evenly spread: the highest mean of the root of
    HR's gradient.
    """
    smooth = gaussian_filter(pair.hr, 2)
    gradient = np.hypot(sobel(smooth, axis=0), sobel(smooth, axis=1))
    structure = uniform_filter((np.sqrt(gradient) * pair.mask)[region], window, mode="constant")
    margin = (window[0] // 2, window[1] // 2)
    height, width = structure.shape
    inner = structure[margin[0] : height - margin[0], margin[1] : width - margin[1]]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    row, column = (
        region[0].start + min(row, height - window[0]),
        region[1].start + min(column, width - window[1]),
    )
    return slice(row, row + window[0]), slice(column, column + window[1])
