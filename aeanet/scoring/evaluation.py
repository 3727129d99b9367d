"""The paper's protocol: how much closer to HR a network comes than bicubic interpolation, on the
test columns.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from skimage.filters import threshold_otsu

from aeanet.data.crops import split_3x4
from aeanet.data.registration import RegisteredPair
from aeanet.errors import UserError
from aeanet.imaging.metrics import SSIM_WINDOW, psnr, ssim_map, whole_windows
from aeanet.inference.prediction import restore
from aeanet.networks.base import Network
from aeanet.scoring.confidence import EXPLANATION, Estimate, estimate

Measure = Literal["delta_psnr", "delta_ssim"]
Part = Literal["foreground", "background"]
_MEASURED = ("psnr_bicubic", "psnr", "ssim_bicubic", "ssim")


class EvaluationError(UserError):
    """Pairs of which nothing can be scored."""


@dataclass(frozen=True)
class Score:
    """PSNR (dB, peak 1) and SSIM of an image, of bicubic LR and of the network; or their means over
    several images.

    `foreground` and `background` are the scores of the pixels above Otsu's threshold on HR and of
    the others; None if there are no such pixels.
    """

    name: str
    psnr_bicubic: float
    psnr: float
    ssim_bicubic: float
    ssim: float
    foreground: "Score | None" = None
    background: "Score | None" = None

    @property
    def delta_psnr(self) -> float:
        return self.psnr - self.psnr_bicubic

    @property
    def delta_ssim(self) -> float:
        return self.ssim - self.ssim_bicubic

    def part(self, part: Part | None) -> "Score | None":
        return self if part is None else getattr(self, part)

    def record(self) -> dict[str, Any]:
        """The score as plain data, improvements included; `from_record` is its inverse."""
        deltas = {"delta_psnr": self.delta_psnr, "delta_ssim": self.delta_ssim}
        parts = {"foreground": self.foreground, "background": self.background}
        return (
            asdict(self) | deltas | {name: part and part.record() for name, part in parts.items()}
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Score":
        parts = [
            record[part] and cls.from_record(record[part]) for part in ("foreground", "background")
        ]
        measured = {field: float(record[field]) for field in _MEASURED}
        return cls(record["name"], foreground=parts[0], background=parts[1], **measured)

    @classmethod
    def mean(cls, name: str, scores: Sequence["Score"]) -> "Score":
        """The mean of each number; the means of the parts are over the scores that have them."""
        measured = {
            field: statistics.fmean(getattr(score, field) for score in scores)
            for field in _MEASURED
        }
        bright = [score.foreground for score in scores if score.foreground]
        dark = [score.background for score in scores if score.background]
        parts = [cls.mean(found[0].name, found) if found else None for found in (bright, dark)]
        return cls(name, foreground=parts[0], background=parts[1], **measured)


@dataclass(frozen=True)
class Evaluation:
    """The scores of test subimages, named "PAIR/0", "PAIR/1" and "PAIR/2", and their means."""

    subimages: list[Score]

    @cached_property
    def pairs(self) -> list[Score]:
        """The mean over the subimages of each pair."""
        return [Score.mean(name, scores) for name, scores in self._by_pair.items()]

    @cached_property
    def mean(self) -> Score:
        """The mean over all subimages, which is the number that the paper reports."""
        return Score.mean("mean", self.subimages)

    @cached_property
    def _by_pair(self) -> dict[str, list[Score]]:
        found: dict[str, list[Score]] = {}
        for score in self.subimages:
            found.setdefault(score.name.rpartition("/")[0], []).append(score)
        return found

    def values(self, measure: Measure, part: Part | None = None) -> dict[str, tuple[float, int]]:
        """Pair name -> the mean of an improvement over its subimages, and the number of these
        subimages.
        """
        found = {
            name: [getattr(present, measure) for score in scores if (present := score.part(part))]
            for name, scores in self._by_pair.items()
        }
        return {
            name: (statistics.fmean(values), len(values))
            for name, values in found.items()
            if values
        }

    def table(self) -> Table:
        """A line for each pair and one for the mean, for a terminal of 80 columns."""
        table = Table(
            "pair", title="Test columns, against HR", box=box.SIMPLE, padding=(0, 0, 0, 1)
        )
        psnr_titles = (
            "PSNR\nbicubic",
            "PSNR\n(dB)",
            "Δ PSNR\n",
            "Δ PSNR\nfore-\nground",
            "Δ PSNR\nback-\nground",
        )
        for title in (*psnr_titles, "SSIM\nbicubic", "SSIM\n", "Δ SSIM\n"):
            table.add_column(title, justify="right")
        for score in [*self.pairs, self.mean]:
            if score is self.mean:
                table.add_section()
            parts = [
                f"{part.delta_psnr:+.2f}" if part else "-"
                for part in (score.foreground, score.background)
            ]
            psnrs = [f"{score.psnr_bicubic:.2f}", f"{score.psnr:.2f}", f"{score.delta_psnr:+.2f}"]
            ssims = [f"{score.ssim_bicubic:.4f}", f"{score.ssim:.4f}", f"{score.delta_ssim:+.4f}"]
            table.add_row(score.name, *psnrs, *parts, *ssims)
        return table

    def record(self) -> dict[str, Any]:
        """All scores as plain data, improvements included; `from_record` is its inverse."""
        scores = {"pairs": self.pairs, "subimages": self.subimages}
        return {"mean": self.mean.record()} | {
            key: [s.record() for s in found] for key, found in scores.items()
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Evaluation":
        return cls([Score.from_record(score) for score in record["subimages"]])

    @classmethod
    def average(cls, evaluations: Sequence["Evaluation"]) -> "Evaluation":
        """The mean of each subimage over several evaluations, for the subimages that all of them
        scored.
        """
        tables = [
            {score.name: score for score in evaluation.subimages} for evaluation in evaluations
        ]
        common = [name for name in tables[0] if all(name in table for table in tables)]
        return cls([Score.mean(name, [table[name] for table in tables]) for name in common])


def improvement(
    evaluations: Sequence[Evaluation],
    measure: Measure = "delta_psnr",
    *,
    part: Part | None = None,
    against: Sequence[Evaluation] | None = None,
    samples: Mapping[str, str] | None = None,
) -> Estimate | None:
    """The mean improvement of a method over bicubic interpolation, with its 95 % interval; None if
    no pair has a score.

    Args:
        evaluations: of the method, one for each seed, all on the same pairs.
        part: only the foreground or the background.
        against: the evaluations of another method with the same seeds. The result is then the mean
            difference between the two methods, on the pairs that both were scored on. Its interval
            is narrower than that of either method.
        samples: pair name -> the sample it shows, for pairs that are not independent of each other.
    """
    tables = [evaluation.values(measure, part) for evaluation in evaluations]
    others = [evaluation.values(measure, part) for evaluation in against or ()]
    common = (
        [name for name in tables[0] if all(name in table for table in [*tables, *others])]
        if tables
        else []
    )
    if not common:
        return None
    values = np.array([[table[name][0] for name in common] for table in tables])
    if against is not None:
        seeds = min(len(tables), len(others))
        values = values[:seeds] - np.array(
            [[table[name][0] for name in common] for table in others[:seeds]]
        )
    weights = [tables[0][name][1] for name in common]
    return estimate(values, weights, [(samples or {}).get(name, name) for name in common])


def intervals(
    evaluations: Sequence[Evaluation], samples: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The mean improvements with their intervals, as plain data."""
    found: dict[str, Any] = {"kind": EXPLANATION}
    measures: tuple[Measure, ...] = ("delta_psnr", "delta_ssim")
    parts: tuple[Part | None, ...] = (None, "foreground", "background")
    for measure in measures:
        for part in parts:
            mean = improvement(evaluations, measure, part=part, samples=samples)
            key = measure if part is None else f"{measure}_{part}"
            found[key] = mean and {"mean": mean.mean, "interval": mean.interval}
    return found


def evaluate(
    model: Network,
    pairs: Sequence[RegisteredPair],
    *,
    on_pair: Callable[[RegisteredPair, NDArray, Score | None], None] | None = None,
    predict: Callable[[Network, NDArray], NDArray] | None = None,
) -> Evaluation:
    """Score a network on registered pairs by the paper's protocol.

    The network restores each whole image. The scores are those of the three test subimages
    (`crops.split_3x4`), clipped to [0, 1] and not rounded, and those of the registered bicubic LR.
    Pixels without LR data (`RegisteredPair.mask`) do not count: PSNR leaves them out, SSIM leaves
    out the windows that touch one. A subimage without a whole window has no score.

    Args:
        model: any network.
        pairs: registered pairs. A network trained on them has seen their training columns, never
            their test columns.
        on_pair: called after each pair with the restored image (H, W) and the pair's mean score,
            None if it has none.
        predict: (model, LR) -> result, (H, W) each; by default `prediction.restore`, which takes
            the image at once.

    Raises EvaluationError if no subimage can be scored.
    """
    subimages: list[Score] = []
    for pair in pairs:
        restored = (predict or restore)(model, pair.lr)
        regions = enumerate(split_3x4(pair.hr.shape)[1])
        scores = [
            score
            for i, region in regions
            if (score := score_region(f"{pair.name}/{i}", pair, restored, region))
        ]
        subimages += scores
        if on_pair:
            on_pair(pair, restored, Score.mean(pair.name, scores) if scores else None)
    if not subimages:
        raise EvaluationError(
            f"None of the {len(pairs)} pairs has LR data in its test columns: there is nothing to score."
        )
    return Evaluation(subimages)


def score_region(
    name: str, pair: RegisteredPair, restored: NDArray, region: tuple[slice, slice]
) -> Score | None:
    """The score of one region of a pair, or None if no SSIM window in it has LR data throughout.

    `restored` (H, W) is the result for the whole pair. Otsu's threshold on the region's HR
    separates the foreground, its bright side, from the background (Qian et al. 2020). The PSNR of a
    part is over its pixels, the SSIM over the windows centred on them.
    """
    lr, hr, mask, result = pair.lr[region], pair.hr[region], pair.mask[region], restored[region]
    if min(mask.shape) < SSIM_WINDOW:
        return None
    windows = whole_windows(mask)
    bicubic = np.clip(lr, 0, 1)
    similarities = ssim_map(bicubic, hr), ssim_map(result, hr)

    def score(name: str, part: NDArray, **parts: Score | None) -> Score | None:
        centres = windows & part
        if not centres.any():
            return None
        before, after = (float(similarity[centres].mean()) for similarity in similarities)
        return Score(
            name,
            psnr(bicubic, hr, mask & part),
            psnr(result, hr, mask & part),
            before,
            after,
            **parts,
        )

    if not windows.any():
        return None
    bright = hr > threshold_otsu(hr[mask])
    parts = {"foreground": score("foreground", bright), "background": score("background", ~bright)}
    return score(name, np.ones_like(mask), **parts)
