"""`aeanet reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from aeanet.cli.evaluate import Samples
from aeanet.cli.places import check_place
from aeanet.cli.shared import (
    Overwrite,
    Pairs,
    fail,
    keep_apart,
    option,
    path,
    progress_bar,
    register_pairs,
    say,
    show,
    warn,
)
from aeanet.io.atomic import make_folder

EXAMPLE = "aeanet reproduce pairs/ --out report --budget 0.003 --pairs 6 --self-pairs 2"


def main(
    folder: Pairs,
    report: Annotated[Path, option("Folder of the report.", "--out", parser=path)],
    budget: Annotated[
        float,
        typer.Option(
            help="Share of the paper's 120,000 steps that each network is trained for. From 1 on "
            "with the paper's recipe (8 crops of 256 px), which needs a GPU; below 1 with the "
            "short one (16 crops of 64 px, and the U-Net family learns what to add to the image). "
            "0.003 is 360 steps, about a minute a network on two cores."
        ),
    ] = 1.0,
    only: Annotated[
        str | None,
        option(
            "Only these parts, with commas: table1, table2, unseen (samples not trained on), fig4, "
            "fig5, fig6."
        ),
    ] = None,
    number: Annotated[
        int | None, option("Use only this many pairs, from the first.", "--pairs", min=1)
    ] = None,
    self_pairs: Annotated[
        int | None,
        option("Self-training for this many pairs, evenly spaced, instead of all.", min=1),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="Methods of Table 1, with commas; any of the models of `aeanet train`."),
    ] = "unet,gvtnet,aeanet",
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Train each network with this many seeds.")
    ] = 1,
    folds: Annotated[
        int, typer.Option(min=2, help="Parts into which the samples are split, for unseen samples.")
    ] = 4,
    samples: Samples = None,
    overwrite: Overwrite = False,
) -> None:
    """Train and score, on your pairs, the networks that the paper's tables and figures need, and
    write a report.

    These are seven networks of all pairs, and for each method one of each pair (self-training) and
    one for each part of the samples left out. --only, --pairs, --self-pairs and --folds make them
    fewer, --budget makes them shorter.

    The report is one page, index.html, that needs no other file. Beside it are report.md, tables/,
    figures/, results.json, and each network. A stopped run goes on when started again: networks
    that were trained with the same settings on the same data are kept. Where the folder holds
    results of other settings or data, the command ends, unless you give --overwrite.
    """
    from aeanet.data.specimens import read_samples
    from aeanet.distributed import process_count
    from aeanet.reproduce import (
        SECTIONS,
        Study,
        recipe_for,
        replaced_files,
        run_study,
        write_report,
    )
    from aeanet.reproduce.store import RESULT_FILE

    if process_count() > 1:
        fail("reproduce runs as one process: start it without torchrun.")
    recipe = recipe_for(budget)
    keep_apart(report, folder)
    make_folder(report)

    # a list of samples may name pairs that were refused, or not used
    data = register_pairs(folder)
    names = {pair.name for pair in data.pairs} | data.refused.keys()
    study = Study(
        pairs={pair.name: pair for pair in data.pairs[:number]},
        refused=data.refused,
        recipe=recipe,
        methods=split(methods),
        sections=list(SECTIONS) if only is None else split(only),
        seeds=seeds,
        self_pairs=self_pairs,
        folds=folds,
        samples=read_samples(samples, names) if samples else {},
        residual=budget < 1,
    )

    # a network may be hours of work: one of other settings is replaced only if that is asked for
    for file in replaced_files(study, report):
        if file.name == RESULT_FILE and not overwrite:
            fail(
                f"{file} is already there, of other settings or other data: replace it with "
                "--overwrite, or choose another folder with --out."
            )
        check_place(file, overwrite=overwrite)

    # what failed is said at the end, where it is seen
    with progress_bar() as bar:
        results = run_study(study, report, lambda label, share: show(bar, label, share))
        show(bar, "Writing the report", 1.0)
        page = write_report(study, results, report)
    for label, reason in results.failed.items():
        warn(f"{label} is left out: {reason}")
    say(f"The report is {page}.")


def split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
