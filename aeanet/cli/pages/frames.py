"""The page of `aeanet frames --report`."""

from pathlib import Path

import numpy as np

from aeanet.cli.frames import drift_table
from aeanet.cli.pages.shared import how_it_was_made, table_of
from aeanet.cli.report import Judged, Report
from aeanet.figures.drift import draw_drift
from aeanet.inference.frames import RestoredFrames
from aeanet.io.images import Micrograph
from aeanet.page import Frame, Page, Part, Section, Text, View, limits_of
from aeanet.page.plots import plotted
from aeanet.page.views import MOST, compared, explained


def frames_page(
    report: Report,
    frames: dict[str, Micrograph],
    restored: RestoredFrames,
    judged: Judged,
    precision: str,
) -> Page:
    """One frame beside the result, what was taken away from the mean, and the drift.

    Args:
        report: what was said.
        frames: by their names.
        restored: what was made of them.
        judged: the mean of the frames and the result.
        precision: in which the network computed.
    """
    # one frame is compared with the result; what was taken away was taken from the mean of all
    fused, result = restored.fused, np.asarray(restored.result)
    reference = list(frames)[fused.aligned.reference]
    name = Path(reference).name
    limits = limits_of(result)
    layers = compared(name, frames[reference].pixels, result, limits, MOST)
    found, marks = explained(
        "the mean of the frames", judged.image, judged.result, judged.found.noise, MOST
    )
    height, width = result.shape
    view = View(name, [Frame([*layers, *found], marks=marks)], width, height)

    # the table is the CSV file, which the page hands out too
    drift = plotted(
        "The drift of the frames",
        "How far each line of each frame lies from its place in the result.",
        lambda: draw_drift(fused.aligned),
    )
    table = table_of(drift_table(list(frames), restored), f"{report.target.stem}-drift.csv")

    # how it was made, for the last section
    settings = [
        ("result", f"{report.target}, {width} x {height} px"),
        ("frames", ", ".join(frames)),
        ("magnification", f"{fused.magnification:g}"),
        ("computed in", precision),
    ]
    warnings = Text(report.said(warnings=True), look="warning")
    lead: list[Part] = [warnings, view, Text(report.said(warnings=False))]
    sections = [Section("Drift", [drift, table], "drift"), how_it_was_made(settings)]
    return Page(f"{report.name}, {len(fused.aligned.used)} frames", lead, sections)
