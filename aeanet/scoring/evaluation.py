"""The paper's protocol: how much closer to HR than bicubic interpolation the network comes, on the test columns."""

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
from aeanet.inference.prediction import restore
from aeanet.networks.base import Network
from aeanet.scoring.confidence import EXPLANATION, Estimate, estimate
from aeanet.scoring.metrics import SSIM_WINDOW, psnr, similarity_map, whole_windows

Measure = Literal["delta_psnr", "delta_ssim"]
Part = Literal["foreground", "background"]
_MEASURED = ("psnr_bicubic", "psnr", "ssim_bicubic", "ssim")


class EvaluationError(UserError):
    """Pairs on which nothing can be measured."""


@dataclass(frozen=True)
class Score:
    """An image's scores, or their mean over several: PSNR (dB, peak 1) and SSIM of bicubic LR and of the network.

    `foreground` and `background` are the same over the pixels above and up to Otsu's threshold on HR; None where there
    are none.
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
        parts = {"foreground": self.foreground, "background": self.background}
        return (
            asdict(self)
            | {"delta_psnr": self.delta_psnr, "delta_ssim": self.delta_ssim}
            | {name: part.record() if part else None for name, part in parts.items()}
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Score":
        parts = [record[part] and cls.from_record(record[part]) for part in ("foreground", "background")]
        return cls(record["name"], *(record[field] for field in _MEASURED), *parts)

    @classmethod
    def mean(cls, name: str, scores: Sequence["Score"]) -> "Score":
        """The mean of each number; the parts' over those that have them."""
        measured = {field: statistics.fmean(getattr(score, field) for score in scores) for field in _MEASURED}
        bright = [score.foreground for score in scores if score.foreground]
        dark = [score.background for score in scores if score.background]
        parts = [cls.mean(found[0].name, found) if found else None for found in (bright, dark)]
        return cls(name, foreground=parts[0], background=parts[1], **measured)


@dataclass(frozen=True)
class Evaluation:
    """Scores of test subimages, named "PAIR/0", "PAIR/1", "PAIR/2", and what follows from them."""

    subimages: list[Score]

    @cached_property
    def pairs(self) -> list[Score]:
        """The mean of each pair's subimages."""
        return [Score.mean(name, scores) for name, scores in self._by_pair.items()]

    @cached_property
    def mean(self) -> Score:
        """The mean over all subimages, the number the paper reports."""
        return Score.mean("mean", self.subimages)

    @cached_property
    def _by_pair(self) -> dict[str, list[Score]]:
        found: dict[str, list[Score]] = {}
        for score in self.subimages:
            found.setdefault(score.name.rpartition("/")[0], []).append(score)
        return found

    def values(self, measure: Measure, part: Part | None = None) -> dict[str, tuple[float, int]]:
        """Pair name -> its mean of an improvement, and over how many subimages it was taken."""
        found = {
            name: [getattr(present, measure) for score in scores if (present := score.part(part))]
            for name, scores in self._by_pair.items()
        }
        return {name: (statistics.fmean(values), len(values)) for name, values in found.items() if values}

    def table(self) -> Table:
        """One line per pair and the mean, for a terminal of 80 columns."""
        table = Table("pair", title="Test columns, against HR", box=box.SIMPLE, padding=(0, 0, 0, 1))
        for title in ("PSNR\nbicubic", "PSNR\n(dB)", "Δ PSNR\n", "fore-\nground", "back-\nground"):
            table.add_column(title, justify="right")
        for title in ("SSIM\nbicubic", "SSIM\n", "Δ SSIM\n"):
            table.add_column(title, justify="right")
        for score in [*self.pairs, self.mean]:
            if score is self.mean:
                table.add_section()
            table.add_row(
                score.name,
                f"{score.psnr_bicubic:.2f}",
                f"{score.psnr:.2f}",
                f"{score.delta_psnr:+.2f}",
                *(f"{part.delta_psnr:+.2f}" if part else "-" for part in (score.foreground, score.background)),
                f"{score.ssim_bicubic:.4f}",
                f"{score.ssim:.4f}",
                f"{score.delta_ssim:+.4f}",
            )
        return table

    def record(self) -> dict[str, Any]:
        """All scores as plain data: "mean", "pairs", "subimages", improvements included."""
        return {
            "mean": self.mean.record(),
            "pairs": [score.record() for score in self.pairs],
            "subimages": [score.record() for score in self.subimages],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Evaluation":
        return cls([Score.from_record(score) for score in record["subimages"]])

    @classmethod
    def average(cls, evaluations: Sequence["Evaluation"]) -> "Evaluation":
        """Each subimage's mean over several evaluations, as by networks of several seeds, where all of them have it."""
        tables = [{score.name: score for score in evaluation.subimages} for evaluation in evaluations]
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
    """The mean improvement over bicubic of one method, over its test subimages and seeds, with its 95 % interval.

    Args:
        evaluations: one per seed, all on the same pairs.
        part: only the foreground or the background.
        against: another method's evaluations by the same seeds: then the mean difference between the two, pair by pair,
            on the pairs that both were scored on, whose interval is much narrower than either's own.
        samples: pair name -> the sample it shows, for pairs that are not independent of each other.

    None if no pair has a score.
    """
    tables = [evaluation.values(measure, part) for evaluation in evaluations]
    others = None if against is None else [evaluation.values(measure, part) for evaluation in against]
    common = (
        [name for name in tables[0] if all(name in table for table in [*tables, *(others or [])])] if tables else []
    )
    if not common:
        return None
    values = np.array([[table[name][0] for name in common] for table in tables])
    if others is not None:
        seeds = min(len(tables), len(others))
        values = values[:seeds] - np.array([[table[name][0] for name in common] for table in others[:seeds]])
    weights = [tables[0][name][1] for name in common]
    return estimate(values, weights, [(samples or {}).get(name, name) for name in common])


def intervals(evaluations: Sequence[Evaluation], samples: Mapping[str, str] | None = None) -> dict[str, Any]:
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

    The network sees each whole image; the scores are those of its three test subimages (`pairs.split_3x4`), clipped to
    [0, 1] and not rounded, beside those of the bicubically registered LR. Pixels without LR data
    (`RegisteredPair.mask`) count in neither: PSNR leaves them out, SSIM the windows that touch one. A subimage without
    a whole window is left out.

    Args:
        model: any network of `model`.
        pairs: registered pairs; a network trained on them has seen their training columns, never the test ones.
        on_pair: called after each pair with the restored image (H, W) and the pair's mean score, None if it has none.
        predict: (model, LR) -> result, (H, W) each, where it is not the whole image at once, `prediction.restore`.

    Raises EvaluationError if no subimage can be scored.
    """
    subimages: list[Score] = []
    for pair in pairs:
        restored = (predict or restore)(model, pair.lr)
        regions = enumerate(split_3x4(pair.hr.shape)[1])
        scores = [score for i, region in regions if (score := score_region(f"{pair.name}/{i}", pair, restored, region))]
        subimages += scores
        if on_pair:
            on_pair(pair, restored, Score.mean(pair.name, scores) if scores else None)
    if not subimages:
        raise EvaluationError(
            f"None of the {len(pairs)} pairs has LR data in its test columns: there is nothing to score."
        )
    return Evaluation(subimages)


def score_region(name: str, pair: RegisteredPair, restored: NDArray, region: tuple[slice, slice]) -> Score | None:
    """The score of one region of a pair, `restored` (H, W) being the result for all of it; None if none is valid.

    Foreground and background are parted by Otsu's threshold on the region's HR (Qian et al. 2020): the bright side is
    the foreground. PSNR is then over the part's pixels, SSIM over the windows centred on them.
    """
    lr, hr, mask, result = pair.lr[region], pair.hr[region], pair.mask[region], restored[region]
    if min(mask.shape) < SSIM_WINDOW:
        return None
    windows = whole_windows(mask)
    bicubic = np.clip(lr, 0, 1)
    similarities = similarity_map(bicubic, hr), similarity_map(result, hr)

    def score(name: str, part: NDArray, **parts: Score | None) -> Score | None:
        centres = windows & part
        if not centres.any():
            return None
        before, after = (float(similarity[centres].mean()) for similarity in similarities)
        return Score(name, psnr(bicubic, hr, mask & part), psnr(result, hr, mask & part), before, after, **parts)

    if not windows.any():
        return None
    bright = hr > threshold_otsu(hr[mask])
    parts = {"foreground": score("foreground", bright), "background": score("background", ~bright)}
    return score(name, np.ones_like(mask), **parts)
