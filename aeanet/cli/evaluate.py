"""`aeanet evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeanet.cli.places import check_place
from aeanet.cli.shared import (
    Overwrite,
    Pairs,
    ReportPage,
    argument,
    fail,
    keep_apart,
    option,
    out,
    path,
    recorded_pairs,
    register_pairs,
    say,
    warn,
)
from aeanet.io.atomic import make_folder
from aeanet.io.text import json_text, write_json

if TYPE_CHECKING:
    from aeanet.page import View

Samples = Annotated[
    Path | None,
    option(
        "Text file in which each line names the pairs that show one sample; intervals are then "
        "over samples.",
        parser=path,
    ),
]
RECORD = "evaluation.json"
PAGE = "report.html"
EXAMPLE = "aeanet evaluate runs/first pairs/ --out scores"


def main(
    runs: Annotated[
        list[Path],
        argument(
            "Run folders that `aeanet train` wrote, or sem; several are seeds of one method, and "
            "are averaged.",
            metavar="RUN",
            parser=path,
        ),
    ],
    folder: Pairs,
    results: Annotated[
        Path | None,
        option("Folder for evaluation.json and a picture of each pair.", "--out", parser=path),
    ] = None,
    as_json: Annotated[bool, option("Print evaluation.json instead of a table.", "--json")] = False,
    page: ReportPage = False,
    samples: Samples = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a run on the test columns of pairs: PSNR and SSIM against HR, and those of bicubic
    interpolation.

    Foreground and background are the pixels above and below Otsu's threshold on HR. Means have a 95
    % interval over pairs (Student's t). In a run of `train --self` each pair is scored by its own
    model. Pairs that cannot be used are named, and the others are scored. With the shipped model,
    or one that began from it, pairs whose LR is unlike its training or whose results need a second
    look are warned of, as `aeanet restore` does. Results that are already there are kept unless
    you give --overwrite, which also removes the pictures of pairs that are gone.
    """
    from aeanet.cli.scoring import of_what, score_all, single_models, where_the_errors_are
    from aeanet.data.pairs import find_pairs
    from aeanet.data.specimens import read_samples
    from aeanet.scoring import evaluation

    # what is wrong with the call is said before pairs are registered, which takes long
    if swapped := [run for run in runs if (run / "lr").is_dir()]:
        fail(f"{swapped[0]} is a folder of pairs, not a run: the runs come first, the pairs last.")
    if page and results is None:
        fail("--report writes its page into a folder: give one with --out.")

    # the files to come are known by name, so none of their places is found taken at the end
    runs = list(dict.fromkeys(runs))
    models = single_models(runs)
    if results:
        keep_apart(results, folder)
        pictures = [f"{pair.name}.png" for pair in find_pairs(folder)]
        for name in (RECORD, *pictures, *([PAGE] if page else [])):
            check_place(results / name, overwrite=overwrite)
        make_folder(results)

    # a list of samples may name pairs that were refused
    data = register_pairs(folder)
    names = {pair.name for pair in data.pairs} | data.refused.keys()
    sample_of = read_samples(samples, names) if samples else {}

    # all runs score; the first of them draws and judges
    views: dict[str, View] = {}
    shown = views if page else None
    evaluations, warnings = score_all(runs, models, folder, data.pairs, results, shown)
    scores = evaluation.Evaluation.average(evaluations)
    if not scores.subimages:
        fail("No pair was scored by all runs: there is nothing to report.")

    # one record, for the file and for --json
    record = {
        "runs": [str(run) for run in runs],
        "refused": data.refused,
        "warnings": warnings,
        "intervals": evaluation.intervals(evaluations, sample_of),
        **scores.record(),
    }
    if results:
        # pictures of an earlier call, of pairs that this one does not score
        scored = {score.name for score in scores.pairs}
        for name in recorded_pairs(results / RECORD) - scored:
            (results / f"{name}.png").unlink(missing_ok=True)
        write_json(results / RECORD, record)

    # a gain needs a pair that all runs have scored
    sentences = []
    gain = evaluation.improvement(evaluations, "delta_psnr", samples=sample_of)
    ssim = evaluation.improvement(evaluations, "delta_ssim", samples=sample_of)
    if gain and ssim:
        explanation = of_what(len(runs), gain, samples)
        sentences.append(f"Mean Δ PSNR {gain.text(2)} dB, Δ SSIM {ssim.text(4)}{explanation}.")
    warned = {name for name, said in warnings.items() if said}
    where = [where_the_errors_are(scores, warned)] if warned else []

    # a page that cannot be written changes the exit code alone: the scores are still said
    written = True
    if page and results:
        from aeanet.cli.pages.evaluation import evaluation_page
        from aeanet.cli.pages.shared import save_page

        found = evaluation_page(
            runs, folder, [*sentences, *where], scores, views, warnings, data.refused
        )
        written = save_page(results / PAGE, found)

    # a program gets the record alone, which has the warnings
    if as_json:
        say(json_text(record, indent=2))
    else:
        out.print(scores.table())
        say_all(sentences, warnings, where)
    if not written:
        raise typer.Exit(1)


def say_all(sentences: list[str], warnings: dict[str, list[str]], where: list[str]) -> None:
    """Say what holds for all pairs, what is to be warned of by pair, and where the errors are."""
    for sentence in sentences:
        say(sentence)
    for name, said in warnings.items():
        for sentence in said:
            warn(f"{name}: {sentence}")
    for sentence in where:
        say(sentence)
