"""From simulated images to the statistics with which `aeanet.trust.assess` compares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aeanet.data.synthetic import WholeImage, simulate_image
from aeanet.inference.prediction import super_resolve
from aeanet.networks.base import Network
from aeanet.trust.reference import Reference, fit_reference
from aeanet.trust.residual import residual
from aeanet.trust.statistics import describe

from .faults import (
    FAULTS,
    LEARNED_PHOTOGRAPHS,
    faulty,
    photograph_crop,
    photographs,
)

Progress = Callable[[int, int], None]
SEED = 2_000_000_000  # of the first image; those of training have smaller seeds
_SHAPES = ((144, 192), (192, 256), (256, 320))
_FAULTS = 2  # images with faults for each without
_PHOTOGRAPHS = 0.25  # of the faulty images


@dataclass(frozen=True)
class Example:
    """A simulated image (H, W) in [0, 1] on its own grid, and how much larger the result is along
    each axis.
    """

    image: NDArray[np.float32]
    magnification: float


def simulated(index: int, *, first: int = SEED) -> WholeImage:
    """One of the images that stand for those of training."""
    return simulate_image(first + index, _SHAPES[index % len(_SHAPES)])


def reference_statistics(
    model: Network,
    images: Sequence[Example],
    *,
    residuals: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reference:
    """The statistics of images like those of training, of twice as many with faults, and of what a
    model takes away.

    Args:
        model: the network as it will be used.
        images: at least 20, both sides of each at least `statistics.SMALLEST`.
        residuals: how many of them the model restores; by default all.
        seed: of the faults.
        progress: told (done, total) after every image.

    Raises ValueError for fewer images. The same arguments give the same statistics.
    """
    rng = np.random.default_rng(seed)
    kinds, pictures = list(FAULTS), list(photographs(LEARNED_PHOTOGRAPHS).values())
    usual, others, numbers, names, number_names = [], [], [], [], []
    for index, example in enumerate(images):
        found = describe(example.image)
        names = list(found.values)
        usual.append(found.vector())
        if residuals is None or index < residuals:
            restored = super_resolve(model, example.image, magnification=example.magnification)
            taken = residual(example.image, restored, found.noise).numbers
            number_names = list(taken)
            numbers.append(list(taken.values()))
        for turn in range(_FAULTS):
            if pictures and rng.uniform() < _PHOTOGRAPHS:
                other = photograph_crop(
                    pictures[rng.integers(len(pictures))], example.image.shape, rng
                )
            else:
                other = faulty(example.image, kinds[(_FAULTS * index + turn) % len(kinds)], rng)
            others.append(describe(other).vector())
        if progress:
            progress(index + 1, len(images))
    return fit_reference(names, np.array(usual), np.array(others), number_names, np.array(numbers))
