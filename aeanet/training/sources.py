"""Where the batches of a training come from: crops of registered pairs, or scans that are simulated
while the network learns.
"""

import signal
import statistics
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aeanet.data.crops import RandomCrops
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.data.synthetic import FINGERPRINT, Acquisition, draw_scene, simulate_example
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
            (`step.WeightAverage`) rather than the weights of the last one.
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


SCENES = 8  # of a round
STEPS = 64  # of a round: a scene of 512 px gives 64 crops, which take as long as the scene itself
SIDE = 512  # px of a scene
MAGNIFICATION = 2.0  # of a model for every magnification, where none is given


class SimulatedSource(Source):
    """Crops of simulated scans, with their magnifications; they never repeat.

    The steps are made in rounds. A round draws a few scenes, scans crops of them with settings
    drawn anew for each, and deals these out to its steps: first as they are, then once more in
    another order and upside down, since simulating a crop takes as long as learning from it. Crops
    are not turned: noise is correlated along the lines of the scan. A round depends on the seed and
    its number alone: neither the number of workers nor an interruption changes what a step sees.

    Args:
        recipe: of the training.
        workers: processes that make them; 0 makes them in this one, when they are needed.
    """

    magnification = MAGNIFICATION
    averages = True

    def __init__(self, recipe: Recipe, workers: int = 1) -> None:
        self.recipe, self.workers = recipe, workers

    def describe(self) -> dict[str, Any]:
        simulator = {"simulator": "aeanet.data.synthetic", "sha256": FINGERPRINT}
        return {"pairs": [], "held_back": []} | simulator

    def batches(self, step: int) -> Generator[Batch, None, None]:
        batch, first = self.recipe.batch, step // STEPS
        rounds = range(first, -(-self.recipe.steps // STEPS))
        loader: DataLoader[Any] = DataLoader(
            rounds,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=partial(simulated_round, self.recipe),
            num_workers=self.workers,
            prefetch_factor=1 if self.workers else None,
            worker_init_fn=_initialise_worker,
        )

        # A worker that is forked while OpenCV has threads waits for them forever: this ends them.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        made = iter(loader)
        cv2.setNumThreads(threads)

        for index, (lr, hr, magnifications) in enumerate(made, start=first):
            for within in range(STEPS):
                if step <= index * STEPS + within < self.recipe.steps:
                    part = slice(within * batch, (within + 1) * batch)
                    yield lr[part], hr[part], magnifications[part]


def simulated_round(recipe: Recipe, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """The batches of all steps of a round, one after the other, as one batch."""
    rng = np.random.default_rng((recipe.seed, number))
    crop, total = recipe.crop, STEPS * recipe.batch
    side = max(SIDE, 2 * crop)
    scenes = [draw_scene(rng, (side, side)) for _ in range(SCENES)]

    # Half of the crops are scanned.
    examples = []
    for index in range(-(-total // 2)):
        row, column = rng.integers(side - crop + 1, size=2).tolist()
        settings = Acquisition.draw(rng)
        scene = scenes[index % SCENES]
        examples.append(simulate_example(scene, settings, rng, origin=(row, column), crop=crop))
    lr = np.stack([example.lr for example in examples])[:, None]
    hr = np.stack([example.hr for example in examples])[:, None]
    magnifications = np.array([example.magnification for example in examples], np.float32)

    # The other half are the same, upside down and in another order.
    again = rng.permutation(len(lr))[: total - len(lr)]
    lr = np.concatenate([lr, lr[again, :, ::-1]])
    hr = np.concatenate([hr, hr[again, :, ::-1]])
    magnifications = np.concatenate([magnifications, magnifications[again]])
    return torch.from_numpy(lr), torch.from_numpy(hr), torch.from_numpy(magnifications)


def _initialise_worker(_worker: int) -> None:
    """A worker keeps to one core; Ctrl-C is for the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
