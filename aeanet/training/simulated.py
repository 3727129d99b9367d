"""Endless training batches of simulated micrographs, made by worker processes while the network
learns.

The steps are made in rounds. A round draws a few scenes, scans crops of them with settings drawn
anew for each, and deals these out to its steps: first as they are, then once more in another order
and upside down, since simulating a crop takes as long as learning from it. Crops are not turned:
noise is correlated along the lines of the scan. A round depends on the seed and its number alone:
neither the number of workers nor an interruption changes what a step sees.
"""

import signal
from collections.abc import Generator
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aeanet.data.synthetic import FINGERPRINT, Acquisition, draw_scene, simulate_example
from aeanet.training.batches import Batch, Source
from aeanet.training.recipe import Recipe

SCENES = 8  # of a round
STEPS = 64  # of a round: a scene of 512 px gives 64 crops, which take as long as the scene itself
SIDE = 512  # px of a scene
MAGNIFICATION = 2.0  # of a model for every magnification, where none is given


class SimulatedSource(Source):
    """Crops of simulated scans, with their magnifications.

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
            worker_init_fn=_keep_to_itself,
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


def _keep_to_itself(_worker: int) -> None:
    """A worker keeps to one core; Ctrl-C is for the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
