"""How to train: the paper's recipe, a short one for laptops, and intervals."""

import math
import re
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Annotated, Any, Literal, get_args

from aeanet.errors import UserError
from aeanet.imaging.precision import Precision

MOST = 2**31  # of anything that is counted
WARM_UP = 0.3  # share of a one-cycle schedule in which the learning rate rises

Schedule = Literal["halving", "one-cycle"]
Loss = Literal["mae", "relative", "psnr", "interval"]


class RecipeError(UserError):
    """A recipe or an interval with which no training is possible."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what is learnt. The defaults are the paper's: MAE, Adam, 120,000 steps of 8
    crops of 256 x 256.

    The text beside a field is also the help of the option of `aeanet train` that sets it
    (`cli.options`).

    N processes train as one with N times `batch` crops a step. In the one-cycle schedule the rate
    rises from rate / 25 over the first 30 % of the training and falls to 0 at its end, both along a
    cosine.

    A training ends after `max_seconds` if its steps are not done by then. The one-cycle schedule
    follows whichever of the two budgets, steps or seconds, is used up further, so that it comes to
    its end in any case. A training that ends by its steps can be repeated from its seed; one that
    ends by time depends on the speed of the machine.

    The losses relative and psnr are for data of all strengths of noise: they count each crop's
    error as a share of that error, so that nearly clean images weigh as much as noisy ones. Under
    MAE the noisy ones decide alone. By relative a network learns the median of what a pixel can be,
    by psnr, which is the mean PSNR of the crops, its mean.

    `freeze` is for short trainings: batch statistics take the grey level out of every step, and a
    short training has no time to average that out. Frozen statistics are used in training as they
    are in prediction.

    Raises:
        RecipeError: a value is out of its range.
    """

    steps: Annotated[int, "Optimiser steps"] = 120_000
    batch: Annotated[int, "Crops per step and process"] = 8
    crop: Annotated[int, "Side of the square training crops in px"] = 256
    rate: Annotated[float, "Learning rate; with --schedule one-cycle its peak"] = 4e-4
    schedule: Annotated[
        Schedule,
        "Learning rate. halving: halved every --halve-every steps; one-cycle: up and down to 0",
    ] = "halving"
    halve_every: Annotated[int, "Steps after which the learning rate is halved"] = 10_000
    betas: Annotated[tuple[float, float], "Decay rates of Adam"] = (0.9, 0.999)
    epsilon: Annotated[float, "Epsilon of Adam"] = 1e-8
    loss: Annotated[
        Loss,
        "mae; or relative, psnr: mean over crops of the logarithm of each one's MAE, RMSE; or "
        "interval, for the network error",
    ] = "mae"
    max_seconds: float | None = None
    freeze: Annotated[
        float, "Share of the steps after which the statistics of batch norm are frozen; 1: never"
    ] = 1.0
    seed: Annotated[int, "Seed of all that is random: initial weights, crops"] = 0
    precision: Annotated[
        Precision, "float32; or bfloat16: products in bfloat16, weights in float32"
    ] = "float32"
    compile: Annotated[bool, "Run the network through torch.compile"] = False
    deterministic: Annotated[
        bool, "Only algorithms that give the same bits every time, on GPUs too"
    ] = False

    def __post_init__(self) -> None:
        # NaN fails every comparison, so it is refused with the rest
        for name in ("steps", "batch", "crop", "halve_every", "rate", "epsilon", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < MOST:
                raise RecipeError(f"{name} is {value}, wanted a number above 0 and below {MOST:,}.")

        # whole numbers of NumPy count too
        for name in ("steps", "batch", "crop", "halve_every", "seed"):
            value = getattr(self, name)
            if not isinstance(value, Integral):
                raise RecipeError(f"{name} is {value}, wanted a whole number.")

        # what has a range of its own
        if not 0 <= self.freeze <= 1:
            raise RecipeError(f"freeze is {self.freeze}, wanted a share from 0 to 1.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(
                f"betas are {self.betas[0]} and {self.betas[1]}, wanted numbers from 0 to below 1."
            )
        if not 0 <= self.seed < 2**32:
            raise RecipeError(f"seed is {self.seed}, wanted a whole number from 0 to {2**32 - 1}.")

        # types are not checked at run time, and a record of JSON may hold any word
        choices = {"schedule": Schedule, "loss": Loss, "precision": Precision}
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                wanted = " or ".join(map(repr, get_args(kind)))
                raise RecipeError(f"{name} is {getattr(self, name)!r}, wanted {wanted}.")

    @classmethod
    def short(cls, **changes: Any) -> "Recipe":
        """A recipe of minutes on a laptop: 2,000 steps of 16 crops of 64 x 64, one cycle up to
        2e-3.

        Its crops are many and small, so that batch norm has more images at once, and the grey level
        that batch statistics take out of a step varies less.
        """
        recipe = cls(steps=2_000, batch=16, crop=64, rate=2e-3, schedule="one-cycle", freeze=0.6)
        return replace(recipe, **changes)

    @classmethod
    def fine_tuning(cls, **changes: Any) -> "Recipe":
        """A recipe of minutes for a network that is trained already: 1,000 steps of 16 crops of 96
        x 96, up to 1e-4.
        """
        recipe = cls(steps=1_000, batch=16, crop=96, rate=1e-4, schedule="one-cycle")
        return replace(recipe, **changes)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Recipe":
        """The recipe of a record that `dataclasses.asdict` and JSON made."""
        return cls(**(current_record(record) | {"betas": tuple(record["betas"])}))

    @property
    def extensible(self) -> frozenset[str]:
        """The fields that decide only when the training ends, not what its steps do."""
        if self.schedule == "halving" and self.freeze == 1:
            return frozenset({"steps", "max_seconds"})
        return frozenset()

    def used(self, step: int, seconds: float) -> float:
        """The share of the budget, 0 to 1, that is used before `step` (counted from 0), `seconds`
        after the start.
        """
        by_time = 0.0 if self.max_seconds is None else seconds / self.max_seconds
        return min(1.0, max(step / self.steps, by_time))

    def learning_rate(self, step: int, used: float) -> float:
        """The learning rate of `step`, before which the share `used` of the budget is used."""
        if self.schedule == "halving":
            return self.rate * 0.5 ** (step // self.halve_every)

        # One cycle: half a cosine from `low` up to the rate, then half a cosine down to 0.
        if used < WARM_UP:
            low, share = self.rate / 25, 1 - used / WARM_UP
        else:
            low, share = 0.0, (used - WARM_UP) / (1 - WARM_UP)
        return low + (self.rate - low) * (1 + math.cos(math.pi * share)) / 2


def current_record(record: dict[str, Any]) -> dict[str, Any]:
    """A recipe's record by any version of this program, as this version writes it.

    "32" and "bf16" were precisions, and the loss was MAE.
    """
    precision = {"32": "float32", "bf16": "bfloat16"}.get(record["precision"], record["precision"])
    return {"loss": "mae"} | record | {"precision": precision}


@dataclass(frozen=True)
class Interval:
    """A number of steps, or a number of seconds; exactly one of the two is given."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.seconds) if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise RecipeError(
                f"An interval of {' and '.join(map(str, given)) or 'None'} cannot be: wanted "
                "above 0."
            )

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """An interval from what a user writes: "500" is a number of steps; "60s", "5min" and "1h"
        are times.

        Raises:
            RecipeError: the text is no interval.
        """
        # without a unit it counts steps, of which there are no parts
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)?\s*", text)
        if found is None or (found[2] is None and "." in found[1]):
            raise RecipeError(
                f"{text!r} is no interval: wanted steps, such as 500, or a time, such as 60s, 5min "
                "or 1h."
            )

        # a text can have more digits than anything that is counted
        number = float(found[1])
        if not 0 < number < MOST:
            raise RecipeError(
                f"{text!r} is no interval: wanted a number above 0 and below {MOST:,}."
            )
        if found[2] is None:
            return cls(steps=int(found[1]))
        return cls(seconds=number * {"s": 1, "min": 60, "h": 3600}[found[2]])

    def due(self, step: int, since: float) -> bool:
        """Whether the interval ends at step `step`, `since` seconds after it last ended."""
        return step % self.steps == 0 if self.steps is not None else since >= (self.seconds or 0.0)
