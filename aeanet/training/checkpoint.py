"""Checkpoints: all that decides the rest of a training, in one file that appears whole or not at all.

A safetensors file with the tensors (weights, batch norm's running statistics, Adam's moments, PyTorch's random state)
and, in its metadata, JSON: reading one never runs code from it.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from aeanet.errors import UserError
from aeanet.io.atomic import read_tensors, write_atomically
from aeanet.training.recipe import Recipe, current_record

CHECKPOINT_FILE = "checkpoint.safetensors"
FORMAT = "aeanet-checkpoint"
FORMAT_VERSION = "1"


class CheckpointError(UserError):
    """A training that cannot be resumed."""


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps.

    Attributes:
        step, seconds: steps done, and the time they took, over all processes that ever worked on this run.
        loss: smoothed training loss (MAE); NaN before the first step.
        steps_per_second: of the process that wrote it, NaN as long as there is none.
        scores: the latest on held-back pairs, see `run.Trained`.
        configuration: what must be the same for the training to go on, see `run.configuration`.
        model: the network's state_dict.
        optimizer: Adam's state by parameter index: "step", "exp_avg", "exp_avg_sq".
        random: the random state of Python, NumPy and PyTorch, see `random_state`.
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

    def write(self, path: Path) -> None:
        """Raises OSError, naming the file; an earlier checkpoint is then left as it was."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.items()}
        for index, state in self.optimizer.items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        tensors |= {f"random.{i}": state for i, state in enumerate(self.random["torch"])}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        where = {name: getattr(self, name) for name in ("step", "seconds", "loss", "steps_per_second", "scores")}
        where["random"] = {name: self.random[name] for name in ("python", "numpy")}
        metadata = {"format": FORMAT, "version": FORMAT_VERSION, "state": json.dumps(where)}
        metadata["configuration"] = json.dumps(self.configuration)
        write_atomically(path, safetensors.torch.save(tensors, metadata))

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Raises CheckpointError, in one sentence, if there is none, or it is damaged or of another version."""
        if not path.is_file():
            raise CheckpointError(f"{path.parent} holds no checkpoint to resume from: start the training without it.")
        try:
            metadata, tensors = read_tensors(path)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is damaged or is not a checkpoint: {error}.") from error
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, FORMAT_VERSION):
            raise CheckpointError(f"{path} is not a checkpoint of version {FORMAT_VERSION} of this program.")
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
        return cls(**state, configuration=configuration, model=model, optimizer=optimizer)

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Raises CheckpointError unless a training of the configuration `wanted` is the one begun here."""
        for kind in ("versions", "model", "recipe"):
            was, now = self.configuration[kind], json.loads(json.dumps(wanted[kind]))
            free = self.recipe.extensible if kind == "recipe" else frozenset()
            for name in sorted({*was, *now} - free):
                if was.get(name) != now.get(name):
                    raise CheckpointError(
                        f"This run was begun with {name} {was.get(name)}, not {now.get(name)}: resume it with the "
                        "same, or begin another in another folder."
                    )
        if self.configuration["processes"] != wanted["processes"]:
            raise CheckpointError(
                f"This run was begun by {self.configuration['processes']} processes, not {wanted['processes']}: resume "
                "it with as many, or begin another in another folder."
            )
        if self.configuration["data"]["sha256"] != wanted["data"]["sha256"]:
            raise CheckpointError(
                "This run was begun with other training pairs (their names or pixels differ): resume it with the same, "
                "or begin another in another folder."
            )


def random_state() -> dict[str, Any]:
    """The state of every generator: "python" and "numpy" as JSON takes them, "torch" a list, CPU first, then GPUs."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002 (other libraries may use it)
    assert isinstance(numpy, dict)
    numpy["state"] = numpy["state"] | {"key": numpy["state"]["key"].tolist()}
    generators = [torch.get_rng_state()]
    if torch.cuda.is_available():
        generators += torch.cuda.get_rng_state_all()
    return {"python": random.getstate(), "numpy": numpy, "torch": generators}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Undo what happened to the generators since `random_state`."""
    kind, words, gauss = state["python"]
    random.setstate((kind, tuple(words), gauss))
    numpy = state["numpy"]
    key = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})  # noqa: NPY002
    cpu, *gpus = state["torch"]
    torch.set_rng_state(cpu)
    if torch.cuda.is_available() and len(gpus) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(gpus)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The state of `optimizer` by parameter index."""
    return optimizer.state_dict()["state"]


def set_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Undo `optimizer_state`, each tensor in the strides of its parameter: other strides may round differently."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    laid_out = {
        index: {
            name: torch.empty_like(parameters[index]).copy_(tensor) if tensor.ndim else tensor
            for name, tensor in tensors.items()
        }
        for index, tensors in state.items()
    }
    optimizer.load_state_dict({"state": laid_out, "param_groups": optimizer.state_dict()["param_groups"]})
