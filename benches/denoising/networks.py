"""The networks of the comparison: shipped, fine-tuned for two minutes, and trained from scratch on every third pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.inference.prediction import restore
from aeanet.networks.registry import load_model, short_options, to_device
from aeanet.training import Recipe, open_run, save_run, train
from aeanet.training.checkpoint import CHECKPOINT_FILE

from .scores import Scores, gain

TRAINED_ON = 3  # every third pair
FINE_TUNING = Recipe.fine_tuning(max_seconds=120)
FROM_SCRATCH = Recipe.short(steps=4_000, precision="bfloat16")  # a third of the time of float32


def train_both(shipped: str, pairs: Sequence[RegisteredPair], folder: Path) -> dict[str, Path]:
    """Train what is not there yet, or go on with it; title -> run folder."""
    seen = PairSet(list(pairs[::TRAINED_ON]), {})
    runs = {}
    for title, recipe, name in (
        ("shipped, fine-tuned for 2 minutes", FINE_TUNING, "fine-tuned"),
        ("trained from scratch, 4,000 steps", FROM_SCRATCH, "scratch"),
    ):
        runs[title] = folder / name
        if (runs[title] / "run.json").exists():
            continue
        start = load_model(shipped) if name == "fine-tuned" else None
        resume = (runs[title] / CHECKPOINT_FILE).exists() and name == "scratch"
        options = {} if start is not None else short_options("aeanet")
        with open_run(runs[title], resume=resume, overwrite=not resume) as run:
            trained = train(seen, recipe, start=start, run=run, **options)
            if trained.interrupted:
                raise KeyboardInterrupt
            save_run(runs[title], trained, recipe, seen)
    return runs


def score_network(scores: Scores, title: str, path: str | Path, pairs: Sequence[RegisteredPair]) -> None:
    """Whole images; `path` is a name, a run folder or a file. Pairs that the record has already are left out."""
    missing = [pair for pair in pairs if pair.name not in scores.models.get(title, {})]
    if not missing:
        return
    model = to_device(load_model(path))
    for pair in missing:
        score, found = gain(pair, restore(model, pair.lr))
        scores.models.setdefault(title, {})[pair.name] = found
        scores.bicubic[pair.name] = [score.psnr_bicubic, score.ssim_bicubic]
        scores.write()
