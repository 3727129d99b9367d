"""Checkpoints: all that decides the rest of a training, in one file that appears whole or not at
all.

A safetensors file with the tensors (weights, batch norm's running statistics, Adam's moments,
PyTorch's random state) and, in its metadata, JSON: reading one never runs code from it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from aeanet.errors import UserError
from aeanet.io.atomic import read_tensors, write_tensors
from aeanet.io.text import json_text
from aeanet.training.progress import TrainingProgress
from aeanet.training.recipe import Recipe, current_record

CHECKPOINT_FILE = "checkpoint.safetensors"
FORMAT = "aeanet-checkpoint"
FORMAT_VERSION = "1"


class CheckpointError(UserError):
    """A training that cannot be resumed."""


@contextmanager
def fitting(name: str = "The checkpoint") -> Iterator[None]:
    """Within it, what does not fit together in a damaged checkpoint raises CheckpointError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{name} is damaged: its parts do not fit together.") from error


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps.

    Attributes:
        step, seconds: steps done, and the time they took, over all processes that ever worked on
            this run.
        loss: smoothed training loss (MAE); NaN before the first step.
        steps_per_second: of the process that wrote it, NaN as long as there is none.
        scores: the latest on held-back pairs, see `run.TrainingResult`.
        configuration: what must be the same for the training to go on, see `run.configuration`.
        model: the network's state_dict.
        optimizer: Adam's state by parameter index: "step", "exp_avg", "exp_avg_sq".
        random: the random state of Python, NumPy and PyTorch, see `randomness.random_state`.
        bfloat16_cost: of the network, see `networks.base.Network`.
    """

    step: int
    seconds: float
    loss: float
    steps_per_second: float
    scores: dict[str, float] | None
    configuration: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    random: dict[str, Any]
    bfloat16_cost: float | None = None

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_record(self.configuration["recipe"])

    def progress(self, recipe: Recipe) -> TrainingProgress:
        """How far a training by `recipe`, whose budget can be another one, is with this."""
        used = recipe.used(self.step, self.seconds)
        return TrainingProgress(self.step, self.seconds, used, self.loss, self.steps_per_second)

    def write(self, path: Path) -> None:
        """Write a checkpoint file.

        Raises:
            OSError: the file, which the error names, cannot be written. An earlier checkpoint is
                then left as it was.
        """
        # one flat list: the first word of a name says whose the tensor is
        tensors = {f"model.{name}": tensor for name, tensor in self.model.items()}
        for index, moments in self.optimizer.items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        tensors |= {f"random.{i}": words for i, words in enumerate(self.random["torch"])}

        # all else is text: what the steps change, and beside it what must be the same to go on
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "steps_per_second": self.steps_per_second,
            "scores": self.scores,
            "bfloat16_cost": self.bfloat16_cost,
            "random": {name: self.random[name] for name in ("python", "numpy")},
        }
        metadata = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "state": json_text(state),
            "configuration": json_text(self.configuration),
        }
        write_tensors(path, tensors, metadata)

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """The checkpoint in a file.

        Raises:
            CheckpointError: it is damaged or of another version.
        """
        try:
            metadata, tensors = read_tensors(path)
        except safetensors.SafetensorError as error:
            raise CheckpointError(
                f"{path} is damaged or is not a checkpoint: {error}. Begin anew: --overwrite in "
                f"place of --resume; --from {path.parent} takes the weights of its latest model."
            ) from error

        # parts of other versions would fit by chance or not at all
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, FORMAT_VERSION):
            raise CheckpointError(
                f"{path} is not a checkpoint of version {FORMAT_VERSION} of this program."
            )
        with fitting(str(path)):
            return cls._of(metadata, tensors)

    @classmethod
    def _of(cls, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> "Checkpoint":
        """Raises one of the errors of `fitting` if a part is missing or of the wrong type."""
        # the names that `write` gave, taken apart; "random" is all that is left
        model: dict[str, Tensor] = {}
        optimizer: dict[int, dict[str, Tensor]] = {}
        generators: dict[int, Tensor] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                model[rest] = tensor
            elif kind == "optimizer":
                index, _, key = rest.partition(".")
                optimizer.setdefault(int(index), {})[key] = tensor
            else:
                generators[int(rest)] = tensor

        # generators in the order in which they were saved, the CPU's first
        state = json.loads(metadata["state"])
        random = state["random"] | {"torch": [generators[i] for i in sorted(generators)]}
        cost = state.get("bfloat16_cost")
        scores = state["scores"] and {name: float(score) for name, score in state["scores"].items()}

        # converted here, so that a number of another type does not reach the training
        return cls(
            step=int(state["step"]),
            seconds=float(state["seconds"]),
            loss=float(state["loss"]),
            steps_per_second=float(state["steps_per_second"]),
            scores=scores,
            configuration=_checked(json.loads(metadata["configuration"])),
            model=model,
            optimizer=optimizer,
            random=random,
            bfloat16_cost=cost and float(cost),
        )

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Whether a training of the configuration `wanted` is the one begun here.

        Raises:
            CheckpointError: it is another one.
        """
        # only Python's version may differ, and a budget that does not change the steps
        may_differ = {"versions": {"python"}, "model": set(), "recipe": self.recipe.extensible}
        for kind, free in may_differ.items():
            was, now = self.configuration[kind], json.loads(json.dumps(wanted[kind]))
            for name in sorted({*was, *now} - free):
                if was.get(name) == now.get(name):
                    continue
                text = (
                    f"This run was begun with {_as_asked(name, was)}, not {_shown(name, now)}: "
                    "resume it with the same, or begin another in another folder."
                )
                if name in ("steps", "max_seconds") and self.recipe.schedule == "one-cycle":
                    text += " Its learning rate falls to 0 at that end (--schedule one-cycle)."
                raise CheckpointError(text)

        # what a step sees depends on the number of processes as on the pixels
        processes = self.configuration["processes"]
        if processes != wanted["processes"]:
            raise CheckpointError(
                f"This run was begun by {processes} processes, not {wanted['processes']}: resume "
                "it with as many, or begin another in another folder."
            )
        if self.configuration["data"]["sha256"] != wanted["data"]["sha256"]:
            raise CheckpointError(
                "This run was begun with other training pairs (their names or pixels differ): "
                "resume it with the same, or begin another in another folder."
            )


def _as_asked(name: str, settings: Mapping[str, Any]) -> str:
    """A field of a configuration and its value, in a message: of time, as the command takes it."""
    return f"{'--minutes' if name == 'max_seconds' else name} {_shown(name, settings)}"


def _shown(name: str, settings: Mapping[str, Any]) -> str:
    value = settings.get(name)
    return f"{value / 60:g}" if name == "max_seconds" and value is not None else f"{value}"


def _checked(configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration as this version writes it. Raises ValueError, TypeError or KeyError if a part
    is missing or of the wrong type.
    """
    configuration["recipe"] = current_record(configuration["recipe"])
    Recipe.from_record(configuration["recipe"])
    wanted = {"versions": dict, "model": dict, "data": dict, "processes": int}
    right = [isinstance(configuration[name], kind) for name, kind in wanted.items()]
    named = configuration["model"]["name"], configuration["data"]["sha256"]
    if not all(right) or not all(isinstance(name, str) for name in named):
        raise ValueError("a part of the configuration is missing")
    return configuration


def set_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Load the state by parameter index of a checkpoint, each tensor in the strides of its
    parameter: other strides may round differently.
    """
    current = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    laid_out: dict[int, dict[str, Tensor]] = {}
    for index, tensors in state.items():
        like = parameters[index]
        laid_out[index] = {
            name: torch.empty_like(like).copy_(tensor) if tensor.ndim else tensor
            for name, tensor in tensors.items()
        }
    optimizer.load_state_dict(current | {"state": laid_out})
