"""Checkpoints: all that decides the rest of a training, in one file that appears whole or not at
all.

A safetensors file with the tensors (weights, batch norm's running statistics, Adam's moments,
PyTorch's random state) and, in its metadata, JSON: reading one never runs code from it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from aeanet.distributed import rank
from aeanet.errors import UserError
from aeanet.io.atomic import read_tensors, write_atomically
from aeanet.io.text import json_text
from aeanet.networks.base import Network
from aeanet.networks.registry import MODEL_FILE, save_model
from aeanet.training.disk import OnTrouble, tolerating
from aeanet.training.progress import TrainingProgress
from aeanet.training.randomness import random_state
from aeanet.training.recipe import Interval, Recipe, current_record

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

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_record(self.configuration["recipe"])

    def progress(self, recipe: Recipe) -> TrainingProgress:
        """How far a training by `recipe`, whose budget can be another one, is with this."""
        used = recipe.used(self.step, self.seconds)
        return TrainingProgress(self.step, self.seconds, used, self.loss, self.steps_per_second)

    def write(self, path: Path) -> None:
        """Raises OSError, naming the file; an earlier checkpoint is then left as it was."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.items()}
        for index, state in self.optimizer.items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        tensors |= {f"random.{i}": state for i, state in enumerate(self.random["torch"])}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        where = {
            name: getattr(self, name)
            for name in ("step", "seconds", "loss", "steps_per_second", "scores")
        }
        where["random"] = {name: self.random[name] for name in ("python", "numpy")}
        metadata = {"format": FORMAT, "version": FORMAT_VERSION, "state": json_text(where)}
        metadata["configuration"] = json_text(self.configuration)
        write_atomically(path, safetensors.torch.save(tensors, metadata))

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Raises CheckpointError, in one sentence, if there is none, or it is damaged or of another
        version.
        """
        if not path.is_file():
            raise CheckpointError(
                f"{path.parent} holds no checkpoint to resume from: start the training without it."
            )
        try:
            metadata, tensors = read_tensors(path)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is damaged or is not a checkpoint: {error}.") from error
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, FORMAT_VERSION):
            raise CheckpointError(
                f"{path} is not a checkpoint of version {FORMAT_VERSION} of this program."
            )
        with fitting(str(path)):
            return cls._of(metadata, tensors)

    @classmethod
    def _of(cls, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> "Checkpoint":
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
        state = json.loads(metadata["state"])
        state["random"]["torch"] = [generators[i] for i in sorted(generators)]
        configuration = json.loads(metadata["configuration"])
        configuration["recipe"] = current_record(configuration["recipe"])
        Recipe.from_record(configuration["recipe"])
        described = configuration["versions"], configuration["model"], configuration["data"]
        if not all(isinstance(part, dict) for part in described) or not isinstance(
            configuration["processes"], int
        ):
            raise ValueError("a part of the configuration is missing")
        if not isinstance(configuration["model"]["name"], str) or not isinstance(
            configuration["data"]["sha256"], str
        ):
            raise ValueError("the model or the data are not named")
        scores = state["scores"] and {name: float(score) for name, score in state["scores"].items()}
        return cls(
            step=int(state["step"]),
            seconds=float(state["seconds"]),
            loss=float(state["loss"]),
            steps_per_second=float(state["steps_per_second"]),
            scores=scores,
            configuration=configuration,
            model=model,
            optimizer=optimizer,
            random=state["random"],
        )

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Raises CheckpointError unless a training of the configuration `wanted` is the one begun
        here.
        """
        may_differ = {"versions": {"python"}, "model": set(), "recipe": self.recipe.extensible}
        for kind, free in may_differ.items():
            was, now = self.configuration[kind], json.loads(json.dumps(wanted[kind]))
            for name in sorted({*was, *now} - free):
                if was.get(name) != now.get(name):
                    raise CheckpointError(
                        f"This run was begun with {name} {was.get(name)}, not {now.get(name)}: "
                        "resume it with the same, or begin another in another folder."
                    )
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


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The state of `optimizer` by parameter index."""
    return optimizer.state_dict()["state"]


def set_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Undo `optimizer_state`, each tensor in the strides of its parameter: other strides may round
    differently.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    laid_out = {
        index: {
            name: torch.empty_like(parameters[index]).copy_(tensor) if tensor.ndim else tensor
            for name, tensor in tensors.items()
        }
        for index, tensors in state.items()
    }
    optimizer.load_state_dict(
        {"state": laid_out, "param_groups": optimizer.state_dict()["param_groups"]}
    )


@dataclass
class Checkpointer:
    """Writes the checkpoint and, once there was a step, the model: every so often and after the
    last step, in rank 0.

    Attributes:
        model, optimizer: of the training.
        every: how often.
        latest: when it last was time, in seconds of training.
        folder: the run folder; None: nothing is written, but `on_save` is called.
        configuration: see `run.configuration`.
        on_save: called with the model, for a copy that outlives a crash.
        on_trouble: see `disk.tolerating`.
        published: makes the network that is saved as the model; None: it is `model`.
    """

    model: Network
    optimizer: torch.optim.Optimizer
    every: Interval
    latest: float
    folder: Path | None
    configuration: dict[str, Any]
    on_save: Callable[[Network], None] | None
    on_trouble: OnTrouble
    published: Callable[[], Network] | None = None

    def after_step(self, now: TrainingProgress, scores: dict[str, float] | None) -> None:
        """Write if it is time. `scores` are the latest on held-back pairs."""
        if now.ended or self.every.due(now.step, now.seconds - self.latest):
            self.write(now, scores)
            self.latest = now.seconds

    def write(self, now: TrainingProgress, scores: dict[str, float] | None = None) -> None:
        """Raises OSError if nobody is to be told of it."""
        if rank():
            return
        with tolerating(self.on_trouble):
            if self.folder:
                Checkpoint(
                    step=now.step,
                    seconds=now.seconds,
                    loss=now.loss,
                    steps_per_second=now.steps_per_second,
                    scores=scores,
                    configuration=self.configuration,
                    model=self.model.state_dict(),
                    optimizer=optimizer_state(self.optimizer),
                    random=random_state(),
                ).write(self.folder / CHECKPOINT_FILE)
                if now.step:
                    save_model(
                        self.published() if self.published else self.model, self.folder / MODEL_FILE
                    )
            if self.on_save and now.step:
                self.on_save(self.model)
