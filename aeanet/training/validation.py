"""Scores on held-back pairs while a network is trained."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aeanet.data.registration import RegisteredPair
from aeanet.distributed import rank
from aeanet.figures import draw_comparison
from aeanet.inference.prediction import restore
from aeanet.networks.base import Network
from aeanet.scoring.evaluation import Score, score_region
from aeanet.training.disk import OnTrouble, tolerating
from aeanet.training.progress import TrainingProgress
from aeanet.training.recipe import Interval

VALIDATION_FIGURE = "validation.png"


@dataclass
class Validation:
    """Restores held-back pairs as a whole and scores them: every so often, first after a tenth of
    that, and at the end.

    Only rank 0 does.

    Attributes:
        model: of the training.
        pairs: the held-back ones.
        every: how often.
        latest: when they last were scored, in seconds of training.
        scores: the latest, see `score_held_back`.
        folder, on_trouble: see `score_held_back`.
    """

    model: Network
    pairs: Sequence[RegisteredPair]
    every: Interval
    latest: float
    scores: dict[str, float] | None
    folder: Path | None
    on_trouble: OnTrouble

    def after_step(self, now: TrainingProgress) -> dict[str, float] | None:
        """The scores if it is time for some, else None."""
        if rank() or not self.pairs or not self._due(now):
            return None
        scores = score_held_back(self.model, self.pairs, self.folder, self.on_trouble)
        self.model.train()
        self.latest = now.seconds
        self.scores = scores or self.scores
        return scores

    def _due(self, now: TrainingProgress) -> bool:
        every, since = self.every, now.seconds - self.latest
        early = (
            now.step == every.steps // 10
            if every.steps
            else self.scores is None and every.due(0, 10 * since)
        )
        return early or every.due(now.step, since) or (now.ended and not now.interrupted)


def score_held_back(
    model: Network,
    pairs: Sequence[RegisteredPair],
    folder: Path | None,
    on_trouble: OnTrouble,
) -> dict[str, float] | None:
    """Mean PSNR (dB) and SSIM of whole pairs and their gains over bicubic interpolation; None if
    none has a score.

    The first of the pairs is drawn in `folder`; `on_trouble` is told if that cannot be, see
    `disk.tolerating`.
    """
    scores: list[Score] = []
    for pair in pairs:
        restored = restore(model, pair.lr, flips=1)  # scores of one training are compared, often
        score = score_region(pair.name, pair, restored, (slice(None), slice(None)))
        if score and not scores and folder:
            with tolerating(on_trouble):
                draw_comparison(folder / VALIDATION_FIGURE, pair, restored, score)
        scores += [score] if score else []
    names = ("psnr", "ssim", "delta_psnr", "delta_ssim")
    return (
        {name: statistics.fmean(getattr(score, name) for score in scores) for name in names}
        if scores
        else None
    )
