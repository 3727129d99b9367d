"""The page of `aeanet train --report`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from aeanet.cli.pages.evaluation import pair_view
from aeanet.cli.pages.shared import how_it_was_made
from aeanet.cli.request import what_was_trained
from aeanet.cli.runs import steps_done
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.figures.training import Course, draw_courses
from aeanet.inference.prediction import restore
from aeanet.page import Page, Part, Section, Text
from aeanet.page.plots import plotted
from aeanet.training import Recipe, TrainingResult
from aeanet.training.bookkeeping import read_metrics

_SHOWN = 4  # pairs, at most


def training_page(
    run: Path,
    trained: Mapping[str, TrainingResult],
    recipe: Recipe,
    data: PairSet,
    held_back: Sequence[RegisteredPair],
) -> Page:
    """The course of a training, and what the network makes of some pairs.

    Args:
        run: the run folder.
        trained: by the pair of each model, whose name is its sub-folder; "." for one model of all.
        recipe: of each training.
        data: the pairs that were trained on.
        held_back: the pairs that were not.
    """
    # with --self each pair has a model, else there is one of all pairs
    said = []
    for name, result in trained.items():
        whose = "" if name == "." else f"{name}: "
        said.append(f"{whose}{what_was_trained(result, steps_done(result.steps, recipe.steps))}.")
        if result.validation:
            psnr, ssim = result.validation["delta_psnr"], result.validation["delta_ssim"]
            said.append(
                f"{whose}Gain over bicubic interpolation on the pairs held back: "
                f"{psnr:+.2f} dB PSNR and {ssim:+.4f} SSIM."
            )

    # a library of patches is not trained in steps, so it has no course
    lead: list[Part] = [Text(said)]
    courses = {name: _course(run / name) for name in trained}
    if any(course.steps for course in courses.values()):
        lead.append(
            plotted(
                "The course of the training",
                "The loss, and the gain on pairs held back if there are any.",
                lambda: draw_courses(courses),
            )
        )

    # what is needed to repeat it: the pairs and the whole recipe
    settings = [
        ("run", str(run)),
        ("network", next(iter(trained.values())).model.config["name"]),
        ("pairs", ", ".join(pair.name for pair in data.pairs)),
        ("held back", ", ".join(pair.name for pair in held_back) or "none"),
        *((name, str(value)) for name, value in asdict(recipe).items()),
    ]
    pairs = _pairs(trained, data, held_back)
    return Page(f"Training of {run.name}", lead, [*pairs, how_it_was_made(settings)])


def _course(folder: Path) -> Course:
    rows = read_metrics(folder)
    loss = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"]]

    # scores come at other steps than the loss, so a row may have only one of them
    gain = [
        (int(row["step"]), float(row["validation/delta_psnr"]))
        for row in rows
        if row["validation/delta_psnr"]
    ]
    return Course(
        [step for step, _ in loss],
        [value for _, value in loss],
        [step for step, _ in gain],
        [value for _, value in gain],
    )


def _pairs(
    trained: Mapping[str, TrainingResult], data: PairSet, held_back: Sequence[RegisteredPair]
) -> list[Section]:
    """Some pairs to look at: those held back, else one that was trained on."""
    shown = list(held_back) or [pair for pair in data.pairs if {".", pair.name} & {*trained}][:1]
    shown = shown[:_SHOWN]
    what = "It was held back." if held_back else "Its left three quarters were trained on."
    sections = []
    for number, pair in enumerate(shown, 1):
        result = trained.get(pair.name) or trained["."]
        view = pair_view(pair, restore(result.model, pair.lr, flips=1), len(shown))
        sections.append(Section(f"Pair {pair.name}", [Text([what]), view], f"pair-{number}"))
    return sections
