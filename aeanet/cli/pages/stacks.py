"""What the page of `--report` shows of a stack."""

import math

import numpy as np
from numpy.typing import NDArray

from aeanet.cli.stacks import StackOptions, oddness
from aeanet.figures.planes import draw_planes
from aeanet.inference.stack_files import RestoredStack
from aeanet.io.images.reading import grey_of
from aeanet.io.stacks import find_stack, open_stack
from aeanet.page import Frame, Plot, View, limits_of
from aeanet.page.plots import plotted
from aeanet.page.views import compared, explained
from aeanet.trust import estimate_noise

EVEN = 6  # planes that are shown, evenly spaced
WORST = 3  # planes that are shown besides, those with the most unusual results


def planes_view(restored: RestoredStack, options: StackOptions, most: int) -> View:
    """Some planes before and after, read again from both files.

    Args:
        restored: the stack.
        options: with which it was opened.
        most: bytes of the pictures.

    Raises:
        ImageError: if a plane cannot be read.
    """
    contents, records = restored.contents, restored.records
    numbers = shown_planes(restored)
    opened = find_stack(restored.stack, options.axes, options.channel)
    assert opened is not None
    with opened as source, open_stack(restored.target, axes=contents.axes) as target:
        rows = source.contents.plane_shape[0] - restored.bar
        frames = []
        limits: dict[int, tuple[float, float]] = {}
        for number in numbers:
            before = grey_of(source.plane(number))[:rows].astype(np.float32)
            after = target.plane(number).astype(np.float32)

            # A channel has one grey scale.
            channel = contents.place(number).get("C", 0)
            scale = limits.setdefault(channel, limits_of(after))
            name = contents.name_of(number)
            layers = compared(
                f"{restored.stack.name}, {name}", before, after, scale, most // len(numbers)
            )
            image, result = _scaled(before, before), _scaled(after, before)
            noise = estimate_noise(image)
            found, marks = explained(name, image, result, noise, most // len(numbers))
            said = records[number] or {}
            frames.append(Frame([*layers, *found], name, marks, warnings=said.get("warnings", ())))

    height, width = contents.plane_shape
    note = f"{len(numbers)} of {contents.planes} planes: evenly spaced ones and the most unusual."
    picture = frames[0].layers[1].picture
    if picture.width < width:
        note += (
            f" They are reduced from {width} x {height} to {picture.width} x {picture.height} px."
        )
    return View(restored.stack.name, frames, width, height, note)


def shown_planes(restored: RestoredStack) -> list[int]:
    """The planes that a page shows: evenly spaced ones, and the most unusual."""
    records = restored.records
    planes = [n for n in range(len(records)) if n not in restored.damaged]
    even = np.linspace(0, len(planes) - 1, min(EVEN, len(planes))).round().astype(int)
    judged = [n for n in planes if records[n]]
    worst = sorted(judged, key=lambda n: -oddness(records[n]))[:WORST]
    return sorted({planes[place] for place in even} | set(worst))


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
