"""Pictures: LR, the network's result and HR side by side, the whole field and a detail of it."""

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, sobel, uniform_filter

from aeanet.evaluation import Score
from aeanet.files import write_atomically
from aeanet.registration import RegisteredPair

_HIGHLIGHT = "#ffb000"  # readable on any grey, and by the colour-blind


def draw_comparison(path: Path, pair: RegisteredPair, restored: NDArray, score: Score) -> None:
    """Write a PNG of one pair: bicubic LR, the result and HR, their scores, and below each the same detail enlarged.

    The detail is the richest in structure. All panels share one grey scale. `restored` is (H, W) in [0, 1], on the
    pair's grid. Raises OSError, naming the file.
    """
    rows, columns = _detail(pair)
    low, high = np.percentile(pair.hr, (0.3, 99.7))
    panels = (
        ("LR, bicubic", pair.lr, f"{score.psnr_bicubic:.2f} dB · SSIM {score.ssim_bicubic:.3f}"),
        ("super-resolved", restored, f"{score.psnr:.2f} dB · SSIM {score.ssim:.3f}"),
        ("HR, the truth", pair.hr, pair.name),
    )
    height, width = pair.hr.shape
    panel = 4.6  # inches
    detail_height = panel * (rows.stop - rows.start) / (columns.stop - columns.start)
    figure = Figure(figsize=(3 * panel, panel * height / width + detail_height + 0.75), dpi=150, layout="constrained")
    axes = figure.subplots(2, 3, height_ratios=(panel * height / width, detail_height))
    for (title, image, caption), whole, detail in zip(panels, *axes, strict=True):
        for axis, part in ((whole, image), (detail, image[rows, columns])):
            axis.imshow(part, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        whole.set_title(f"{title}\n", fontsize=13, fontweight="bold")
        whole.text(0.5, 1.02, caption, transform=whole.transAxes, ha="center", va="bottom", fontsize=11)
        corner = (columns.start, rows.start)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        whole.add_patch(Rectangle(corner, *size, fill=False, edgecolor=_HIGHLIGHT, linewidth=1.5))
        for spine in detail.spines.values():
            spine.set(edgecolor=_HIGHLIGHT, linewidth=2)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def _detail(pair: RegisteredPair) -> tuple[slice, slice]:
    """The window, a sixth of the field wide, of most and most even structure: the highest mean root gradient in HR."""
    height, width = pair.hr.shape
    window = (max(1, height // 6), max(1, width // 6))
    smooth = gaussian_filter(pair.hr, 2)
    gradient = np.hypot(sobel(smooth, axis=0), sobel(smooth, axis=1))
    structure = uniform_filter(np.sqrt(gradient) * pair.mask, window, mode="constant")
    margin = (window[0] // 2, window[1] // 2)
    inner = structure[margin[0] : height - margin[0], margin[1] : width - margin[1]]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    row, column = min(row, height - window[0]), min(column, width - window[1])
    return slice(row, row + window[0]), slice(column, column + window[1])
