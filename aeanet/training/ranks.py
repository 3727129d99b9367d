"""Several processes training one network, as `torchrun` starts them: who takes which crops."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed
from torch.utils.data import Sampler

from aeanet.distributed import PATIENCE, process_count
from aeanet.training.recipe import RecipeError


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
    if process_count() == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))
    return {
        "devices": local,
        "num_nodes": process_count() // local,
        "plugins": [TorchElasticEnvironment()],
        "strategy": DDPStrategy(timeout=PATIENCE),
        "use_distributed_sampler": False,
    }


def mean_over_processes(values: list[float], device: torch.device) -> list[float]:
    """Each value's mean over the processes, the same bits on all of them."""
    if process_count() == 1:
        return values
    joint = torch.tensor(values, device=device)
    distributed.all_reduce(joint)
    return (joint / process_count()).tolist()
