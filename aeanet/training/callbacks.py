"""What happens beside the steps: checkpoints, scores on held-back pairs, logs. Only rank 0 does any of it.

A disk that is full for now does not end a training of days: where the caller takes notice of such trouble
(`on_trouble`), it is told, and the next time it is tried again.
"""

import csv
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from aeanet.data.registration import RegisteredPair
from aeanet.figures import draw_comparison
from aeanet.inference.prediction import restore
from aeanet.networks.base import Network
from aeanet.networks.registry import MODEL_FILE, save_model
from aeanet.scoring.evaluation import Score, score_region
from aeanet.training.checkpoint import CHECKPOINT_FILE, Checkpoint, optimizer_state, random_state
from aeanet.training.recipe import Interval
from aeanet.training.watch import Watch

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
VALIDATION_FIGURE = "validation.png"
LOG_EVERY = 10  # steps

OnTrouble = Callable[[OSError], None] | None


class Keeper(pl.Callback):
    """Writes the checkpoint and the model every so often, before the first step and after the last."""

    def __init__(
        self,
        model: Network,
        watch: Watch,
        every: Interval,
        folder: Path | None,
        validation: "Validation",
        configuration: Mapping[str, Any],
        on_save: Callable[[Network], None] | None,
        on_trouble: OnTrouble,
    ) -> None:
        self.model, self.watch, self.every, self.folder = model, watch, every, folder
        self.validation, self.configuration = validation, dict(configuration)
        self.on_save, self.on_trouble = on_save, on_trouble
        self.saved = watch.seconds
        self.saved_step = watch.step

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self.watch.step == 0:
            self._write(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        watch = self.watch
        if self.every.due(watch.step, watch.seconds - self.saved) and not trainer.should_stop:
            self._write(trainer)
            self.saved = watch.seconds

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self.saved_step != self.watch.step:
            self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        watch = self.watch
        with tolerating(self.on_trouble):
            if self.folder:
                Checkpoint(
                    step=watch.step,
                    seconds=watch.seconds,
                    loss=watch.loss,
                    steps_per_second=watch.steps_per_second,
                    scores=self.validation.scores,
                    configuration=self.configuration,
                    model=self.model.state_dict(),
                    optimizer=optimizer_state(trainer.optimizers[0]),
                    random=random_state(),
                ).write(self.folder / CHECKPOINT_FILE)
                if watch.step:
                    save_model(self.model, self.folder / MODEL_FILE)
            if self.on_save and watch.step:
                self.on_save(self.model)
            self.saved_step = watch.step


class Validation(pl.Callback):
    """Restores held-back pairs as a whole and scores them: every so often, first after a tenth of that, and at the end.

    `scores` are the latest, see `score_held_back`.
    """

    def __init__(
        self,
        model: Network,
        watch: Watch,
        every: Interval,
        folder: Path | None,
        pairs: Sequence[RegisteredPair],
        on_trouble: OnTrouble,
    ) -> None:
        self.model, self.watch, self.every, self.folder = model, watch, every, folder
        self.pairs, self.on_trouble = pairs, on_trouble
        self.scores: dict[str, float] | None = None
        self.scored_step = -1
        self.last = watch.seconds

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        watch, every = self.watch, self.every
        since = watch.seconds - self.last
        early = watch.step == every.steps // 10 if every.steps else self.scores is None and every.due(0, 10 * since)
        if early or every.due(watch.step, since):
            self._score(trainer)
            self.last = watch.seconds

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self.scored_step != self.watch.step and not self.watch.interrupted:
            self._score(trainer)

    def _score(self, trainer: pl.Trainer) -> None:
        self.scored_step = self.watch.step
        if not trainer.is_global_zero:
            return
        scores = score_held_back(self.model, self.pairs, self.folder, self.on_trouble)
        self.model.train()
        if scores:
            self.scores = scores
            values = {f"validation/{name}": value for name, value in scores.items()}
            _log(trainer, values, self.watch.step, self.on_trouble)


def score_held_back(
    model: Network, pairs: Sequence[RegisteredPair], folder: Path | None, on_trouble: OnTrouble
) -> dict[str, float] | None:
    """Mean PSNR (dB) and SSIM of whole pairs and their gains over bicubic interpolation; None if none has a score.

    The first of the pairs is drawn in `folder`.
    """
    scores: list[Score] = []
    for pair in pairs:
        restored = restore(model, pair.lr)
        score = score_region(pair.name, pair, restored, (slice(None), slice(None)))
        if score and not scores and folder:
            with tolerating(on_trouble):
                draw_comparison(folder / VALIDATION_FIGURE, pair, restored, score)
        scores += [score] if score else []
    names = ("psnr", "ssim", "delta_psnr", "delta_ssim")
    return {name: statistics.fmean(getattr(score, name) for score in scores) for name in names} if scores else None


class Metrics(pl.Callback):
    """Logs smoothed loss and learning rate every ten steps and at the end."""

    def __init__(self, watch: Watch, on_trouble: OnTrouble) -> None:
        self.watch, self.on_trouble = watch, on_trouble
        self.logged_step = -1

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.watch.step % LOG_EVERY == 0:
            self._log(trainer)

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self.logged_step != self.watch.step:
            self._log(trainer)

    def _log(self, trainer: pl.Trainer) -> None:
        self.logged_step = self.watch.step
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        values = {"loss": self.watch.loss, "rate": rate, "seconds": self.watch.seconds}
        _log(trainer, values, self.watch.step, self.on_trouble)


def _log(trainer: pl.Trainer, values: Mapping[str, float], step: int, on_trouble: OnTrouble) -> None:
    with tolerating(on_trouble):
        for logger in trainer.loggers:
            logger.log_metrics({name: value for name, value in values.items() if math.isfinite(value)}, step)


@contextmanager
def tolerating(on_trouble: OnTrouble) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if on_trouble is None:
            raise
        on_trouble(error)


def loggers(folder: Path, step: int) -> list[Logger]:
    """Lightning's CSV and TensorBoard loggers in a run folder, whose earlier lines are kept up to `step`."""
    file = folder / METRICS_FILE
    earlier: list[dict[str, str]] = []
    if step and file.is_file():
        with file.open(newline="") as lines:
            earlier = [row for row in csv.DictReader(lines) if row["step"].isdigit() and int(row["step"]) <= step]
    table = CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)
    for row in earlier:
        values = {name: float(value) for name, value in row.items() if value and name != "step"}
        table.experiment.log_metrics(values, int(row["step"]))
    table.experiment.save()
    if not step:
        shutil.rmtree(folder / TENSORBOARD_FOLDER, ignore_errors=True)
    board = TensorBoardLogger(folder, name="", version=TENSORBOARD_FOLDER, purge_step=step + 1)
    return [table, board]
