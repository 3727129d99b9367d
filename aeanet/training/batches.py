"""Where the batches of a training come from: crops of registered pairs, or another `Source`."""

import statistics
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from aeanet.data.crops import RandomCrops
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.distributed import process_count, rank
from aeanet.training.recipe import Recipe, RecipeError
from aeanet.training.run import describe_pairs

Batch = tuple[Tensor, Tensor, Tensor | None]
"""LR on the grid of HR and its target, (N, 1, crop, crop) float32 each, on the CPU; and the
magnification of each image, (N,), None where the network need not be told.
"""


class Source(ABC):
    """Batches for the steps of a training.

    Attributes:
        magnification: HR pixels per LR pixel, for the model that is trained.
        averages: whether the model is the running average of the weights over the latest steps
            (`average.WeightAverage`) rather than the weights of the last one.
    """

    magnification: float
    averages = False

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The data as JSON takes it; "sha256" tells it from any other."""

    @abstractmethod
    def batches(self, step: int) -> Generator[Batch, None, None]:
        """The batches of this process from `step` (counted from 0) to the end of the training."""


class PairSource(Source):
    """Random crops of the training regions of registered pairs.

    Args:
        data: the pairs; pixels in [0, 1].
        recipe: of the training.
        held_back: pairs that are scored and never trained on, for the description alone.
    """

    def __init__(
        self, data: PairSet, recipe: Recipe, held_back: Sequence[RegisteredPair] = ()
    ) -> None:
        self.data, self.recipe, self.held_back = data, recipe, held_back
        self.magnification = statistics.median(pair.report.magnification for pair in data.pairs)

    def describe(self) -> dict[str, Any]:
        return describe_pairs(self.data, self.held_back)

    def batches(self, step: int) -> Generator[Batch, None, None]:
        """See `Source.batches`.

        Raises:
            PairError: no crop fits into the pairs.
            RecipeError: several processes cannot halve their batches.
        """
        recipe = self.recipe
        if process_count() > 1 and recipe.batch % 2:
            raise RecipeError(
                f"batch is {recipe.batch}, wanted an even number where several processes train "
                "together."
            )
        count = recipe.steps * recipe.batch * process_count()
        crops = RandomCrops(self.data.pairs, recipe.crop, count, seed=recipe.seed)
        return (self._batch(crops, number) for number in range(step, recipe.steps))

    def _batch(self, crops: RandomCrops, step: int) -> Batch:
        """The crops of this process in a step."""
        indices = crop_indices(step, self.recipe.batch, rank=rank(), processes=process_count())
        lr, hr = zip(*(crops[index] for index in indices), strict=True)
        return torch.stack(lr), torch.stack(hr), None


def crop_indices(step: int, batch: int, *, rank: int = 0, processes: int = 1) -> list[int]:
    """The indices of the `batch` crops that process `rank` takes in a step, the reference half
    first.

    Over all processes they are the crops that one process with a batch of `processes * batch`
    takes, and each crop is in the same branch of the attention: the first half of the joint batch,
    which attends to the references, is dealt to the first halves of the processes' batches, the
    second half to the second ones. They depend on nothing but the step, so a training can begin at
    any. With several processes, `batch` is even.
    """
    first = step * batch * processes
    indices: list[int] = []
    for size in (batch // 2, batch - batch // 2):
        indices += range(first + rank * size, first + (rank + 1) * size)
        first += processes * size
    return indices
