"""Plots of matplotlib in a page."""

from io import BytesIO

from PIL import Image

from aeanet.figures.style import Drawing, render
from aeanet.page.content import Plot
from aeanet.page.pictures import Picture


def plotted(alt: str, caption: str, draw: Drawing) -> Plot:
    """A plot for a white and for a black page.

    Args:
        alt: what it shows, for those who do not see it.
        caption: said below it.
        draw: makes the figure.
    """
    return Plot(alt, caption, _drawn(draw, dark=False), _drawn(draw, dark=True))


def _drawn(draw: Drawing, *, dark: bool) -> Picture:
    content = render(draw, "webp", dark=dark)
    with Image.open(BytesIO(content)) as opened:
        return Picture(content, *opened.size)
