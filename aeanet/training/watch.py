"""Where a training stands: its steps, time and loss, the same in all its processes, and when it is to end."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from aeanet.training.checkpoint import Checkpoint
from aeanet.training.ranks import mean_over_processes
from aeanet.training.recipe import Recipe, RecipeError

LOSS_WINDOW = 50  # steps over which the loss is smoothed


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `step` steps done, `used` (0 to 1) of its budget, smoothed training `loss` (MAE)."""

    step: int
    used: float
    loss: float


class Watch(pl.Callback):
    """Keeps steps, time and loss, reports each step, ends the training in time, on Ctrl-C or on SIGTERM.

    The first of the callbacks: after a step the others find its state here. `step`, `seconds` and `loss` go on from a
    checkpoint.
    """

    def __init__(
        self, recipe: Recipe, checkpoint: Checkpoint | None, on_step: Callable[[Progress], None] | None
    ) -> None:
        self.recipe = recipe
        self.on_step = on_step
        self.step = checkpoint.step if checkpoint else 0
        self.earlier = self.seconds = checkpoint.seconds if checkpoint else 0.0
        self.loss = checkpoint.loss if checkpoint else math.nan
        self.interrupted = False
        self.start = time.monotonic()
        self._warm: tuple[int, float] | None = None  # after the first step of this process
        self.steps_per_second = checkpoint.steps_per_second if checkpoint else math.nan

    @property
    def used(self) -> float:
        return self.recipe.used(self.step, self.seconds)

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.start = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            # Lightning has put a handler of its own there, which waits for the other processes.
            signal.signal(signal.SIGTERM, self._note)

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, output: Any, *_: Any) -> None:
        self.step += 1
        now = time.monotonic()
        local = [float(output["loss"]), self.earlier + now - self.start, float(self.interrupted)]
        loss, self.seconds, interrupted = mean_over_processes(local, task.device)
        if not math.isfinite(loss):
            raise RecipeError(
                f"the loss became {loss} at step {self.step}: try a learning rate below {self.recipe.rate}."
            )
        self.loss = loss if self.step == 1 else self.loss + (loss - self.loss) / min(self.step, LOSS_WINDOW)
        if self._warm is None:
            self._warm = (self.step, now)
        else:
            self.steps_per_second = (self.step - self._warm[0]) / (now - self._warm[1])
        if self.on_step:
            self.on_step(Progress(self.step, self.used, self.loss))
        if self.used >= 1 or interrupted:
            self.interrupted = self.interrupted or interrupted > 0
            trainer.should_stop = True

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.interrupted = True

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Within it, Ctrl-C and SIGTERM end the training after the step in hand instead of within it."""
        if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
