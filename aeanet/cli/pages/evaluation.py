"""The page of `aeanet evaluate --report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aeanet.cli.pages.shared import cell_of, how_it_was_made
from aeanet.data.registration import RegisteredPair
from aeanet.page import (
    Cell,
    Frame,
    Layer,
    Page,
    Part,
    Section,
    Table,
    Text,
    View,
    fitting,
    grey,
    limits_of,
)
from aeanet.page.views import most_of_each
from aeanet.scoring.evaluation import Evaluation

_ERROR = 4.0  # standard deviations of the error from mid-grey to white
_LAYERS = 4


def pair_view(pair: RegisteredPair, restored: NDArray, pairs: int) -> View:
    """Bicubic LR beside the result, HR and the error of the result.

    Args:
        pair: the registered pair.
        restored: (H, W) in [0, 1], on the grid of the pair.
        pairs: how many are shown, which share the size of the page.
    """
    # images share one grey scale, and the error has its own; without LR data there is no error
    most = most_of_each(pairs) // _LAYERS
    limits = limits_of(pair.hr)
    error = np.where(pair.mask, restored - pair.hr, 0)
    half = max(_ERROR * float(error.std()), 1e-4)
    shown = (
        ("LR, bicubic", grey(pair.lr, limits), "LR on the grid of HR, by bicubic interpolation."),
        ("result", grey(restored, limits), "What the network made of LR."),
        ("HR", grey(pair.hr, limits), "HR, the truth."),
        (
            "error",
            grey(error, (-half, half)),
            f"The result minus HR. Mid-grey is 0, white is {half:.3f} of the range.",
        ),
    )

    # four pictures share the bytes of the pair
    layers = [
        Layer(name, fitting(pixels, most), f"{name} of {pair.name}", caption)
        for name, pixels, caption in shown
    ]
    height, width = pair.hr.shape
    return View(pair.name, [Frame(layers)], width, height)


def evaluation_page(
    runs: Sequence[Path],
    pairs: Path,
    sentences: Sequence[str],
    scores: Evaluation,
    views: Mapping[str, View],
    warnings: Mapping[str, Sequence[str]],
    refused: Mapping[str, str],
) -> Page:
    """The scores, and each pair to look at.

    Args:
        runs: that were scored.
        pairs: the folder of the pairs.
        sentences: what is said of all pairs.
        scores: the mean of the runs.
        views: of the pairs, by their names.
        warnings: by the name of the pair.
        refused: why pairs were left out, by their names.
    """
    # first the pairs, since the table links to them
    sections = []
    for number, (name, view) in enumerate(views.items(), 1):
        parts: list[Part] = [Text(warnings.get(name, ()), look="warning"), view]
        sections.append(Section(name, parts, f"pair-{number}"))
    key_of = {section.title: section.key for section in sections}

    # The last line of the table is the mean, which is not to be sorted among the pairs.
    table = scores.table()
    heads = [str(column.header).replace("-\n", "") for column in table.columns]
    columns = [" ".join(head.split()) for head in heads]
    *lines, mean = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    rows = [
        [Cell(name, link=key_of.get(name, "")), *map(cell_of, numbers)] for name, *numbers in lines
    ]
    means = ", ".join(map(" ".join, zip(columns[1:], mean[1:], strict=True)))
    shown = Table(columns, rows, f"Mean over all: {means}.", sortable=True)

    # what the means do not contain comes before them
    left_out = [f"Pair {name} is left out: {reason}" for name, reason in refused.items()]
    settings = [("runs", ", ".join(map(str, runs))), ("pairs", str(pairs))]
    lead: list[Part] = [Text(left_out, look="warning"), Text(sentences), shown]
    made = how_it_was_made(settings)
    return Page("Scores on the test columns, against HR", lead, [*sections, made], contents=False)
