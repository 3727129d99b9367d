"""Which statistics the images have on which a model was trained, and how far those of another image
lie outside.

The statistics of simulated images are told from those of images with faults by kernel ridge
regression with a Gaussian kernel: -1 near images like those of training, 1 near images with faults
and far from both. So an image unlike anything seen is unusual too. Statistics are learned by
`benches.trust.learning`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.errors import ModelError
from aeanet.io.text import RecordError, read_json

FAR = 1.0  # the value of the regression far from all that was learned
# Of the limits of a number, so that one that hardly varies in training is not divided by next to
# nothing.
_LEAST_DISTANCE = 0.05


@dataclass(frozen=True)
class Scale:
    """Limits of several numbers: a deviation is the distance beyond them in units of their
    distance.

    Attributes:
        low, high: one for each number.
    """

    low: list[float]
    high: list[float]

    def deviations(self, values: NDArray) -> NDArray:
        """(N, D) -> (N, D); 0 within the limits."""
        low, high = np.array(self.low), np.array(self.high)
        beyond = np.maximum(np.maximum(low - values, values - high), 0)
        return beyond / np.maximum(high - low, _LEAST_DISTANCE)


@dataclass(frozen=True)
class Reference:
    """What images like those of training have.

    Attributes:
        names: of the D statistics (`statistics.describe`).
        centre, spread: of each, median and half the distance of the 16th and 84th percentile.
        usual: limits of each.
        points: (P, D): statistics of images like those of training and of others, `compressed`.
        weights: (P,) of the regression on them.
        width: of its kernel.
        limit: of its value.
        residual_names, residual: the numbers of `residual.residual` and their limits.
        residual_limit: of the greatest deviation among them.
        images: how many images like those of training it is from.

    Raises:
        ValueError: if a number is NaN or infinite.
    """

    names: list[str]
    centre: list[float]
    spread: list[float]
    usual: Scale
    points: list[list[float]]
    weights: list[float]
    width: float
    limit: float
    residual_names: list[str]
    residual: Scale
    residual_limit: float
    images: int

    def __post_init__(self) -> None:
        limits = [self.limit, self.residual_limit, self.width, *self.usual.low, *self.usual.high]
        limits += [*self.residual.low, *self.residual.high]
        for numbers in (self.centre, self.spread, self.points, self.weights, limits):
            if not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
                raise ValueError("a number of it is NaN or infinite")

    def distance(self, vectors: NDArray) -> NDArray:
        """How far statistics (N, D) lie from those of training, (N,): about 0 amid them, above 1
        is unusual.
        """
        kernel = gaussian_kernel(
            self._compressed(np.atleast_2d(vectors)), np.array(self.points), self.width
        )
        return (FAR + kernel @ np.array(self.weights) + 1) / (self.limit + 1)

    def residual_distance(self, numbers: NDArray) -> NDArray:
        """The same for the numbers of residuals, (N, 4)."""
        return self.residual.deviations(np.atleast_2d(numbers)).max(1) / self.residual_limit

    def unusual(self, vector: NDArray) -> list[str]:
        """The names of the statistics (D,) beyond their limits, the farthest first; else of the one
        farthest out.
        """
        deviations = self.usual.deviations(vector[None])[0]
        order = np.argsort(-deviations, kind="stable")
        beyond = [self.names[i] for i in order if deviations[i] > 0]
        return beyond or [self.names[int(np.abs(self._compressed(vector[None])[0]).argmax())]]

    def _compressed(self, vectors: NDArray) -> NDArray:
        return compressed(vectors, np.array(self.centre), np.array(self.spread))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Reference":
        """The reference in a JSON file.

        Raises:
            ModelError, RecordError: if the file is damaged or of another version.
        """
        try:
            record: dict[str, Any] = read_json(Path(path))
            scales = {name: Scale(**record[name]) for name in ("usual", "residual")}
            return cls(**{**record, **scales})
        except RecordError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path} is damaged, or was written by another version: {error}."
            ) from error


def compressed(vectors: NDArray, centre: NDArray, spread: NDArray) -> NDArray:
    """Statistics (N, D) in units of their spread, on a scale that is linear near the centre and
    logarithmic far away.
    """
    values = (vectors - centre) / spread
    return np.sign(values) * np.log1p(np.abs(values))


def gaussian_kernel(first: NDArray, second: NDArray, width: float) -> NDArray:
    """exp(-width * squared distance) of points (N, D) and (M, D), (N, M)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.exp(-width * np.maximum(squares, 0))
