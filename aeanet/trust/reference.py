"""Which statistics the images have on which a model was trained, and how far those of another image
lie outside.

The statistics of simulated images are told from those of images with faults (`faults`) by kernel
ridge regression with a Gaussian kernel: -1 near images like those of training, 1 near images with
faults and far from both. So an image unlike anything seen is unusual too. The limit follows from
leave-one-out values, which the regression has in closed form (Rasmussen & Williams, Gaussian
Processes for Machine Learning, 2006, eq. 5.12). Four fifths of the false alarms are left to it, one
fifth to the numbers of the residual.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.errors import ModelError
from aeanet.io.text import RecordError, json_text, read_json, write_json

FALSE_ALARMS = 0.04  # share of images like those of training that get a warning, so that it stays below 5 % elsewhere
LEAST_IMAGES = 20  # of either kind
_FAR = 1.0  # the value far from all that was learned
_WIDTH = 0.02  # of the kernel: exp(-width * squared distance); as _RIDGE, the best by leave-one-out
_RIDGE = 0.1
_TAIL = 0.01  # share of the training images beyond each limit of one number
_LEAST_SPREAD = 0.05  # of a number, so that one that hardly varies in training is not divided by next to nothing


@dataclass(frozen=True)
class Scale:
    """Limits of several numbers: a deviation is the distance beyond them in units of their
    distance.

    Attributes:
        low, high: one for each number.
    """

    low: list[float]
    high: list[float]

    @classmethod
    def fit(cls, values: NDArray) -> "Scale":
        low, high = (np.quantile(values, share, axis=0) for share in (_TAIL, 1 - _TAIL))
        return cls(low.tolist(), high.tolist())

    def deviations(self, values: NDArray) -> NDArray:
        """(N, D) -> (N, D); 0 within the limits."""
        low, high = np.array(self.low), np.array(self.high)
        return np.maximum(np.maximum(low - values, values - high), 0) / np.maximum(
            high - low, _LEAST_SPREAD
        )


@dataclass(frozen=True)
class Reference:
    """What images like those of training have.

    Attributes:
        names: of the D statistics (`statistics.describe`).
        centre, spread: of each, median and half the distance of the 16th and 84th percentile.
        usual: limits of each.
        points: (P, D): statistics of images like those of training and of others, as `_compressed`.
            weights: (P,) of the regression on them. width: of its kernel.
        limit: of its value.
        residual_names, residual: the numbers of `residual.residual` and their limits.
        residual_limit: of the greatest deviation among them.
        images: how many images like those of training it is from.

    Raises ValueError if a number is NaN or infinite.
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
        limits = [self.width, self.limit, self.residual_limit, *self.usual.low, *self.usual.high]
        limits += [*self.residual.low, *self.residual.high]
        for numbers in (self.centre, self.spread, self.points, self.weights, limits):
            if not np.isfinite(np.asarray(numbers, dtype=np.float64)).all():
                raise ValueError("a number of it is NaN or infinite")

    def distance(self, vectors: NDArray) -> NDArray:
        """Of statistics (N, D) from those of training, (N,): about 0 amid them, above 1 is
        unusual.
        """
        kernel = _kernel(
            self._compressed(np.atleast_2d(vectors)), np.array(self.points), self.width
        )
        return (_FAR + kernel @ np.array(self.weights) + 1) / (self.limit + 1)

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
        """Statistics in units of their spread, on a scale that is linear near the centre and
        logarithmic far away.
        """
        values = (vectors - np.array(self.centre)) / np.array(self.spread)
        return np.sign(values) * np.log1p(np.abs(values))

    def write(self, path: Path) -> None:
        """JSON on one line, numbers of four digits. Raises OSError, naming the file."""
        short = json.loads(
            json_text(asdict(self)), parse_float=lambda number: float(f"{float(number):.4g}")
        )
        write_json(path, short, indent=None)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Reference":
        """Undo `write`. Raises ModelError or RecordError for a file that is damaged or of another
        version.
        """
        try:
            record: dict[str, Any] = read_json(Path(path))
            return cls(
                **{**record, **{name: Scale(**record[name]) for name in ("usual", "residual")}}
            )
        except RecordError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path} is damaged, or was written by another version: {error}."
            ) from error


def fit_reference(
    names: list[str], usual: NDArray, others: NDArray, residual_names: list[str], residuals: NDArray
) -> Reference:
    """A reference from the statistics of images like those of training (N, D) and of others (M, D).

    `residuals` (K, 4) are what a model takes away from some of the first. Raises ValueError for
    fewer than 20 images.
    """
    if min(len(usual), len(others), len(residuals)) < LEAST_IMAGES:
        raise ValueError(
            f"at least {LEAST_IMAGES} images of each kind are wanted, got {len(usual)} and {len(others)}."
        )
    low, middle, high = np.quantile(usual, (0.16, 0.5, 0.84), axis=0)
    spread = np.maximum((high - low) / 2, 0.02)
    empty = Reference(
        names=names,
        centre=middle.tolist(),
        spread=spread.tolist(),
        usual=Scale.fit(usual),
        points=[],
        weights=[],
        width=_WIDTH,
        limit=0.0,
        residual_names=residual_names,
        residual=Scale.fit(residuals),
        residual_limit=1.0,
        images=len(usual),
    )
    points = empty._compressed(np.concatenate([usual, others]))
    target = np.repeat([-1.0, 1.0], (len(usual), len(others))) - _FAR
    share = (
        np.repeat([len(usual), len(others)], (len(usual), len(others))) * 2 / len(points)
    )  # both kinds count alike
    inverse = np.linalg.inv(_kernel(points, points, _WIDTH) + _RIDGE * np.diag(share))
    weights = inverse @ target
    left_out = (_FAR + target - weights / np.diag(inverse))[: len(usual)]
    limit = max(float(np.quantile(left_out, 1 - 0.8 * FALSE_ALARMS)), -0.9)
    deviations = empty.residual.deviations(residuals).max(1)
    residual_limit = max(float(np.quantile(deviations, 1 - 0.2 * FALSE_ALARMS)), 0.05)
    kept = {
        "points": points.tolist(),
        "weights": weights.tolist(),
        "limit": limit,
        "residual_limit": residual_limit,
    }
    return Reference(**{**vars(empty), **kept})


def _kernel(first: NDArray, second: NDArray, width: float) -> NDArray:
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.exp(-width * np.maximum(squares, 0))
