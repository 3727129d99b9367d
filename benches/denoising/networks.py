"""The networks of the comparison: shipped, fine-tuned for two minutes, and two from scratch on
every third pair.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.imaging.flips import Flips
from aeanet.inference.prediction import restore
from aeanet.networks.registry import load_model, short_options, to_device
from aeanet.training import Recipe, open_run, save_run, train
from aeanet.training.checkpoint import CHECKPOINT_FILE

from .scores import Scores, gain

TRAINED_ON = 3  # every third pair
SHIPPED = "the shipped model"
FEWER_FLIPS: dict[str, Flips] = {
    "the shipped model, two flips": 2,
    "the shipped model, one flip": 1,
}
"""The shipped model with fewer flips than it has by default."""


class Training(NamedTuple):
    """One row of the table: trained in `folder`; a network from scratch, or the shipped model where
    that is None.
    """

    title: str
    folder: str
    recipe: Recipe
    network: str | None = None


_SCRATCH = Recipe.short(steps=4_000, precision="bfloat16")  # a third of the time of float32
TRAININGS = (
    Training(
        "shipped, fine-tuned for 2 minutes", "fine-tuned", Recipe.fine_tuning(max_seconds=120)
    ),
    Training(
        "the shipped model's network from scratch, 4,000 steps", "scratch", _SCRATCH, "shuffled"
    ),
    Training("AEANet from scratch, 4,000 steps", "scratch-aeanet", _SCRATCH, "aeanet"),
)


def train_each(shipped: str, pairs: Sequence[RegisteredPair], folder: Path) -> dict[str, Path]:
    """Train what is not there yet, or go on with it; title -> run folder."""
    # the other two thirds of the pairs stay unseen, for the comparison
    seen = PairSet(list(pairs[::TRAINED_ON]), {})
    runs = {}
    for title, name, recipe, network in TRAININGS:
        runs[title] = folder / name
        if (runs[title] / "run.json").exists():
            continue

        # fine-tuning begins from the shipped model anew, a network from scratch can go on
        start = load_model(shipped) if network is None else None
        resume = (runs[title] / CHECKPOINT_FILE).exists() and network is not None
        options = {} if network is None else {"name": network, **short_options(network)}
        with open_run(runs[title], resume=resume, overwrite=not resume) as run:
            trained = train(seen, recipe, start=start, run=run, **options)
            if trained.interrupted:
                raise KeyboardInterrupt
            save_run(runs[title], trained, recipe, seen)
    return runs


def score_network(
    scores: Scores,
    title: str,
    path: str | Path,
    pairs: Sequence[RegisteredPair],
    flips: Flips | None = None,
) -> None:
    """Whole images; `path` is a name, a run folder or a file. Pairs that the record has already are
    left out. The record also says the time of the processor for an image.
    """
    # only what the record lacks
    missing = [pair for pair in pairs if pair.name not in scores.models.get(title, {})]
    if not missing:
        return
    model = to_device(load_model(path))

    # of the processor, so that other work on the machine does not count
    seconds = 0.0
    for pair in missing:
        start = time.process_time()
        restored = restore(model, pair.lr, flips=flips)
        seconds += time.process_time() - start
        score, found = gain(pair, restored)
        scores.models.setdefault(title, {})[pair.name] = found
        scores.bicubic[pair.name] = [score.psnr_bicubic, score.ssim_bicubic]
        scores.write()

    # the time is that of the images of this call alone
    scores.about.setdefault("seconds", {})[title] = round(seconds / len(missing), 2)
    scores.write()
