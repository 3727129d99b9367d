"""From simulated images to the statistics with which `aeanet.trust.assess` compares.

The limit of the regression follows from leave-one-out values, which it has in closed form
(Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 5.12). Four fifths of the
false alarms are left to it, one fifth to the numbers of the residual.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from aeanet.data.synthetic import WholeImage, simulate_image
from aeanet.imaging.precision import Precision
from aeanet.inference.prediction import super_resolve
from aeanet.io.text import json_text, write_json
from aeanet.networks.base import Network
from aeanet.trust.reference import FAR, Reference, Scale, compressed, gaussian_kernel
from aeanet.trust.residual import residual
from aeanet.trust.statistics import describe

from .faults import FAULTS, LEARNED_PHOTOGRAPHS, faulty, photograph_crop, photographs

Progress = Callable[[int, int], None]
SEED = 2_000_000_000  # of the first image; those of training have smaller seeds
_SHAPES = ((144, 192), (192, 256), (256, 320))
_FAULTS = 2  # images with faults for each without
_PHOTOGRAPHS = 0.25  # of the faulty images

# Share of images like those of training that get a warning, so that it stays below 5 % elsewhere.
FALSE_ALARMS = 0.04
LEAST_IMAGES = 20  # of either kind
_WIDTH = 0.02  # of the kernel; as _RIDGE, the best by leave-one-out
_RIDGE = 0.1
_TAIL = 0.01  # share of the training images beyond each limit of one number


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
            # In both precisions, so that the limits hold for either.
            for precision in get_args(Precision):
                restored = super_resolve(
                    model, example.image, magnification=example.magnification, precision=precision
                )
                taken = residual(example.image, restored, found.noise).numbers
                number_names = list(taken)
                numbers.append(list(taken.values()))

        # images with faults, or photographs, stand for what lies outside
        for turn in range(_FAULTS):
            if pictures and rng.uniform() < _PHOTOGRAPHS:
                picture = pictures[rng.integers(len(pictures))]
                other = photograph_crop(picture, example.image.shape, rng)
            else:
                other = faulty(example.image, kinds[(_FAULTS * index + turn) % len(kinds)], rng)
            others.append(describe(other).vector())
        if progress:
            progress(index + 1, len(images))
    return fit_reference(names, np.array(usual), np.array(others), number_names, np.array(numbers))


def fit_reference(
    names: list[str], usual: NDArray, others: NDArray, residual_names: list[str], residuals: NDArray
) -> Reference:
    """A reference from the statistics of images like those of training (N, D) and of others (M, D).

    `residuals` (K, 4) are what a model takes away from some of the first. Raises ValueError for
    fewer than 20 images.
    """
    counts = len(usual), len(others)
    if min(*counts, len(residuals)) < LEAST_IMAGES:
        raise ValueError(
            f"at least {LEAST_IMAGES} images of each kind are wanted, got {counts[0]} and "
            f"{counts[1]}."
        )

    # the spread is half the width of the middle 68 %, and not zero
    low, centre, high = np.quantile(usual, (0.16, 0.5, 0.84), axis=0)
    spread = np.maximum((high - low) / 2, 0.02)

    # The regression, in which both kinds count alike, and its leave-one-out values.
    points = compressed(np.concatenate([usual, others]), centre, spread)
    target = np.repeat([-1.0, 1.0], counts) - FAR
    share = np.repeat(counts, counts) * 2 / len(points)
    inverse = np.linalg.inv(gaussian_kernel(points, points, _WIDTH) + _RIDGE * np.diag(share))
    weights = inverse @ target
    left_out = (FAR + target - weights / np.diag(inverse))[: len(usual)]
    limit = np.quantile(left_out, 1 - 0.8 * FALSE_ALARMS)

    # the numbers of the residual have a limit of their own, with their share of the false alarms
    scale = fit_scale(residuals)
    deviations = scale.deviations(residuals).max(1)
    residual_limit = np.quantile(deviations, 1 - 0.2 * FALSE_ALARMS)
    return Reference(
        names=names,
        centre=centre.tolist(),
        spread=spread.tolist(),
        usual=fit_scale(usual),
        points=points.tolist(),
        weights=weights.tolist(),
        width=_WIDTH,
        limit=max(float(limit), -0.9),
        residual_names=residual_names,
        residual=scale,
        residual_limit=max(float(residual_limit), 0.05),
        images=len(usual),
    )


def fit_scale(values: NDArray) -> Scale:
    """The limits of numbers (N, D) beyond which few of them lie."""
    low, high = (np.quantile(values, share, axis=0) for share in (_TAIL, 1 - _TAIL))
    return Scale(low.tolist(), high.tolist())


def write_reference(path: Path, reference: Reference) -> None:
    """JSON on one line, numbers of four digits. Raises OSError, naming the file."""
    text = json_text(asdict(reference))
    short = json.loads(text, parse_float=lambda number: float(f"{float(number):.4g}"))
    write_json(path, short, indent=None)
