"""`aeanet train`."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aeanet.cli.options import options_of
from aeanet.cli.shared import (
    INTERRUPTED,
    Minutes,
    Pairs,
    fail,
    keep_apart,
    leading,
    option,
    path,
    progress_bar,
    register_pairs,
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
    from aeanet.data.pairs import PairSet
    from aeanet.data.registration import RegisteredPair

    NetworkName = str
else:
    NetworkName = Literal[tuple(NETWORKS)]  # a choice, which --help lists

EXAMPLE = "aeanet train pairs/ --out runs/first --quick"


@options_of(Recipe, "Recipe (in brackets: the paper's)")
def main(
    folder: Pairs,
    run: Annotated[Path, option("Run folder to write.", "--out", parser=path)],
    quick: Annotated[
        bool,
        option(
            "A short recipe: 2,000 steps of 16 crops of 64 px, one cycle up to 2e-3.", "--quick"
        ),
    ] = False,
    minutes: Minutes = None,
    model: Annotated[
        NetworkName | None, option("Network; lbnlm and srsw look up patches in a library (aeanet).")
    ] = None,
    start: Annotated[
        Path | None,
        option(
            "Begin with the weights of this model: a run folder, or sem, which comes with aeanet; then by default "
            "1,000 steps of 16 crops of 96 px, one cycle up to 1e-4.",
            "--from",
            parser=path,
        ),
    ] = None,
    references: Annotated[
        int | None, option("Learnable references of the attention (64).", min=0, max=2**20)
    ] = None,
    batch_aware: Annotated[
        bool | None, option("Let half of each batch attend to one another (yes).")
    ] = None,
    residual: Annotated[
        bool | None, option("Learn what to add to the image, not the image (with --quick: yes).")
    ] = None,
    one_per_pair: Annotated[
        bool,
        option("One model per pair, each in a sub-folder with the name of its pair.", "--self"),
    ] = False,
    validate: Annotated[
        float | None,
        option("Pairs held back and scored during the training: 3, or 0.1 for a tenth."),
    ] = None,
    validate_every: Annotated[
        str, typer.Option(help="Steps, or time as 10min, between such scores.")
    ] = "1000",
    checkpoint_every: Annotated[
        str, typer.Option(help="Steps, or time as 60s, between checkpoints.")
    ] = "60s",
    cuda_graph: Annotated[
        bool,
        option("Record the step once as a CUDA graph and replay it, on one GPU.", "--cuda-graph"),
    ] = False,
    resume: Annotated[
        bool,
        option(
            "Go on from the latest checkpoint, with the options that the run was begun with.",
            "--resume",
        ),
    ] = False,
    overwrite: Annotated[
        bool, option("Replace the run that is in the folder.", "--overwrite")
    ] = False,
    **changes: Any,
) -> None:
    """Register the pairs of a folder and train on them; by default as long as in the paper, which
    needs a GPU.

    Ctrl-C ends the training and keeps the model as it then is. --resume goes on from there, or from
    the latest checkpoint before a crash, with the same result as an uninterrupted training. Several
    GPUs: `torchrun --nproc-per-node 2 -m aeanet train ...`
    """
    import torch

    from aeanet import training
    from aeanet.data.pairs import hold_back
    from aeanet.distributed import all_processes, rank
    from aeanet.networks.registry import load_model, short_options

    if start is not None and (
        model or references is not None or batch_aware is not None or residual is not None
    ):
        fail(
            "--from goes on with a network as it is: leave out --model, --references, --batch-aware and --residual."
        )
    if resume and overwrite:
        fail("--resume goes on with a run and --overwrite replaces it: give one of the two.")
    one_per_pair = one_per_pair or (resume and (run / training.MODELS_FILE).exists())
    if one_per_pair and validate is not None:
        fail("--self has one pair per model and so none to hold back: leave out --validate.")
    changes |= {"max_seconds": seconds_of(minutes)}
    keep_apart(run, folder)
    often = {
        "checkpoint_every": training.Interval.parse(checkpoint_every),
        "validate_every": training.Interval.parse(validate_every),
    }
    network = {
        "name": model,
        "references": references,
        "batch_aware": batch_aware,
        "residual": residual,
    }
    opening = training.open_run(run, resume=resume, overwrite=overwrite, one_per_pair=one_per_pair)
    with opening as opened, leading(), all_processes():
        begun = opened.checkpoint
        default = Recipe() if start is None else Recipe.fine_tuning()
        base = Recipe.short() if quick else begun.recipe if begun else default
        recipe = replace(base, **_given(changes))
        name = model or "aeanet"
        new = {"name": name} | (short_options(name) if quick else {})
        kept = begun.configuration["model"] if begun else new
        if model and model != kept["name"]:
            fail(
                f"{run} trains {kept['name']}: resume it without --model, or begin another in another folder."
            )
        options = kept | _given(network)
        if _in_vain(options, recipe.batch):
            warn(
                "With --batch 1 the references learn nothing: give --batch 2 or more, or --no-batch-aware."
            )
        weights = None if start is None or begun else load_model(start)
        held_back: list[RegisteredPair] = []
        data = register_pairs(folder)
        if begun and validate is None:
            validate = begun.configuration["data"]["held_back"]
        if validate:
            data, held_back = hold_back(data, validate)
        if (
            recipe == Recipe()
            and options["name"] not in ("lbnlm", "srsw")
            and not torch.cuda.is_available()
        ):
            warn(
                f"{recipe.steps:,} steps take days without a GPU: --from sem and --quick take minutes."
            )
        with progress_bar() as bar:
            whose = ""

            def on_step(now: training.TrainingProgress) -> None:
                label = (
                    f"Training{whose}, step {now.step:,} of {recipe.steps:,}, loss {now.loss:.4f}"
                )
                show(bar, label, now.used)

            def on_pair(name: str) -> None:
                nonlocal whose
                whose = f" on {name}"

            arguments: dict[str, Any] = (
                often | options | {"on_step": on_step, "on_trouble": _say_trouble}
            )
            arguments["cuda_graph"] = cuda_graph
            arguments["start"] = weights
            if one_per_pair:
                arguments |= {
                    "resume": resume,
                    "overwrite": overwrite,
                    "on_pair": on_pair,
                    "save": keep_run,
                }
                done = training.train_each(run, data, recipe, **arguments)
            else:
                done = {
                    "": training.train(data, recipe, run=opened, held_back=held_back, **arguments)
                }
        last = list(done.values())[-1]
        if not one_per_pair and not rank():
            keep_run(run, last, recipe, data, held_back)
        steps = (
            f"{last.steps:,} of {recipe.steps:,}"
            if last.steps < recipe.steps
            else f"{last.steps:,}"
        )
        if last.interrupted:
            warn(
                f"Interrupted after {steps} steps. The model as it is now is in {run}; --resume goes on."
            )
            raise typer.Exit(INTERRUPTED)
        if one_per_pair:
            for name, reason in training.left_out(run).items():
                if name not in data.refused:
                    warn(f"Pair {name} is left out: {reason}")
        speed = f" ({last.steps_per_second:.3g} per second)" if last.steps_per_second > 0 else ""
        trained = (
            f"{steps} steps in {last.seconds:.0f} s{speed}"
            if last.steps
            else "A library of patches"
        )
        what = f"the models of {len(done)} pairs are" if one_per_pair else "the model is"
        say(f"{trained}; {what} in {run}.")
        if last.validation:
            gains = f"{last.validation['delta_psnr']:+.2f} dB PSNR and {last.validation['delta_ssim']:+.4f} SSIM"
            say(f"Gain over bicubic interpolation on the pairs held back: {gains}.")


def _in_vain(options: dict[str, Any], batch: int) -> bool:
    """Whether no image of a batch attends to the references: the first floor(N/2) of N do."""
    return (
        options["name"] == "aeanet"
        and batch == 1
        and options.get("batch_aware", True)
        and options.get("references") != 0
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _say_trouble(error: OSError) -> None:
    warn(f"A file could not be saved for now: {sentence_or_raise(error)}")


def keep_run(
    run: Path,
    trained: "training.TrainingResult",
    recipe: Recipe,
    data: "PairSet",
    held_back: "Sequence[RegisteredPair]" = (),
) -> None:
    """Write the run folder. If the disk refuses, write it into the temporary folder and fail,
    naming both.
    """
    from aeanet.training import save_run

    try:
        save_run(run, trained, recipe, data, held_back)
    except OSError as error:
        refuge = Path(tempfile.mkdtemp(prefix="aeanet-run-"))
        save_run(refuge, trained, recipe, data, held_back)
        fail(f"{sentence_or_raise(error)} The trained model is in {refuge} instead.")
