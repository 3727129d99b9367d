"""Several processes training one network, as `torchrun` starts them: who is who, who takes which crops."""

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed
from torch.utils.data import Sampler

from aeanet.training.recipe import RecipeError

PATIENCE = timedelta(minutes=10)  # with a process that does not answer; rank 0 restores held-back pairs meanwhile


class ProcessError(ValueError):
    """A training that lost one of its processes; the message is one sentence for the user."""


def _launched() -> bool:
    return all(name in os.environ for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))


def processes() -> int:
    """How many processes train together; 1 unless a launcher such as `torchrun` says otherwise."""
    return int(os.environ["WORLD_SIZE"]) if _launched() else 1


def rank() -> int:
    """Which of the processes this is; only rank 0 writes files."""
    return int(os.environ["RANK"]) if _launched() else 0


class StepSampler(Sampler[list[int]]):
    """The indices of the crops that this process takes in each of `steps`, the reference half of its batch first.

    Over all processes those of a step are the ones a single process with a batch of `processes * batch` takes, and in
    the same branch of the attention: the first half of the joint batch, which attends to the references, is dealt to
    the first halves of the processes' batches, the second half to the second ones. They depend on nothing but the step,
    so a training can begin at any. Raises RecipeError if several processes cannot halve their batches.
    """

    def __init__(self, steps: range, batch: int, *, rank: int = 0, processes: int = 1) -> None:
        if processes > 1 and batch % 2:
            raise RecipeError(f"batch is {batch}, wanted an even number where several processes train together.")
        self.steps, self.batch, self.rank, self.processes = steps, batch, rank, processes

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch * self.processes
            indices: list[int] = []
            for size in (self.batch // 2, self.batch - self.batch // 2):
                indices += range(first + self.rank * size, first + (self.rank + 1) * size)
                first += self.processes * size
            yield indices


def lightning_settings() -> dict[str, Any]:
    """How Lightning's Trainer is to run in this process."""
    if processes() == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes()))
    return {
        "devices": local,
        "num_nodes": processes() // local,
        "plugins": [TorchElasticEnvironment()],
        "strategy": DDPStrategy(timeout=PATIENCE),
        "use_distributed_sampler": False,
    }


def mean_over_processes(values: list[float], device: torch.device) -> list[float]:
    """Each value's mean over the processes, the same bits on all of them."""
    if processes() == 1:
        return values
    joint = torch.tensor(values, device=device)
    distributed.all_reduce(joint)
    return (joint / processes()).tolist()


def is_loss_of_process(error: Exception) -> bool:
    """Whether PyTorch raised `error` because another process ended or no longer answers."""
    if processes() == 1 or not isinstance(error, RuntimeError):
        return False
    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in words)
