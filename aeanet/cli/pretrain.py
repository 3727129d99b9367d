"""`aeanet pretrain`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aeanet.cli.options import options_of
from aeanet.cli.runs import (
    NewRun,
    ReplaceRun,
    Resume,
    end_interrupted,
    given,
    say_trouble,
    steps_done,
)
from aeanet.cli.shared import Minutes, fail, option, path, progress_bar, say, seconds_of, show, warn
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


@options_of(Recipe, "Recipe (in brackets: the paper's)")
def main(
    run: NewRun,
    minutes: Minutes = None,
    model: Annotated[NetworkName | None, option("Network (shuffled).")] = None,
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
            "Residual blocks of the three levels of `shuffled` (2 2 2). Beside --from: at least "
            "those of that model; the blocks added change nothing at first."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that simulate.", min=0)] = 1,
    resume: Resume = False,
    overwrite: ReplaceRun = False,
    **changes: Any,
) -> None:
    """Train a model on simulated micrographs that never repeat, as the shipped model was, and score
    it on others: by default for 60,000 steps of 16 crops of 96 px. The network `shuffled` is told
    how strong and how smooth the noise is.

    With --from and --loss interval it trains a network that estimates the errors of that model,
    which itself stays as it is.

    Ctrl-C ends the training and keeps the model as it then is. --resume goes on from there, or from
    the latest checkpoint before a crash, as if nothing had happened.
    """
    from aeanet.networks.error import error_network_of
    from aeanet.networks.registry import load_model, short_options
    from aeanet.networks.shuffled import ShuffledUNet, deepened, telling_noise
    from aeanet.training import open_run
    from aeanet.training.pretraining import pretrain, pretraining_recipe
    from aeanet.training.randomness import seeded_randomness

    # another network would not take these options
    special = given({"attention": attention, "blocks": None if blocks is None else list(blocks)})
    for name in special:
        if model not in (None, "shuffled"):
            fail(f"--{name} is an option of the network shuffled, not of {model}.")
    if start is not None and not resume and (model or attention):
        fail("--from goes on with a network as it is: leave out --model and --attention.")
    changes = given(changes | {"max_seconds": seconds_of(minutes)})

    with open_run(run, resume=resume, overwrite=overwrite) as opened, progress_bar() as bar:
        begun = opened.checkpoint

        # a run that goes on keeps its network and its recipe, but for what is given of the recipe
        if begun:
            base, options = begun.recipe, begun.configuration["model"]
            _check_same(run, options, given({"model": model}) | special)
            if start is not None:
                warn(f"--from is not used: {run} goes on with the weights of its checkpoint.")
        else:
            name = model or "shuffled"
            told = {"told_noise": True} if name == "shuffled" else {}
            options = {"name": name} | short_options(name) | told | special
            base = pretraining_recipe()
        recipe = replace(base, **changes)

        # The weights of a checkpoint take the place of --from. What is added to its network changes
        # nothing at first.
        network = None if start is None or begun else load_model(start)
        if network is not None and blocks is not None:
            network = deepened(network, blocks)
        with seeded_randomness(recipe.seed):  # of the weights that are added
            if recipe.loss == "interval" and not begun:
                if network is None:
                    fail("--loss interval needs --from: the model whose errors are to be learned.")
                network = error_network_of(network)
            elif isinstance(network, ShuffledUNet):
                network = telling_noise(network)

        def on_step(now: "training.TrainingProgress") -> None:
            show(bar, f"Step {now.step:,}, loss {now.loss:.4f}", now.used)

        done = pretrain(
            recipe,
            start=network,
            run=opened,
            workers=workers,
            on_step=on_step,
            on_trouble=say_trouble,
            **options,
        )

    # after Ctrl-C the model is kept, and the exit code is another one
    steps = steps_done(done.steps, recipe.steps)
    if done.interrupted:
        end_interrupted(run, steps)
    say(f"{steps} steps in {done.seconds:.0f} s; the model is in {run}.")


def _check_same(run: Path, network: dict[str, Any], asked: dict[str, Any]) -> None:
    """End the command if a run that goes on has another network than is asked for."""
    # the options are those of the network whose errors a network of errors learns
    network = network.get("restoring", network)
    was = network | {"model": network["name"]}
    for name, value in asked.items():
        if value != was.get(name, "none"):
            fail(
                f"{run} was begun with {name} {was.get(name, 'none')}, not {value}: resume it "
                f"without --{name}, or begin another in another folder."
            )
