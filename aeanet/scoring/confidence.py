"""How far a mean over pairs and seeds can be trusted: Student's t interval over independent
samples.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
EXPLANATION = (
    "95 % interval of the mean, Student's t with samples as the independent units (pairs of one "
    "sample count as one unit, pairs of no named sample each as their own); with several seeds the "
    "variance between the seeds' means is added and the degrees of freedom are Satterthwaite's"
)


@dataclass(frozen=True)
class Estimate:
    """A mean and the half width of its 95 % interval; None where a single sample tells nothing
    about the spread.
    """

    mean: float
    half_width: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width

    def text(self, digits: int) -> str:
        """For instance "+2.10 ± 0.08". The minus sign is as wide as the plus sign in a column of
        numbers.
        """
        spread = "" if self.half_width is None else f" ± {self.half_width:.{digits}f}"
        return f"{self.mean:+.{digits}f}{spread}".replace("-", "−")


def estimate(values: NDArray, weights: Sequence[float], samples: Sequence[Hashable]) -> Estimate:
    """The weighted mean of `values` (seeds, pairs), and its interval.

    The variance of the mean is that of a ratio estimator over clusters (Cochran, Sampling
    Techniques, 3rd ed., Section 9A). With equal weights and a sample of its own for each pair it is
    s^2 / n, which gives the ordinary t interval. For S > 1 seeds, the variance of the seeds' means
    over S is added. The noise common to both counts twice, so the interval is rather too wide than
    too narrow.

    Args:
        values: (S, P); every seed scored on the same P pairs.
        weights: (P,), the number of test subimages of each pair.
        samples: (P,), the sample that each pair shows.
    """
    # pairs count by their subimages, in every seed alike
    weight = np.asarray(weights, dtype=np.float64)
    weight = weight / weight.sum()
    means = values @ weight
    mean = float(means.mean())

    # The deviations of the pairs of a sample add up to one.
    sums: dict[Hashable, float] = {}
    for sample, deviation in zip(samples, weight * (values.mean(axis=0) - mean), strict=True):
        sums[sample] = sums.get(sample, 0.0) + float(deviation)
    units, seeds = len(sums), len(values)
    if units < 2 or not math.isfinite(mean):
        return Estimate(mean, None)

    # (variance of the mean, degrees of freedom) of each source, joined as by Satterthwaite.
    variances = [(units / (units - 1) * sum(total**2 for total in sums.values()), units - 1)]
    if seeds > 1:
        variances.append((float(means.var(ddof=1)) / seeds, seeds - 1))
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return Estimate(mean, 0.0)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    from scipy.stats import t  # takes a second to import

    return Estimate(mean, float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total))
