"""What `aeanet train` is asked to do, and what it shows and keeps.

The command imports this module when it runs, since it imports PyTorch.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from aeanet.cli.shared import fail, show, warn
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.errors import sentence_or_raise
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model, short_options
from aeanet.training import RunFolder, TrainingProgress, TrainingResult, save_run
from aeanet.training.checkpoint import CHECKPOINT_FILE
from aeanet.training.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """A training that is asked for.

    Attributes:
        recipe: of the training.
        network: name and options of the network.
        start: the network whose weights it begins with; None for new ones, or those of a
            checkpoint.
    """

    recipe: Recipe
    network: dict[str, Any]
    start: Network | None

    def warn_beforehand(self) -> None:
        """Warn of references that learn nothing, and of a training that takes days."""
        name = self.network["name"]
        # The first floor(N/2) images of a batch of N attend to the references.
        with_references = name == "aeanet" and self.network.get("references") != 0
        if with_references and self.network.get("batch_aware", True) and self.recipe.batch == 1:
            warn(
                "With --batch 1 the references learn nothing: give --batch 2 or more, or "
                "--no-batch-aware."
            )

        # the paper's recipe as it stands, for a network that is trained in steps
        by_library = name in ("lbnlm", "srsw")
        if self.recipe == Recipe() and not by_library and not torch.cuda.is_available():
            warn(
                f"{self.recipe.steps:,} steps take days without a GPU: --from sem and --quick take "
                "minutes."
            )


def resolve_request(
    run: RunFolder,
    model: str | None,
    network: dict[str, Any],
    changes: dict[str, Any],
    start: Path | None,
    *,
    quick: bool,
) -> Request:
    """What is to be trained: what the user gave, else what the run was begun with, else defaults.

    Args:
        run: the folder, with the checkpoint of a run that goes on.
        model: name of the network, if it was given.
        network: the options of the network that were given.
        changes: the fields of the recipe that were given.
        start: the model whose weights a new run begins with.
        quick: whether the short recipe was asked for.
    """
    # the recipe: the later counts over the earlier, and single fields over all
    begun = run.checkpoint
    base = Recipe() if start is None else Recipe.fine_tuning()
    if begun:
        base = begun.recipe
    if quick:
        base = Recipe.short()

    # a checkpoint fits its own network alone, so another one cannot be resumed
    name = model or "aeanet"
    kept = {"name": name} | (short_options(name) if quick else {})
    if begun:
        kept = begun.configuration["model"]
        if model and model != kept["name"]:
            fail(
                f"{run.path} trains {kept['name']}: resume it without --model, or begin another in "
                "another folder."
            )

    # the weights of a checkpoint take the place of --from
    weights = None if start is None or begun else load_model(start)
    return Request(replace(base, **changes), kept | network, weights)


class Shown:
    """Shows a training in the progress bar."""

    def __init__(self, bar: Progress, recipe: Recipe) -> None:
        self.bar = bar
        self.steps = recipe.steps
        self.whose = ""

    def on_pair(self, name: str) -> None:
        self.whose = f" on {name}"

    def on_step(self, now: TrainingProgress) -> None:
        label = f"Training{self.whose}, step {now.step:,} of {self.steps:,}, loss {now.loss:.4f}"
        show(self.bar, label, now.used)


def what_is_trained_on(data: PairSet, held_back: Sequence[RegisteredPair]) -> str:
    number = len(data.pairs)
    plural = "s" * (number != 1)
    if data.of_scans:
        rest = data.unused
        beside = f" {rest} more single images are not needed." if rest else ""
        return (
            f"Training on {number} noisy image{plural}: scans, or copies of single images.{beside}"
        )
    beside = f"; {len(held_back)} held back" if held_back else ""
    return f"Training on {number} pair{plural}{beside}."


def what_was_trained(last: TrainingResult, steps: str) -> str:
    if not last.steps:
        return "A library of patches"
    speed = f" ({last.steps_per_second:.3g} per second)" if last.steps_per_second > 0 else ""
    return f"{steps} steps in {last.seconds:.0f} s{speed}"


def keep_run(
    run: Path,
    trained: TrainingResult,
    recipe: Recipe,
    data: PairSet,
    held_back: Sequence[RegisteredPair] = (),
) -> None:
    """Write the run folder. If the disk refuses, write it into the temporary folder and fail,
    naming both. If that fails too, say what is left.
    """
    try:
        save_run(run, trained, recipe, data, held_back)
    except OSError as error:
        # a trained model is worth a place elsewhere, which may be on the same full disk
        refused = sentence_or_raise(error)
        try:
            refuge = Path(tempfile.mkdtemp(prefix="aeanet-run-"))
            save_run(refuge, trained, recipe, data, held_back)
        except OSError as second:
            begin = "begin again"
            if (run / CHECKPOINT_FILE).is_file():
                begin = "go on from the latest checkpoint with --resume"
            fail(
                f"{refused} {sentence_or_raise(second)} The run is incomplete: make room, then "
                f"{begin}."
            )
        fail(
            f"{refused} The trained model is in {refuge} instead: move this folder to a disk with "
            "room, since temporary folders are emptied."
        )
