"""The course of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from aeanet.figures.style import COLOURS


@dataclass(frozen=True)
class Course:
    """What was logged of a training.

    Attributes:
        steps, loss: the smoothed training loss (MAE) at some steps.
        scored, gain: the gain in PSNR over bicubic interpolation (dB) on the pairs held back, at
            some steps; empty where none was.
    """

    steps: Sequence[int]
    loss: Sequence[float]
    scored: Sequence[int] = ()
    gain: Sequence[float] = ()


def draw_courses(courses: Mapping[str, Course]) -> Figure:
    """Loss and, if there is one, the gain on pairs held back against the step.

    Args:
        courses: by the name of what was trained; a name may be empty where there is one.
    """
    # a second panel only where pairs were held back
    scored = any(course.gain for course in courses.values())
    figure = Figure(figsize=(8 if scored else 6, 3), layout="constrained")
    loss, *beside = figure.subplots(1, 1 + scored, squeeze=False)[0]

    # colours repeat where there are more courses
    for number, (name, course) in enumerate(courses.items()):
        colour = COLOURS[number % len(COLOURS)]
        loss.plot(course.steps, course.loss, color=colour, lw=1.2, label=name)
        for axis in beside:
            axis.plot(course.scored, course.gain, "o-", color=colour, ms=3, lw=1.2)

    # plain numbers, also between the powers of ten: a loss may stay within one
    loss.set(xlabel="step", ylabel="loss (MAE), smoothed", yscale="log")
    for numbers in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        numbers("{x:.3g}")
    for axis in beside:
        axis.set(xlabel="step", ylabel="Δ PSNR on pairs held back (dB)")
    for axis in (loss, *beside):
        axis.grid()

    # a legend cannot tell courses of one colour apart
    if 1 < len(courses) <= len(COLOURS):
        loss.legend()
    return figure
