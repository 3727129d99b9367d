"""What the page of `--report` shows of a stack."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aeanet.cli.stacks import StackOptions, oddness
from aeanet.figures.planes import draw_planes
from aeanet.inference.stack_files import RestoredStack
from aeanet.io.images.reading import grey_of
from aeanet.io.stacks import Contents, Stack, find_stack, open_stack
from aeanet.page import Frame, Mark, Plot, View, limits_of
from aeanet.page.pictures import LARGEST
from aeanet.page.plots import plotted
from aeanet.page.scale import scale_bar
from aeanet.page.views import compared, explained, extent_of, smaller
from aeanet.trust import estimate_noise

EVEN = 6  # planes that are shown, evenly spaced
WORST = 3  # planes that are shown besides, those with the most unusual results


def planes_view(
    restored: RestoredStack, options: StackOptions, magnification: float, most: int
) -> View:
    """Some planes before and after, read again from both files.

    Args:
        restored: the stack.
        options: with which it was opened.
        magnification: of the result.
        most: bytes of the pictures.

    Raises:
        ImageError: if a plane cannot be read.
    """
    # an unusual plane may be one of the evenly spaced ones, and is shown once
    contents, records = restored.contents, restored.records
    even = even_planes(restored)
    numbers = sorted({*even, *unusual_planes(restored)})
    each = most // len(numbers)

    # the source is opened as for the restoration; the rows of its bar are not in the result
    opened = find_stack(restored.stack, options.axes, options.channel)
    assert opened is not None
    with opened as source, open_stack(restored.target, axes=contents.axes) as target:
        height, width = source.contents.plane_shape
        rows = height - restored.bar
        extent = extent_of((rows, width), contents.plane_shape, magnification)
        limits = _limits(target, even)

        # One grey scale for a channel, of the evenly spaced planes, so that they can be compared.
        # Where these show none of a channel, a plane has its own.
        frames = []
        for number in numbers:
            before = grey_of(source.plane(number))[:rows].astype(np.float32)
            after = target.plane(number).astype(np.float32)
            name = contents.name_of(number)
            title = f"{restored.stack.name}, {name}"
            black_and_white = limits.get(_channel(contents, number)) or limits_of(after)
            layers = compared(title, before, after, black_and_white, each, extent)
            marks: list[Mark] = []
            if after.size <= LARGEST:
                image, result = _scaled(before, before), _scaled(after, before)
                found, marks = explained(title, image, result, estimate_noise(image), each)
                layers += found
            said = records[number] or {}
            frames.append(Frame(layers, name, marks, said.get("warnings", ())))

    # all planes have one size, so the picture of the first tells how far they are reduced
    note = f"{len(numbers)} of {contents.planes} planes: evenly spaced ones and the most unusual. "
    note += smaller(frames[0].layers[1], contents.plane_shape)
    rows, columns = contents.plane_shape
    bar = scale_bar(contents.pixel_size, columns)
    return View(restored.stack.name, frames, columns, rows, note, bar)


def even_planes(restored: RestoredStack) -> list[int]:
    """Some planes that are not left empty, evenly spaced."""
    planes = [n for n in range(len(restored.records)) if n not in restored.damaged]
    places = np.linspace(0, len(planes) - 1, min(EVEN, len(planes))).round().astype(int)
    return [planes[place] for place in places]


def unusual_planes(restored: RestoredStack) -> list[int]:
    """The planes with the most unusual results, the most unusual first."""
    records = restored.records
    judged = [n for n in range(len(records)) if records[n]]
    return sorted(judged, key=lambda n: -oddness(records[n]))[:WORST]


def _limits(target: Stack, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Black and white of each channel over some planes, so that a channel does not flicker."""
    limits: dict[int, tuple[float, float]] = {}
    for number in numbers:
        low, high = limits_of(target.plane(number).astype(np.float32))
        channel = _channel(target.contents, number)
        known = limits.get(channel, (low, high))
        limits[channel] = min(low, known[0]), max(high, known[1])
    return limits


def _channel(contents: Contents, number: int) -> int:
    return contents.place(number).get("C", 0)


def planes_plot(restored: RestoredStack) -> Plot:
    """The noise of all planes."""
    records = restored.records
    noise = [one["noise"] if one and one["noise"] is not None else math.nan for one in records]
    warned = [number for number, one in enumerate(records) if one and one["warnings"]]
    return plotted(
        "The noise of each plane",
        "The noise of each plane, and which planes have a warning.",
        lambda: draw_planes(noise, warned, list(restored.damaged)),
    )


def _scaled(values: NDArray, image: NDArray) -> NDArray[np.float32]:
    """Values in shares of the range of an image."""
    low, high = float(image.min()), float(image.max())
    return ((values - low) / max(high - low, 1e-30)).astype(np.float32)
