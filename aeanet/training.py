"""Training: the paper's recipe, a short one for laptops, and the run folder a training leaves behind."""

import hashlib
import json
import logging
import math
import platform
import signal
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from aeanet.files import write_atomically
from aeanet.model import MODEL_FILE, UShape, build_model, save_model
from aeanet.pairs import PairSet, RandomCrops
from aeanet.registration import RegisteredPair

RUN_FILE = "run.json"
WARM_UP = 0.3  # share of a one-cycle schedule in which the learning rate rises
STATISTICS_WINDOW = 5  # a young batch norm averages over about the latest fifth of its steps
SAVE_SECONDS = 60.0


class RecipeError(ValueError):
    """A recipe no training can follow; the message is one sentence for the user."""


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's: MAE, Adam, 120,000 steps of 8 crops of 256 x 256.

    Attributes:
        steps: optimiser steps.
        batch: crops per step.
        crop: side of the square crops, in pixels.
        rate: learning rate; the peak of it in the "one-cycle" schedule.
        schedule: "halving" halves the rate every `halve_every` steps (the paper's); "one-cycle" rises from rate / 25
            over the first 30 % of the training and falls to 0 at its end, both along a cosine.
        betas, epsilon: of Adam.
        max_seconds: end after this many seconds, if the steps are not done by then; the one-cycle schedule follows
            whichever of the two budgets is used up further, so that it comes to its end in any case. A training that
            reaches its steps first is reproducible from its seed; one that runs out of time depends on the machine's
            speed.
        freeze: the share of the budget after which BN's running statistics are frozen and used in training as they will
            be in prediction; 1, the paper's, is never. Batch statistics take the grey level out of every step, and a
            short run has no time to average that out.
        seed: of the initial weights and of the crops.
    """

    steps: int = 120_000
    batch: int = 8
    crop: int = 256
    rate: float = 4e-4
    schedule: Literal["halving", "one-cycle"] = "halving"
    halve_every: int = 10_000
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    max_seconds: float | None = None
    freeze: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop", "halve_every", "rate", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RecipeError(f"{name} is {value}, wanted a number above 0.")
        if self.schedule not in ("halving", "one-cycle"):
            raise RecipeError(f"schedule is {self.schedule!r}, wanted 'halving' or 'one-cycle'.")

    @classmethod
    def short(cls, **changes: Any) -> "Recipe":
        """A recipe for minutes on a laptop instead of days: 2,000 steps of 16 crops of 64 x 64, one cycle up to 2e-3.

        Many small crops rather than few large ones: BN then sees more images at once, and the grey level that its
        batch statistics take out of a step wanders less.
        """
        return replace(cls(steps=2_000, batch=16, crop=64, rate=2e-3, schedule="one-cycle", freeze=0.6), **changes)

    def used(self, step: int, seconds: float) -> float:
        """The share of the budget, 0 to 1, used up before `step` (counted from 0), `seconds` after the start."""
        by_time = 0.0 if self.max_seconds is None else seconds / self.max_seconds
        return min(1.0, max(step / self.steps, by_time))

    def learning_rate(self, step: int, used: float) -> float:
        """The learning rate of `step`, which begins with the share `used` of the budget gone."""
        if self.schedule == "halving":
            return self.rate * 0.5 ** (step // self.halve_every)
        if used < WARM_UP:
            low, share = self.rate / 25, 1 - used / WARM_UP
        else:
            low, share = 0.0, (used - WARM_UP) / (1 - WARM_UP)
        return low + (self.rate - low) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `step` steps done, `used` (0 to 1) of its budget, smoothed training `loss` (MAE)."""

    step: int
    used: float
    loss: float


@dataclass(frozen=True)
class Trained:
    """What a training hands back; `interrupted`: Ctrl-C ended it, and the model is that of the last full step."""

    model: UShape
    steps: int
    seconds: float
    loss: float
    interrupted: bool


class _Task(pl.LightningModule):
    """The network, its loss and its optimiser, and what changes from step to step.

    Batch norm's running statistics follow with momentum 0.003, too slow for a run of a few hundred steps: prediction
    would still use the values of the first ones. So the momentum starts at 1 and falls as 5 / (5 + step), which
    averages over about the latest fifth of the steps done, until it meets 0.003 at step 1,662. From there on, 98 % of
    the paper's 120,000 steps, it is the paper's; what the early steps left has by then decayed to nothing. A model is
    thus usable after any step, interrupted ones included, without a pass over the data at the end.
    """

    def __init__(self, model: UShape, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.norms = [(norm, norm.momentum or 0.0) for norm in model.modules() if isinstance(norm, _BatchNorm)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        return torch.optim.Adam(self.model.parameters(), lr=recipe.rate, betas=recipe.betas, eps=recipe.epsilon)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        lr, hr = batch
        return F.l1_loss(self.model(lr), hr)

    def begin_step(self, step: int, used: float) -> None:
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.recipe.learning_rate(step, used)
        for norm, momentum in self.norms:
            norm.momentum = max(momentum, STATISTICS_WINDOW / (STATISTICS_WINDOW + step))
            norm.train(used < self.recipe.freeze)

    def on_fit_end(self) -> None:
        for norm, momentum in self.norms:
            norm.momentum = momentum


class _Watch(pl.Callback):
    """Keeps the time, reports each step, has the model saved every minute, ends the training in time or on Ctrl-C."""

    def __init__(
        self, recipe: Recipe, on_step: Callable[[Progress], None] | None, on_save: Callable[[UShape], None] | None
    ) -> None:
        self.recipe = recipe
        self.on_step = on_step
        self.on_save = on_save
        self.steps = 0
        self.loss = math.nan
        self.interrupted = False
        self.start = self.saved = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.start = self.saved = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, index: int) -> None:
        assert isinstance(task, _Task)
        task.begin_step(self.steps, self.recipe.used(self.steps, self.seconds))

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, output: Any, *_: Any) -> None:
        assert isinstance(task, _Task)
        self.steps += 1
        loss = float(output["loss"])
        if not math.isfinite(loss):
            raise RecipeError(
                f"the loss became {loss} at step {self.steps}: try a learning rate below {self.recipe.rate}."
            )
        self.loss = loss if self.steps == 1 else self.loss + (loss - self.loss) / min(self.steps, 50)
        used = self.recipe.used(self.steps, self.seconds)
        if self.on_step:
            self.on_step(Progress(self.steps, used, self.loss))
        if self.on_save and time.monotonic() - self.saved > SAVE_SECONDS:
            self.on_save(task.model)
            self.saved = time.monotonic()
        if used >= 1 or self.interrupted:
            trainer.should_stop = True

    @contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Within it, Ctrl-C ends the training after the step in hand instead of raising KeyboardInterrupt within it."""

        def note(_signal: int, _frame: FrameType | None) -> None:
            self.interrupted = True

        if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
            yield
            return
        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's banners and its advice on loggers, workers and devices off the user's screen."""
    loggers = [
        logging.getLogger(name) for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def train(
    pairs: Sequence[RegisteredPair],
    recipe: Recipe | None = None,
    *,
    name: str = "aeanet",
    on_step: Callable[[Progress], None] | None = None,
    on_save: Callable[[UShape], None] | None = None,
    **options: Any,
) -> Trained:
    """Train a new network on the training regions of registered pairs, on the GPU if there is one.

    Everything random (initial weights, crops) follows from `recipe.seed`; the caller's random state is left as it was.
    Ctrl-C ends the training after the step in hand and hands back the model as it then is.

    Args:
        pairs: registered pairs; pixels in [0, 1]. Crops come from their training regions (`pairs.split_3x4`).
        recipe: the paper's by default.
        name, options: of `model.build_model`.
        on_step: called after every step.
        on_save: called with the model about once a minute, for a copy that outlives a crash.

    Raises PairError if no crop fits into the pairs, RecipeError if the loss stops being a finite number, ModelError as
    `build_model` does.
    """
    recipe = recipe or Recipe()
    watch = _Watch(recipe, on_step, on_save)
    with torch.random.fork_rng(devices=[]), _quiet_lightning(), watch.heeding_interrupts():
        torch.manual_seed(recipe.seed)
        model = build_model(name, **options)
        model.magnification = statistics.median(pair.report.magnification for pair in pairs)
        crops = RandomCrops(pairs, recipe.crop, recipe.steps * recipe.batch, seed=recipe.seed)
        trainer = pl.Trainer(
            max_steps=recipe.steps,
            accelerator="auto",
            devices=1,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(_Task(model.train(), recipe), DataLoader(crops, batch_size=recipe.batch))
    return Trained(model.cpu().eval(), watch.steps, watch.seconds, watch.loss, watch.interrupted)


def fingerprint(pairs: Sequence[RegisteredPair]) -> str:
    """SHA-256 over the names and pixels of registered pairs: two runs with the same one saw the same data."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.name} {pair.hr.shape}".encode())
        digest.update(pair.lr.tobytes())
        digest.update(pair.hr.tobytes())
    return digest.hexdigest()


def save_run(folder: Path, trained: Trained, recipe: Recipe, data: PairSet) -> None:
    """Write a run folder: the model, and `run.json` with all one needs to repeat the run and to tell what it was.

    Raises OSError; files already there are replaced whole or not at all.
    """
    record = {
        "model": trained.model.config,
        "recipe": asdict(recipe),
        "steps_done": trained.steps,
        "interrupted": trained.interrupted,
        "seconds": round(trained.seconds, 1),
        "loss": trained.loss,
        "magnification": trained.model.magnification,
        "data": {
            "pairs": [pair.name for pair in data.pairs],
            "refused": data.refused,
            "sha256": fingerprint(data.pairs),
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("aeanet", "torch", "numpy")},
    }
    save_model(trained.model, folder / MODEL_FILE)
    write_atomically(folder / RUN_FILE, (json.dumps(record, indent=2) + "\n").encode())
