"""How far a training is: its steps, time and loss, the same in all its processes; and the signals
that end it.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from torch import Tensor

from aeanet.distributed import mean_over_processes
from aeanet.training.recipe import Recipe, RecipeError

LOSS_WINDOW = 50  # steps over which the loss is smoothed


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        step: steps done.
        seconds: the time they took, over all processes that ever worked on this run.
        used: the share of the recipe's budget of steps or time that is used up, 0 to 1.
        loss: smoothed training loss (MAE); NaN before the first step.
        steps_per_second: of this process without its first step, which warms up; before that, of
            the one before it.
        interrupted: Ctrl-C or SIGTERM reached one of the processes.
    """

    step: int = 0
    seconds: float = 0.0
    used: float = 0.0
    loss: float = math.nan
    steps_per_second: float = math.nan
    interrupted: bool = False

    @property
    def ended(self) -> bool:
        return self.used >= 1 or self.interrupted


class ProgressMeter:
    """Measures the progress after each step.

    Attributes:
        now: the latest.

    Args:
        recipe: of the training; its budget ends it.
        begun: the progress to go on from.
        signals: see `noting_signals`.
    """

    def __init__(self, recipe: Recipe, begun: TrainingProgress, signals: list[int]) -> None:
        self.recipe, self.begun, self.now, self.signals = recipe, begun, begun, signals
        self.start = time.monotonic()
        self.warm: float | None = None  # when the first step ended

    def after_step(self, loss: Tensor) -> TrainingProgress:
        """The progress after another step.

        Args:
            loss: of that step, a scalar.

        Raises:
            RecipeError: the loss is not a finite number.
        """
        # One exchange for all that decides on the end, so that all processes end at the same step.
        value = float(loss)  # waits for the device: the clock is read after the step
        clock = time.monotonic()
        measured = [value, self.begun.seconds + clock - self.start, len(self.signals)]
        value, seconds, interrupted = mean_over_processes(measured, loss.device)

        # a loss that is no number has spoilt the weights for good
        before, step = self.now, self.now.step + 1
        if not math.isfinite(value):
            raise RecipeError(
                f"the loss became {value} at step {step}: try a learning rate below "
                f"{self.recipe.rate}."
            )

        # the mean of all losses so far, then a running one of about as many as the window
        if step > 1:
            value = before.loss + (value - before.loss) / min(step, LOSS_WINDOW)

        # The first step of a process warms up and does not count for the speed.
        speed = before.steps_per_second
        if self.warm is None:
            self.warm = clock
        else:
            speed = (step - self.begun.step - 1) / (clock - self.warm)
        self.now = TrainingProgress(
            step=step,
            seconds=seconds,
            used=self.recipe.used(step, seconds),
            loss=value,
            steps_per_second=speed,
            interrupted=interrupted > 0,
        )
        return self.now


@contextmanager
def noting_signals() -> Iterator[list[int]]:
    """Within it, Ctrl-C and SIGTERM are noted in the list instead of ending the process.

    In another thread than the main one, which signals do not reach, the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
