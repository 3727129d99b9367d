"""`aeanet train`."""

import tempfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aeanet.cli.shared import (
    INTERRUPTED,
    Pairs,
    describe,
    fail,
    make_folder,
    one_sentence,
    progress_bar,
    register_pairs,
    say,
    show,
    warn,
)

if TYPE_CHECKING:
    from aeanet import training
    from aeanet.model import UShape
    from aeanet.pairs import PairSet

EXAMPLE = "aeanet train pairs/ --out runs/first --quick"


class ModelName(StrEnum):
    aeanet = "aeanet"
    gvtnet = "gvtnet"
    unet = "unet"


class Schedule(StrEnum):
    halving = "halving"
    one_cycle = "one-cycle"


def main(
    folder: Pairs,
    run: Annotated[Path, typer.Option("--out", help="Run folder to write.", show_default=False)],
    quick: Annotated[
        bool, typer.Option("--quick", help="A short recipe: 2,000 steps of 16 crops of 64 px, one cycle up to 2e-3.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps (120,000).", show_default=False)] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the training crops in px (256).", show_default=False)
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Crops per step (8).", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate, or its peak (4e-4).", show_default=False)] = None,
    schedule: Annotated[
        Schedule | None,
        typer.Option(help="halving: every 10,000 steps (default); one-cycle: up, then down to 0.", show_default=False),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and crops.")] = 0,
    model: Annotated[ModelName, typer.Option(help="Network.")] = ModelName.aeanet,
    references: Annotated[int, typer.Option(min=0, help="Learnable references of the attention (aeanet only).")] = 64,
    batch_aware: Annotated[
        bool, typer.Option(help="Let half of each batch attend to one another (aeanet only).")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model already in the run folder.")] = False,
) -> None:
    """Register the pairs of a folder and train on them; by default as long as the paper did, which wants a GPU.

    Ctrl-C ends the training and leaves the model as it then is.
    """
    with one_sentence():
        from aeanet import training
        from aeanet.model import MODEL_FILE

        if (run / MODEL_FILE).exists() and not overwrite:
            fail(
                f"{run} already holds a model: choose another folder with --out, or replace the model with --overwrite."
            )
        given: dict[str, Any] = {
            "steps": steps,
            "crop": crop,
            "batch": batch,
            "rate": rate,
            "schedule": schedule.value if schedule else None,
            "max_seconds": None if minutes is None else 60 * minutes,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        recipe = replace(training.Recipe.short() if quick else training.Recipe(), seed=seed, **changes)
        options = {"references": references, "batch_aware": batch_aware} if model is ModelName.aeanet else {}
        make_folder(run)
        data = register_pairs(folder)
        with progress_bar() as bar:

            def on_step(now: training.Progress) -> None:
                show(bar, f"Training, step {now.step:,} of {recipe.steps:,}, loss {now.loss:.4f}", now.used)

            def on_save(network: "UShape") -> None:
                try:
                    training.save_model(network, run / MODEL_FILE)
                except OSError as error:  # a disk full for now must not end a training of days
                    warn(f"The model could not be saved for now: {describe(error)}")

            trained = training.train(data.pairs, recipe, name=model.value, on_step=on_step, on_save=on_save, **options)
        keep_run(run, trained, recipe, data)
        if trained.interrupted:
            warn(f"Interrupted after {trained.steps:,} steps; the model as it then was is in {run}.")
            raise typer.Exit(INTERRUPTED)
        say(f"{trained.steps:,} steps in {trained.seconds:.0f} s; the model is in {run}.")


def keep_run(run: Path, trained: "training.Trained", recipe: "training.Recipe", data: "PairSet") -> None:
    """Write the run folder; where the disk refuses, write it to the temporary folder and fail, naming both."""
    from aeanet.training import save_run

    try:
        save_run(run, trained, recipe, data)
    except OSError as error:
        refuge = Path(tempfile.mkdtemp(prefix="aeanet-run-"))
        save_run(refuge, trained, recipe, data)
        fail(f"{describe(error)} The trained model is in {refuge} instead.")
