"""Which statistics the training images have, and how far those of another image lie outside."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.errors import ModelError
from aeanet.inference.trust.residual import residual
from aeanet.inference.trust.statistics import describe
from aeanet.io.atomic import write_atomically
from aeanet.networks.base import Network

FALSE_ALARMS = 0.05  # share of images like those of training that get a warning
_TAIL = 0.005  # share of the training images beyond each limit of one statistic
_STRONGEST = 3  # of the deviations, those that are added up
_LEAST_SPREAD = 0.05  # of a statistic, so that one that hardly varies in training is not divided by next to nothing


@dataclass(frozen=True)
class Scale:
    """Limits of one kind of numbers: a deviation is the distance beyond them in units of their distance.

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
        return np.maximum(np.maximum(low - values, values - high), 0) / np.maximum(high - low, _LEAST_SPREAD)


@dataclass(frozen=True)
class Reference:
    """What images like those of training have.

    Attributes:
        names: of the statistics (`statistics.describe`).
        centre, spread: of each, median and half the distance of the 16th and 84th percentile.
        expected: (D, D): row i predicts statistic i from the others, on the scale of `_compressed`.
        single: limits of each statistic alone. joint: of what the others do not predict of it.
        limit: of the sum of the greatest deviations.
        residual_names, residual: the numbers of `residual.residual` and their limits.
        residual_limit: of the greatest deviation among them.
        images: how many training images it is from. model: fingerprint of the model that restored them.
    """

    names: list[str]
    centre: list[float]
    spread: list[float]
    expected: list[list[float]]
    single: Scale
    joint: Scale
    limit: float
    residual_names: list[str]
    residual: Scale
    residual_limit: float
    images: int

    def distance(self, vectors: NDArray) -> tuple[NDArray, NDArray]:
        """Distance from training of statistics (N, D), over the limit: above 1 is unusual; and which deviate, (N, D)."""
        values = self._compressed(np.atleast_2d(vectors))
        unexpected = values - values @ np.array(self.expected).T
        each = np.concatenate([self.single.deviations(values), self.joint.deviations(unexpected)], axis=1)
        total = np.sort(each, axis=1)[:, -_STRONGEST:].sum(1)
        half = len(self.names)
        return total / self.limit, np.maximum(each[:, :half], each[:, half:])

    def residual_distance(self, numbers: NDArray) -> tuple[NDArray, NDArray]:
        """The same for the numbers of residuals, (N, 4)."""
        each = self.residual.deviations(np.atleast_2d(numbers))
        return each.max(1) / self.residual_limit, each

    def _compressed(self, vectors: NDArray) -> NDArray:
        """Statistics in units of their spread, on a scale that is linear near the centre and logarithmic far away."""
        values = (vectors - np.array(self.centre)) / np.array(self.spread)
        return np.sign(values) * np.log1p(np.abs(values))

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, path: Path) -> None:
        """JSON. Raises OSError, naming the file."""
        rounded = json.loads(
            json.dumps(self.record(), allow_nan=False), parse_float=lambda text: float(f"{float(text):.5g}")
        )
        write_atomically(path, (json.dumps(rounded, allow_nan=False) + "\n").encode())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Reference":
        """Undo `write`. Raises ModelError, in one sentence, for a file that is damaged or of another version."""
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            scales = {name: Scale(**record[name]) for name in ("single", "joint", "residual")}
            return cls(**{**record, **scales})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged, or was written by another version: {error}.") from error


def reference_statistics(
    model: Network,
    examples: Iterable[tuple[NDArray, float]],
    *,
    progress: Callable[[int], None] | None = None,
) -> Reference:
    """The statistics of images like those of training, and of what the model takes away from them.

    Args:
        model: the network as it will be used.
        examples: (image (H, W) in [0, 1] on its own grid, magnification), at least 40. Every third one only sets the
            limits, so that `FALSE_ALARMS` holds for images that the statistics are not from.
        progress: told after every image how many are done.

    Raises ValueError for fewer images.
    """
    from aeanet.inference.prediction import super_resolve

    vectors, residuals, names, residual_names = [], [], [], []
    for done, (image, magnification) in enumerate(examples, start=1):
        statistics = describe(image)
        taken = residual(image, super_resolve(model, image, magnification=magnification), statistics.noise)
        vectors.append(statistics.vector())
        residuals.append(list(taken.numbers.values()))
        names, residual_names = list(statistics.values), list(taken.numbers)
        if progress:
            progress(done)
    return fit_reference(names, np.array(vectors), residual_names, np.array(residuals))


def fit_reference(
    names: Sequence[str], vectors: NDArray, residual_names: Sequence[str], residuals: NDArray
) -> Reference:
    """As `reference_statistics`, from statistics (N, D) and numbers of residuals (N, 4)."""
    if len(vectors) < 40:
        raise ValueError(f"at least 40 images are wanted, got {len(vectors)}.")
    held = np.arange(len(vectors)) % 3 == 2
    seen = vectors[~held]
    low, middle, high = np.quantile(seen, (0.16, 0.5, 0.84), axis=0)
    spread = np.maximum((high - low) / 2, 0.02)
    begun = Reference(
        list(names),
        middle.tolist(),
        spread.tolist(),
        np.zeros((len(names), len(names))).tolist(),
        Scale([], []),
        Scale([], []),
        1.0,
        list(residual_names),
        Scale.fit(residuals[~held]),
        1.0,
        len(vectors),
    )
    values = begun._compressed(seen)
    expected = _prediction(values)
    fitted = Reference(
        **{
            **vars(begun),
            "expected": expected.tolist(),
            "single": Scale.fit(values),
            "joint": Scale.fit(values - values @ expected.T),
        }
    )
    distance, taken = fitted.distance(vectors[held])[0], fitted.residual_distance(residuals[held])[0]
    limits = _common_limits(distance, taken)
    return Reference(**{**vars(fitted), "limit": limits[0], "residual_limit": limits[1]})


def _prediction(values: NDArray) -> NDArray:
    """(D, D): each column's ridge regression on the others; zeros on the diagonal. The mean is left in the residual."""
    centred = values - values.mean(0)
    covariance = centred.T @ centred / len(values)
    covariance += 0.1 * np.diag(np.diag(covariance)) + 3e-3 * np.eye(len(covariance))
    precision = np.linalg.inv(covariance)
    prediction = -precision / np.diag(precision)[:, None]
    np.fill_diagonal(prediction, 0)
    return prediction


def _common_limits(first: NDArray, second: NDArray) -> tuple[float, float]:
    """Limits which the same share of images exceeds in each, and `FALSE_ALARMS` of them in one or the other."""
    for share in np.linspace(1 - FALSE_ALARMS, 1, 200):
        limits = float(np.quantile(first, share)), float(np.quantile(second, share))
        if np.mean((first > limits[0]) | (second > limits[1])) <= FALSE_ALARMS:
            break
    return max(limits[0], 1e-3), max(limits[1], 1e-3)
