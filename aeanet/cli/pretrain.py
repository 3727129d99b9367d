"""`aeanet pretrain`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aeanet.cli.options import options_of
from aeanet.cli.shared import (
    INTERRUPTED,
    Minutes,
    fail,
    option,
    path,
    progress_bar,
    say,
    seconds_of,
    show,
    warn,
)
from aeanet.errors import sentence_or_raise
from aeanet.networks.registry import NETWORKS
from aeanet.training.recipe import Recipe

if TYPE_CHECKING:
    from aeanet import training

    NetworkName = str
    AttentionAt = str
else:
    NetworkName = Literal[tuple(name for name in NETWORKS if name not in ("lbnlm", "srsw"))]
    AttentionAt = Literal["none", "bottom", "all"]

EXAMPLE = "aeanet pretrain --out runs/sem --minutes 180"


@options_of(
    Recipe, "Recipe (in brackets: the paper's; without options 60,000 steps of 16 crops of 96 px)"
)
def main(
    run: Annotated[Path, option("Run folder to write.", "--out", parser=path)],
    minutes: Minutes = None,
    model: Annotated[NetworkName, typer.Option(help="Network.")] = "shuffled",
    attention: Annotated[
        AttentionAt | None, option("Attention blocks of `shuffled` (none).")
    ] = None,
    start: Annotated[
        Path | None,
        option(
            "Begin with the weights of this model: a run folder or file.", "--from", parser=path
        ),
    ] = None,
    blocks: Annotated[
        tuple[int, int, int] | None,
        option(
            "Residual blocks of the three levels of `shuffled` (2 2 2). Beside --from: at least those of that model; "
            "the blocks added change nothing at first."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that simulate.", min=0)] = 1,
    resume: Annotated[bool, option("Go on from the latest checkpoint.", "--resume")] = False,
    overwrite: Annotated[
        bool, option("Replace the run that is in the folder.", "--overwrite")
    ] = False,
    **changes: Any,
) -> None:
    """Train a model on simulated micrographs that never repeat, as the shipped model was, and score
    it on others.

    Ctrl-C ends the training and keeps the model as it then is. --resume goes on from there, or from
    the latest checkpoint before a crash, as if nothing had happened.
    """
    from aeanet.networks.registry import load_model, short_options
    from aeanet.networks.shuffled import deepened
    from aeanet.training import open_run
    from aeanet.training.pretraining import pretrain, pretraining_recipe

    given = {"attention": attention, "blocks": None if blocks is None else list(blocks)}
    special = {name: value for name, value in given.items() if value is not None}
    for name in special:
        if model != "shuffled":
            fail(f"--{name} is an option of the network shuffled, not of {model}.")
    changes |= {"max_seconds": seconds_of(minutes)}
    with open_run(run, resume=resume, overwrite=overwrite) as opened, progress_bar() as bar:
        begun = opened.checkpoint
        recipe = replace(
            begun.recipe if begun else pretraining_recipe(),
            **{name: value for name, value in changes.items() if value is not None},
        )
        options = (
            begun.configuration["model"]
            if begun
            else {"name": model} | short_options(model) | special
        )
        network = None if start is None or begun else load_model(start)
        if network is not None and blocks is not None:
            network = deepened(network, blocks)

        def on_step(now: "training.TrainingProgress") -> None:
            show(bar, f"Step {now.step:,}, loss {now.loss:.4f}", now.used)

        done = pretrain(
            recipe,
            start=network,
            run=opened,
            workers=workers,
            on_step=on_step,
            on_trouble=lambda error: warn(
                f"A file could not be saved for now: {sentence_or_raise(error)}"
            ),
            **options,
        )
    steps = f"{done.progress.step:,}" + (
        f" of {recipe.steps:,}" if done.progress.step < recipe.steps else ""
    )
    if done.progress.interrupted:
        warn(
            f"Interrupted after {steps} steps. The model as it is now is in {run}; --resume goes on."
        )
        raise typer.Exit(INTERRUPTED)
    say(f"{steps} steps in {done.progress.seconds:.0f} s; the model is in {run}.")
