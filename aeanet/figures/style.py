"""The style of all figures, on a white or a black background."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

HIGHLIGHT = "#ffb000"  # visible on any grey, also for the colour-blind
# The colours of Okabe and Ito, distinct also for the colour-blind; neighbours differ in lightness.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
DPI = 200

Drawing = Callable[[], Figure]


def render(draw: Drawing, kind: str = "png", *, dark: bool = False) -> bytes:
    """The file of a figure.

    Args:
        draw: makes the figure.
        kind: "png", or "webp", which has a transparent background.
        dark: whether it is for a dark page.
    """
    # one ink for all words and lines, and a faint one for the grid
    ink, faint = ("#e8e8e8", "#4a4a4a") if dark else ("#1a1a1a", "#d0d0d0")
    look: Any = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "axes.titlecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "font.size": 9,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": faint,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "text.parse_math": False,  # names of files may hold dollars
    }

    # a WebP has no background, so that it lies on that of the page
    webp = kind == "webp"
    compression = {"quality": 88, "method": 4} if webp else None

    # The figure is drawn under these settings, not only written under them.
    buffer = BytesIO()
    with rc_context(look):
        draw().savefig(buffer, format=kind, dpi=DPI, transparent=webp, pil_kwargs=compression)
    return buffer.getvalue()


def tight() -> ConstrainedLayoutEngine:
    """A layout with little space between the panels."""
    return ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)


def show_image(
    axis: Axes, image: NDArray, limits: tuple[float, float], frame: str | None = None
) -> None:
    """A grey image without ticks; `frame` is the colour of its border, none by default."""
    axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    bare(axis, frame)


def bare(axis: Axes, frame: str | None = None) -> None:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, edgecolor=frame, linewidth=1.5)


def grey_limits(hr: NDArray) -> tuple[float, float]:
    """Black and white of all panels that show one field: nearly the extremes of HR."""
    low, high = np.percentile(hr, (0.3, 99.7))
    return float(low), float(high)
