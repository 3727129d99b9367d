"""The paper's protocol: how much closer to HR a network comes than bicubic interpolation, on the
test columns.
"""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from aeanet.data.crops import Region, split_3x4
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.errors import UserError
from aeanet.imaging.metrics import SSIM_WINDOW, psnr, ssim_map, whole_windows
from aeanet.inference.prediction import at_magnification, restore
from aeanet.networks.base import Network
from aeanet.networks.registry import given_model
from aeanet.scoring.confidence import EXPLANATION, Estimate, estimate

Measure = Literal["delta_psnr", "delta_ssim"]
Part = Literal["foreground", "background"]
_MEASURED = ("psnr_bicubic", "psnr", "ssim_bicubic", "ssim")


class EvaluationError(UserError):
    """Pairs of which nothing can be scored."""


@dataclass(frozen=True)
class Score:
    """How close bicubic LR and the result of a network are to HR, in an image or in the mean over
    several.

    Attributes:
        name: of the image.
        psnr_bicubic, ssim_bicubic: of bicubic LR; PSNR in dB, peak 1.
        psnr, ssim: of the network.
        foreground, background: the same for the pixels above Otsu's threshold on HR and for the
            others; None if there are no such pixels.
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
        improvements = {"delta_psnr": self.delta_psnr, "delta_ssim": self.delta_ssim}
        parts = {
            "foreground": self.foreground and self.foreground.record(),
            "background": self.background and self.background.record(),
        }
        return asdict(self) | improvements | parts

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Score":
        return cls(
            record["name"],
            **{field: float(record[field]) for field in _MEASURED},
            foreground=record["foreground"] and cls.from_record(record["foreground"]),
            background=record["background"] and cls.from_record(record["background"]),
        )

    @classmethod
    def mean(cls, name: str, scores: Sequence["Score"]) -> "Score":
        """The mean of each number; the means of the parts are over the scores that have them."""
        measured = {
            field: statistics.fmean(getattr(score, field) for score in scores)
            for field in _MEASURED
        }
        bright = [score.foreground for score in scores if score.foreground]
        dark = [score.background for score in scores if score.background]
        return cls(
            name,
            **measured,
            foreground=cls.mean(bright[0].name, bright) if bright else None,
            background=cls.mean(dark[0].name, dark) if dark else None,
        )


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
        found = {}
        for name, scores in self._by_pair.items():
            present = [score.part(part) for score in scores]
            values = [getattr(score, measure) for score in present if score]
            if values:
                found[name] = statistics.fmean(values), len(values)
        return found

    def table(self) -> Table:
        """A line for each pair and one for the mean, for a terminal of 80 columns."""
        table = Table(
            "pair", title="Test columns, against HR", box=box.SIMPLE, padding=(0, 0, 0, 1)
        )

        # titles of several lines, so that all columns fit into 80 characters
        titles = (
            "PSNR\nbicubic",
            "PSNR\n(dB)",
            "Δ PSNR\n",
            "Δ PSNR\nfore-\nground",
            "Δ PSNR\nback-\nground",
            "SSIM\nbicubic",
            "SSIM\n",
            "Δ SSIM\n",
        )
        for title in titles:
            table.add_column(title, justify="right")

        # the mean stands below a line; what a pair has no part for is a dash
        for score in [*self.pairs, self.mean]:
            if score is self.mean:
                table.add_section()
            table.add_row(
                score.name,
                f"{score.psnr_bicubic:.2f}",
                f"{score.psnr:.2f}",
                f"{score.delta_psnr:+.2f}",
                f"{score.foreground.delta_psnr:+.2f}" if score.foreground else "-",
                f"{score.background.delta_psnr:+.2f}" if score.background else "-",
                f"{score.ssim_bicubic:.4f}",
                f"{score.ssim:.4f}",
                f"{score.delta_ssim:+.4f}",
            )
        return table

    def record(self) -> dict[str, Any]:
        """All scores as plain data, improvements included; `from_record` is its inverse."""
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
        """The mean of each subimage over several evaluations, for the subimages that all of them
        scored.
        """
        scores: dict[str, list[Score]] = {}
        for evaluation in evaluations:
            for score in evaluation.subimages:
                scores.setdefault(score.name, []).append(score)
        common = {name: found for name, found in scores.items() if len(found) == len(evaluations)}
        return cls([Score.mean(name, found) for name, found in common.items()])


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
    # pairs that every evaluation has scored: other means could not be compared
    tables = [evaluation.values(measure, part) for evaluation in evaluations]
    others = [evaluation.values(measure, part) for evaluation in against or ()]
    names = [*tables[0]] if tables else []
    common = [name for name in names if all(name in table for table in [*tables, *others])]
    if not common:
        return None

    # (seeds, pairs); a difference is taken seed by seed.
    values = np.array([[table[name][0] for name in common] for table in tables])
    if against is not None:
        theirs = np.array([[table[name][0] for name in common] for table in others])
        seeds = min(len(values), len(theirs))
        values = values[:seeds] - theirs[:seeds]
    weights = [tables[0][name][1] for name in common]
    return estimate(values, weights, [(samples or {}).get(name, name) for name in common])


def intervals(
    evaluations: Sequence[Evaluation], samples: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The mean improvements with their intervals, as plain data."""
    found: dict[str, Any] = {"kind": EXPLANATION}
    for measure in get_args(Measure):
        for part in (None, *get_args(Part)):
            mean = improvement(evaluations, measure, part=part, samples=samples)
            key = measure if part is None else f"{measure}_{part}"
            found[key] = mean and {"mean": mean.mean, "interval": mean.interval}
    return found


def evaluate(
    model: Network | str | os.PathLike[str],
    pairs: Sequence[RegisteredPair] | PairSet,
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
        model: any network, or the name or path of one (`load_model`).
        pairs: registered pairs. A network trained on them has seen their training columns, never
            their test columns.
        on_pair: called after each pair with the restored image (H, W) and the pair's mean score,
            None if it has none.
        predict: (model, LR) -> result, (H, W) each; by default `prediction.restore`, which takes
            the image at once. Within it `model.magnification` is that of the pair.

    Raises:
        EvaluationError: no subimage can be scored.
    """
    model = given_model(model)
    pairs = pairs.pairs if isinstance(pairs, PairSet) else pairs
    subimages: list[Score] = []
    for pair in pairs:
        # networks that depend on the magnification were perhaps trained at another
        with at_magnification(model, pair.report.magnification):
            restored = (predict or restore)(model, pair.lr)

        # a test column without LR data has no score, but the others of the pair may have one
        scores: list[Score] = []
        for i, region in enumerate(split_3x4(pair.hr.shape)[1]):
            score = score_region(f"{pair.name}/{i}", pair, restored, region)
            scores += [score] if score else []
        subimages += scores
        if on_pair:
            on_pair(pair, restored, Score.mean(pair.name, scores) if scores else None)

    if not subimages:
        raise EvaluationError(
            f"None of the {len(pairs)} pairs has LR data in its test columns: there is nothing to "
            "score."
        )
    return Evaluation(subimages)


def score_region(
    name: str,
    pair: RegisteredPair,
    restored: NDArray,
    region: Region = (slice(None), slice(None)),
) -> Score | None:
    """The score of one region of a pair, by default of all of it.

    Otsu's threshold on the region's HR separates the foreground, its bright side, from the
    background (Qian et al. 2020). The PSNR of a part is over its pixels, the SSIM over the windows
    centred on them.

    Args:
        name: of the score.
        pair: the registered pair.
        restored: (H, W), the result for the whole pair.
        region: rows and columns.

    Returns:
        The score, or None if no SSIM window in the region has LR data throughout.
    """
    hr, mask, result = pair.hr[region], pair.mask[region], restored[region]
    if min(mask.shape) < SSIM_WINDOW:
        return None
    windows = whole_windows(mask)
    if not windows.any():
        return None
    bicubic = np.clip(pair.lr[region], 0, 1)
    similarity_bicubic, similarity = ssim_map(bicubic, hr), ssim_map(result, hr)

    def score(name: str, part: NDArray, **parts: Score | None) -> Score | None:
        centres = windows & part
        if not centres.any():
            return None
        return Score(
            name,
            psnr_bicubic=psnr(bicubic, hr, mask & part),
            psnr=psnr(result, hr, mask & part),
            ssim_bicubic=float(similarity_bicubic[centres].mean()),
            ssim=float(similarity[centres].mean()),
            **parts,
        )

    from skimage.filters import threshold_otsu  # which imports SciPy

    bright = hr > threshold_otsu(hr[mask])
    parts = {"foreground": score("foreground", bright), "background": score("background", ~bright)}
    return score(name, np.ones_like(mask), **parts)
