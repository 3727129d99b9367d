"""Endless training batches of simulated micrographs, made by worker processes while the network
learns.

The steps are made in rounds. A round draws a few scenes, scans crops of them with settings drawn
anew for each, and deals these out to its steps: first as they are, then once more in another order
and upside down, since simulating a crop takes as long as learning from it. Crops are not turned:
noise is correlated along the lines of the scan. A round depends on the seed and its number alone:
neither the number of workers nor an interruption changes what a step sees.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aeanet.data.synthetic import Acquisition, draw_scene, simulate_example

SCENES = 8  # of a round
STEPS = (
    64  # of a round: a scene of 512 px then gives 64 crops, which take as long as the scene itself
)
SIDE = 512  # px of a scene


Batch = tuple[Tensor, Tensor, Tensor]
"""LR on the grid of HR and the clean target, (N, 1, crop, crop) each, and the magnifications, (N,).
"""


class SimulatedRounds(Dataset[Batch]):
    """Round i: the batches of its steps, one after the other, as one; float32.

    Args:
        batch, crop, seed: as in `recipe.Recipe`.
        first: number of the round that is item 0.
        rounds: number of items.
    """

    def __init__(self, *, batch: int, crop: int, seed: int, first: int, rounds: int) -> None:
        self.batch, self.crop, self.seed, self.first, self.rounds = batch, crop, seed, first, rounds

    def __len__(self) -> int:
        return self.rounds

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.seed, self.first + index))
        side = max(SIDE, 2 * self.crop)
        scenes = [draw_scene(rng, (side, side)) for _ in range(SCENES)]
        examples = []
        total = STEPS * self.batch
        for number in range(-(-total // 2)):
            row, column = rng.integers(side - self.crop + 1, size=2).tolist()
            scene = scenes[number % SCENES]
            examples.append(
                simulate_example(
                    scene, Acquisition.draw(rng), rng, origin=(row, column), crop=self.crop
                )
            )
        lr, hr = (
            np.stack([getattr(example, kind) for example in examples])[:, None]
            for kind in ("lr", "hr")
        )
        again = rng.permutation(len(lr))[: total - len(lr)]
        lr, hr = (np.concatenate([images, images[again, :, ::-1]]) for images in (lr, hr))
        magnifications = np.array([example.magnification for example in examples], np.float32)
        magnifications = np.concatenate([magnifications, magnifications[again]])
        return torch.from_numpy(lr), torch.from_numpy(hr), torch.from_numpy(magnifications)


def simulated_batches(
    *, batch: int, crop: int, seed: int, step: int, steps: int, workers: int
) -> Iterator[Batch]:
    """The batches of the steps from `step` to `steps`.

    workers: processes that make them; 0 makes them in this one, when they are needed.
    """
    first = step // STEPS
    rounds = SimulatedRounds(
        batch=batch, crop=crop, seed=seed, first=first, rounds=-(-steps // STEPS) - first
    )
    loader = DataLoader(
        rounds,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=1 if workers else None,
        worker_init_fn=_alone,
    )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(
        1
    )  # ends OpenCV's threads: a worker that is forked while there are some waits for them forever
    rounds_made = iter(loader)
    cv2.setNumThreads(threads)
    for index, (lr, hr, magnifications) in enumerate(rounds_made, start=first):
        for within in range(STEPS):
            if step <= index * STEPS + within < steps:
                part = slice(within * batch, (within + 1) * batch)
                yield lr[part], hr[part], magnifications[part]


def _alone(_worker: int) -> None:
    """A worker keeps to one core; Ctrl-C is for the process that trains."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
