"""What happens beside the steps of a training: checkpoints, models, scores on held-back pairs,
logs. A disk that is full for now does not end a training of days.
"""

import csv
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aea_kernels.core.dtypes import multiplies_bfloat16
from aeanet.data.registration import RegisteredPair
from aeanet.distributed import rank
from aeanet.imaging.precision import Precision
from aeanet.inference.prediction import restore
from aeanet.io.atomic import write_atomically
from aeanet.networks.base import Network
from aeanet.networks.registry import MODEL_FILE, save_model
from aeanet.scoring.evaluation import Score, score_region
from aeanet.training.checkpoint import CHECKPOINT_FILE, Checkpoint
from aeanet.training.progress import TrainingProgress
from aeanet.training.randomness import random_state
from aeanet.training.recipe import MOST, Interval
from aeanet.training.step import TrainingStep, WeightAverage

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
LOG_EVERY = 10  # steps
COLUMNS = (
    "loss",
    "rate",
    "seconds",
    "step",
    "validation/delta_psnr",
    "validation/delta_ssim",
    "validation/psnr",
    "validation/ssim",
)

Log = Callable[[int, Mapping[str, float]], None]
OnTrouble = Callable[[OSError], None] | None


@contextmanager
def tolerating(on_trouble: OnTrouble) -> Iterator[None]:
    """Within it, a file that cannot be written is reported to `on_trouble`.

    Raises:
        OSError: a file cannot be written, and `on_trouble` is None.
    """
    try:
        yield
    except OSError as error:
        if on_trouble is None:
            raise
        on_trouble(error)


@contextmanager
def open_logs(folder: Path | None, step: int, on_trouble: OnTrouble) -> Iterator[Log]:
    """Within it, a function writes values by name, as of a step, to both logs at once.

    Args:
        folder: the run folder; None: nothing is logged, nor by other processes than rank 0.
        step: of the checkpoint to go on from; what was logged after it is dropped. 0 begins the
            logs anew.
        on_trouble: see `tolerating`.
    """
    # several processes would write the same lines into one file
    if folder is None or rank():
        yield lambda step, values: None
        return
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    # A run that goes on keeps what was logged up to its checkpoint, in both logs: the steps after
    # it are done once more.
    table = folder / METRICS_FILE
    header = {name: name for name in COLUMNS}
    kept = _rows_until(table, step) if step and table.is_file() else []
    write_atomically(table, b"".join(_line(row) for row in [header, *kept]))
    if not step:
        shutil.rmtree(folder / TENSORBOARD_FOLDER, ignore_errors=True)
    board = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=step + 1)

    def log(step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with tolerating(on_trouble):
            with table.open("ab") as file:
                file.write(_line(finite | {"step": step}))
            for name, value in finite.items():
                board.add_scalar(name, value, step)
            board.flush()

    # closing writes what is left, perhaps to a full disk
    try:
        yield log
    finally:
        with tolerating(on_trouble):
            board.close()


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a run folder's metrics.csv (`COLUMNS`); none if there is no such file."""
    table = folder / METRICS_FILE
    return _rows_until(table, MOST) if table.is_file() else []


def _line(row: Mapping[str, object]) -> bytes:
    cells = ",".join(str(row.get(name, "")) for name in COLUMNS)
    return f"{cells}\r\n".encode()


def _rows_until(table: Path, step: int) -> list[dict[str, str]]:
    """The rows up to `step`; a last line that a crash cut short has no end."""
    text = table.read_bytes().decode(errors="replace")
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(), restval="")
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= step]


VALIDATION_FIGURE = "validation.png"
SCORES = ("psnr", "ssim", "delta_psnr", "delta_ssim")


@dataclass
class Bookkeeping:
    """Saves, scores and logs, each every so often and at the end. Only rank 0 does.

    Attributes:
        model, step, configuration: of the training.
        average: what is saved as the model; None: the model itself.
        folder: the run folder; None: nothing is written, but `on_save` is called.
        log: of `open_logs`.
        checkpoint_every, saved: how often the checkpoint and, once there was a step, the model are
            written; and when they last were, in seconds of training.
        held_back: pairs to restore and to score.
        validate_every, scored: how often, first after a tenth of that; and when they last were, in
            seconds of training.
        scores: the latest, see `score_held_back`.
        on_save: called with the model, for a copy that outlives a crash.
        on_trouble: see `tolerating`.
    """

    model: Network
    step: TrainingStep
    configuration: dict[str, Any]
    average: WeightAverage | None
    folder: Path | None
    log: Log
    checkpoint_every: Interval
    saved: float
    held_back: Sequence[RegisteredPair]
    validate_every: Interval
    scored: float
    scores: dict[str, float] | None
    on_save: Callable[[Network], None] | None
    on_trouble: OnTrouble

    def after_step(self, now: TrainingProgress) -> None:
        """Do what it is time for.

        Raises:
            OSError: a file cannot be written, and nobody is to be told of it.
        """
        if rank():
            return
        if self.held_back and self._scores_are_due(now):
            self._score(now)
            self.model.train()
        if now.ended or now.step % LOG_EVERY == 0:
            values = {"loss": now.loss, "rate": self.step.rate, "seconds": now.seconds}
            self.log(now.step, values)
        if now.ended or self.checkpoint_every.due(now.step, now.seconds - self.saved):
            self.save(now)
            self.saved = now.seconds

    def save(self, now: TrainingProgress) -> None:
        """Write the checkpoint and, once there was a step, the model. Raises OSError as
        `after_step`.
        """
        with tolerating(self.on_trouble):
            if self.folder:
                # the weights of the last step, from which the training goes on: never their average
                Checkpoint(
                    step=now.step,
                    seconds=now.seconds,
                    loss=now.loss,
                    steps_per_second=now.steps_per_second,
                    scores=self.scores,
                    configuration=self.configuration,
                    model=self.model.state_dict(),
                    optimizer=self.step.optimizer.state_dict()["state"],
                    random=random_state(),
                    bfloat16_cost=self.model.bfloat16_cost,
                ).write(self.folder / CHECKPOINT_FILE)

            # not before the first step, when nothing is learnt
            if not now.step:
                return
            published = self.average.network() if self.average else self.model
            if self.folder:
                save_model(published, self.folder / MODEL_FILE)
            if self.on_save:
                self.on_save(published)

    def _scores_are_due(self, now: TrainingProgress) -> bool:
        every, since = self.validate_every, now.seconds - self.scored
        if every.steps:
            early = now.step == every.steps // 10
        else:
            early = self.scores is None and every.due(0, 10 * since)
        return early or every.due(now.step, since) or (now.ended and not now.interrupted)

    def _score(self, now: TrainingProgress) -> None:
        """Score the model, which is left in evaluation mode; at the end also in bfloat16."""
        self.scored = now.seconds
        scores = score_held_back(self.model, self.held_back, self.folder, self.on_trouble)
        if not scores:
            return
        self.scores = scores
        self.log(now.step, {f"validation/{name}": value for name, value in scores.items()})
        if now.ended and multiplies_bfloat16(next(self.model.parameters()).device):
            rounded = score_held_back(self.model, self.held_back, None, None, "bfloat16")
            if rounded:
                self.model.bfloat16_cost = round(scores["psnr"] - rounded["psnr"], 5)


def score_held_back(
    model: Network,
    pairs: Sequence[RegisteredPair],
    folder: Path | None,
    on_trouble: OnTrouble,
    precision: Precision = "float32",
) -> dict[str, float] | None:
    """Mean PSNR (dB) and SSIM of whole pairs and their gains over bicubic interpolation; None if
    none has a score.

    The first of the pairs is drawn in `folder`; `on_trouble` is told if that cannot be, see
    `tolerating`.
    """
    scores: list[Score] = []
    for pair in pairs:
        # without flips, since scores of one training are compared, often
        restored = restore(model, pair.lr, flips=1, precision=precision)
        score = score_region(pair.name, pair, restored)
        if score is None:
            continue

        # one pair stands for all in the figure, the same every time
        if not scores and folder:
            from aeanet.figures import draw_comparison  # which imports Matplotlib

            with tolerating(on_trouble):
                draw_comparison(folder / VALIDATION_FIGURE, pair, restored, score)
        scores.append(score)
    if not scores:
        return None
    return {name: statistics.fmean(getattr(score, name) for score in scores) for name in SCORES}
