"""The noise of each plane of a stack, and where its restoration gives a warning."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from aeanet.figures.style import COLOURS, tight


def draw_planes(noise: Sequence[float], warned: Sequence[int], damaged: Sequence[int]) -> Figure:
    """Noise against plane.

    Args:
        noise: of each plane, in shares of the range that it uses; NaN where it is not known.
        warned: numbers from 0 of the planes with a warning.
        damaged: numbers from 0 of the planes that were left empty.
    """
    # planes count from 1 for people; NaN leaves a gap
    figure = Figure(figsize=(6.4, 3.0), layout=tight())
    axes = figure.subplots()
    numbers = range(1, len(noise) + 1)
    axes.plot(numbers, [100 * share for share in noise], ".-", ms=3, lw=0.8, color=COLOURS[0])

    # a ring around a point does not hide it
    axes.plot(
        [number + 1 for number in warned],
        [100 * noise[number] for number in warned],
        "o",
        ms=5,
        mfc="none",
        color=COLOURS[4],
        label="with a warning",
    )

    # an empty plane has no noise; one line of them is in the legend
    for index, number in enumerate(damaged):
        label = "left empty" if index == 0 else None
        axes.axvline(number + 1, lw=1, ls=":", color=COLOURS[3], label=label)
    if warned or damaged:
        axes.legend()

    # from 0 on, so that heights can be compared
    axes.set(xlabel="plane", ylabel="noise (% of the range used)")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    return figure
