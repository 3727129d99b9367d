"""`python -m benches.scans`: what training on noisy images alone brings.

The scans are photographs of surfaces, which the simulator of the shipped model does not draw, with
noise that is correlated along the lines. They drift from scan to scan. `results/scans.json` is the
record, from which the READMEs take their numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from aeanet.data.frames.pairs import pairs_of_frames
from aeanet.data.pairs import PairSet
from aeanet.imaging.metrics import psnr
from aeanet.inference.prediction import super_resolve
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model
from aeanet.training import Recipe, train
from aeanet.training.recorrupted import pairs_of_image
from aeanet.training.scans import COPIES, in_range, in_use

from .record import RESULTS, commit

RECORD = RESULTS / "scans.json"
SURFACES = ("brick", "grass", "gravel")
SCANS = 4
TRAINED_ON, TESTED_ON = slice(0, 320), slice(336, 512)  # columns of a surface
BLUR = 0.7  # px: so that the noise is coarser than the finest structure, as in micrographs
DRIFT = 2.0  # px: standard deviation of the drift along each axis
VARIANCE = (0.0004, 0.006)  # of the noise at black, and what it grows by to white
ALONG = 0.29  # correlation of neighbours on a line, that of real micrographs
STEPS, MINUTES = 300, 2.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.scans", description=__doc__)
    parser.add_argument("--record", type=Path, default=RECORD)
    chosen = parser.parse_args(arguments)
    write_json(chosen.record, measure())


def measure() -> dict[str, Any]:
    """PSNR on scans of other parts of the surfaces: of the shipped model, and of what it becomes by
    training on repeated scans, on one scan of each surface, and on the truth.
    """
    # one generator in a fixed order, so that the scans are the same in every run
    random = np.random.default_rng(29)
    surfaces = {name: _surface(name) for name in SURFACES}
    taught = {name: _scans(image[:, TRAINED_ON], SCANS, random) for name, image in surfaces.items()}
    tests = {name: _scans(image[:, TESTED_ON], 1, random) for name, image in surfaces.items()}

    # where each training begins, whose scores it has to better
    shipped = load_model("sem")
    scores = {"noisy": {name: _psnr(scan[0], true[0]) for name, (scan, true) in tests.items()}}
    scores["shipped"] = _scores(shipped, tests)
    steps = {}

    # the truth in the place of noisy targets says how much the noise in them costs
    ways = {
        "repeated scans": _pairs(taught, of_truth=False),
        "single images": _single(taught, shipped),
        "truth": _pairs(taught, of_truth=True),
    }
    for name, pairs in ways.items():
        recipe = Recipe.fine_tuning(steps=STEPS, max_seconds=60 * MINUTES, loss="psnr")
        trained = train(pairs, recipe, start=shipped)
        scores[name], steps[name] = _scores(trained.model, tests), trained.steps
    return {
        "commit": commit(),
        "scans": SCANS,
        "minutes": MINUTES,
        "along": ALONG,
        "steps": steps,
        "psnr": scores,
    }


def _surface(name: str) -> NDArray[np.float32]:
    photograph = getattr(skimage.data, name)().astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(photograph, (0, 0), BLUR))


def _scans(
    image: NDArray[np.float32], number: int, random: np.random.Generator
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Scans of a field, and what each would be without noise."""
    scans, truths = [], []
    for _ in range(number):
        moved = np.float32([[1, 0, 0], [0, 1, 0]])
        moved[:, 2] = random.normal(0, DRIFT, 2)
        size = image.shape[::-1]
        true = cv2.warpAffine(
            image, moved, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
        ).clip(0, 1)
        sd = np.sqrt(VARIANCE[0] + VARIANCE[1] * true)
        scans.append((true + sd * _noise(image.shape, random)).clip(0, 1).astype(np.float32))
        truths.append(true)
    return scans, truths


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> NDArray:
    """Of variance 1: a moving average of two pixels of a line has the correlation
    share / (1 + share^2).
    """
    share = (1 - np.sqrt(1 - 4 * ALONG**2)) / (2 * ALONG)
    white = random.normal(size=(shape[0], shape[1] + 1))
    return (white[:, 1:] + share * white[:, :-1]) / np.sqrt(1 + share**2)


def _pairs(taught: dict[str, Any], *, of_truth: bool) -> PairSet:
    """All scans, each with the mean of the others of its field, or with the truth."""
    pairs = []
    for name, (scans, truths) in taught.items():
        frames = {f"{name} {number}": scan for number, scan in enumerate(scans)}
        for pair in pairs_of_frames(frames).pairs:
            true = truths[list(frames).index(pair.name)]
            pairs.append(in_range(replace(pair, hr=true) if of_truth else pair))
    return PairSet(pairs, {}, of_scans=True)


def _single(taught: dict[str, Any], model: Network) -> PairSet:
    """The first scan of each surface alone."""
    pairs = []
    for index, (name, (scans, _)) in enumerate(taught.items()):
        random = np.random.default_rng(index)
        pairs += pairs_of_image(name, in_use(scans[0]), model, COPIES, random)
    return PairSet(pairs, {}, of_scans=True)


def _scores(model: Network, tests: dict[str, Any]) -> dict[str, float]:
    return {
        name: _psnr(super_resolve(model, scan[0], magnification=1.0), true[0])
        for name, (scan, true) in tests.items()
    }


def _psnr(image: NDArray, truth: NDArray) -> float:
    return round(psnr(image, truth, np.ones(truth.shape, bool)), 3)


if __name__ == "__main__":
    main()
