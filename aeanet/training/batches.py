"""The crops of each training step, dealt to the processes that train together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aeanet.data.crops import RandomCrops
from aeanet.data.registration import RegisteredPair
from aeanet.distributed import process_count, rank
from aeanet.training.recipe import Recipe, RecipeError


class TrainingBatches:
    """`batches[step]` are the crops (lr, hr) of this process in that step, (N, 1, crop, crop)
    float32 each, on the CPU.

    Raises PairError if no crop fits into the pairs, RecipeError if several processes cannot halve
    their batches.
    """

    def __init__(self, pairs: Sequence[RegisteredPair], recipe: Recipe) -> None:
        if process_count() > 1 and recipe.batch % 2:
            raise RecipeError(
                f"batch is {recipe.batch}, wanted an even number where several processes train together."
            )
        self.batch = recipe.batch
        self.crops = RandomCrops(
            pairs, recipe.crop, recipe.steps * recipe.batch * process_count(), seed=recipe.seed
        )

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        indices = crop_indices(step, self.batch, rank=rank(), processes=process_count())
        lr, hr = zip(*(self.crops[index] for index in indices), strict=True)
        return torch.stack(lr), torch.stack(hr)


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
