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
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from aeanet.data.crops import RandomCrops
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.data.synthetic import Acquisition, Example, draw_scene, simulate_example
from aeanet.distributed import process_count, rank
from aeanet.errors import PairError
from aeanet.imaging.exposure import within
from aeanet.inference.exposure import find_exposure
from aeanet.inference.noise import at_lr_pixels, measured_noise
from aeanet.inference.prediction import reader
from aeanet.training.recipe import Recipe, RecipeError
from aeanet.training.run import describe_pairs

Batch = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""LR on the grid of HR and its target, (N, 1, crop, crop) float32 each, on the CPU; and the
magnification, (N,), and the noise, (N, 4), of each image (`Network.noise`), None where the network
need not be told.
"""


class Source(ABC):
    """Batches for the steps of a training.

    Attributes:
        magnification: HR pixels per LR pixel, for the model that is trained.
        averages: whether the model is the running average of the weights over the latest steps
            (`step.WeightAverage`) rather than the weights of the last one.
        fits_range: whether images are shown in the range that they use (`Network.fits_range`).
    """

    magnification: float
    averages = False
    fits_range = False

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
        if not data.pairs:
            raise PairError("There are no pairs to train on.")
        self.data, self.recipe, self.held_back = data, recipe, held_back
        self.magnification = statistics.median(pair.report.magnification for pair in data.pairs)
        self.fits_range = data.of_scans
        self._noises: dict[str, Tensor] = {}

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
        noises = [self._noise_of(crops.pair_of(index)) for index in indices]
        return torch.stack(lr), torch.stack(hr), None, torch.cat(noises)

    def _noise_of(self, pair: RegisteredPair) -> Tensor:
        """That of a pair's LR, (1, 4), measured when it is first asked for."""
        if pair.name not in self._noises:
            lr = pair.lr
            self._noises[pair.name] = measured_noise(reader(lr), lr.shape, self.magnification)
        return self._noises[pair.name]


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


ROUNDS = "fd227388d6d942f2f61763bd99a7ff25fbc5c21cba283f0a7963f6914c6e080e"
"""Names what the steps of a training see, as `synthetic.FINGERPRINT` names simulated images: other
crops need another one.
"""
SCENES = 8  # of a round
STEPS = 64  # of a round: a scene of 512 px gives 64 crops, which take as long as the scene itself
SIDE = 512  # px of a scene
SCAN = 240  # px of a scan of a part of it, from which crops are cut
CROPS = 6  # of a scan
AS_RECORDED = 0.2  # share of the scans that are shown in the range of the detector
UNTOLD = 0.1  # share of the scans whose noise is not told
MAGNIFICATION = 2.0  # of a model for every magnification, where none is given


class SimulatedSource(Source):
    """Crops of simulated scans, with their magnifications; they never repeat.

    The steps are made in rounds. A round draws a few scenes, scans parts of them with settings
    drawn anew for each, and cuts crops from each scan. The crops are dealt out to its steps: first
    in one order, then once more in another and upside down, since simulating a crop takes as long
    as learning from it. Crops are not turned: noise is correlated along the lines of the scan. A
    round depends on the seed and its number alone: neither the number of workers nor an
    interruption changes what a step sees.

    Scans are shown and told as images are in use: most in the range that they use, with the noise
    that is measured in them.

    Args:
        recipe: of the training.
        workers: processes that make them; 0 makes them in this one, when they are needed.
    """

    magnification = MAGNIFICATION
    averages = True
    fits_range = True

    def __init__(self, recipe: Recipe, workers: int = 1) -> None:
        self.recipe, self.workers = recipe, workers

    def describe(self) -> dict[str, Any]:
        return {
            "pairs": [],
            "held_back": [],
            "simulator": "aeanet.data.synthetic",
            "sha256": ROUNDS,
        }

    def batches(self, step: int) -> Generator[Batch, None, None]:
        # The loader's items are the numbers of rounds: a worker turns one into all batches of a
        # round, and the rounds come in order.
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

        # the first round may be begun in its middle, the last one ended there
        for index, crops in enumerate(made, start=first):
            for number in range(STEPS):
                if step <= index * STEPS + number < self.recipe.steps:
                    part = slice(number * batch, (number + 1) * batch)
                    lr, hr, magnifications, noises = (of_all[part] for of_all in crops)
                    yield lr, hr, magnifications, noises


def simulated_round(recipe: Recipe, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batches of all steps of a round, one after the other, as one batch."""
    # the generator of this round alone, whichever process makes it
    rng = np.random.default_rng((recipe.seed, number))
    total = STEPS * recipe.batch
    scanned, scan_side = -(-total // 2), max(SCAN, recipe.crop)
    side = max(SIDE, scan_side)
    scenes = [draw_scene(rng, (side, side)) for _ in range(SCENES)]

    # Half of the crops are scanned.
    lrs, hrs, magnifications, noises = [], [], [], []
    for index in range(-(-scanned // CROPS)):
        place = rng.integers(side - scan_side + 1, size=2).tolist()
        settings = Acquisition.draw(rng, smooth_noise=True)
        scan = simulate_example(scenes[index % SCENES], settings, rng, origin=place, crop=scan_side)
        lr, hr, noise = _as_in_use(scan, rng)
        for row, column in rng.integers(scan_side - recipe.crop + 1, size=(CROPS, 2)):
            crop = slice(row, row + recipe.crop), slice(column, column + recipe.crop)
            lrs.append(lr[crop])
            hrs.append(hr[crop])
        magnifications += CROPS * [scan.magnification]
        noises += CROPS * [noise]

    # In a random order, so that a step sees many scans; the other half are the same, upside down
    # and in another order.
    first, again = rng.permutation(len(lrs))[:scanned], rng.permutation(len(lrs))[: total - scanned]
    lr, hr = (
        np.concatenate([np.stack([crops[i] for i in first]), np.stack([crops[i] for i in again])])
        for crops in (lrs, hrs)
    )
    lr[scanned:], hr[scanned:] = lr[scanned:, ::-1].copy(), hr[scanned:, ::-1].copy()
    order = np.concatenate([first, again])
    return (
        torch.from_numpy(lr)[:, None],
        torch.from_numpy(hr)[:, None],
        torch.tensor(magnifications, dtype=torch.float32)[order],
        torch.stack(noises)[order],
    )


def _as_in_use(
    scan: Example, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], Tensor]:
    """LR and HR of a scan in the range that LR uses, and the noise, (4,), as a network is shown and
    told them in use; some as recorded, and some without the noise.
    """
    lr, hr = scan.lr, scan.hr
    if rng.uniform() >= AS_RECORDED:
        recorded = at_lr_pixels(lr, scan.magnification)
        exposure = find_exposure(reader(recorded), recorded.shape)
        lr, hr = within(exposure.scale(lr)), exposure.scale(hr)
    noise = measured_noise(reader(lr), lr.shape, scan.magnification)[0]
    if rng.uniform() < UNTOLD:
        noise = torch.full_like(noise, torch.nan)
    return lr, hr, noise


def _initialise_worker(_worker: int) -> None:
    """A worker keeps to one core; Ctrl-C is for the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
