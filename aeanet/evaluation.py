"""The paper's protocol: how much closer to HR than bicubic interpolation the network comes, on the test columns."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.ndimage import binary_erosion
from skimage.metrics import structural_similarity

from aeanet.model import UShape
from aeanet.pairs import split_3x4
from aeanet.prediction import restore
from aeanet.registration import RegisteredPair

SSIM_WINDOW = 7


class EvaluationError(ValueError):
    """Pairs on which nothing can be measured; the message is one sentence for the user."""


@dataclass(frozen=True)
class Score:
    """An image's scores, or their mean over several: PSNR (dB, peak 1) and SSIM of bicubic LR and of the network."""

    name: str
    psnr_bicubic: float
    psnr: float
    ssim_bicubic: float
    ssim: float

    @property
    def delta_psnr(self) -> float:
        return self.psnr - self.psnr_bicubic

    @property
    def delta_ssim(self) -> float:
        return self.ssim - self.ssim_bicubic


@dataclass(frozen=True)
class Evaluation:
    """Scores of each test subimage ("name/0", "name/1", "name/2"), of each pair, and the mean over all subimages."""

    subimages: list[Score]
    pairs: list[Score]
    mean: Score

    def table(self) -> Table:
        """One line per pair and the mean, for a terminal."""
        table = Table("pair", title="Test columns, against HR")
        for title in ("PSNR bicubic", "PSNR", "Δ PSNR (dB)", "SSIM bicubic", "SSIM", "Δ SSIM"):
            table.add_column(title, justify="right")
        for score in [*self.pairs, self.mean]:
            if score is self.mean:
                table.add_section()
            table.add_row(
                score.name,
                f"{score.psnr_bicubic:.2f}",
                f"{score.psnr:.2f}",
                f"{score.delta_psnr:+.2f}",
                f"{score.ssim_bicubic:.4f}",
                f"{score.ssim:.4f}",
                f"{score.delta_ssim:+.4f}",
            )
        return table

    def to_json(self) -> str:
        """All scores as a JSON object: "mean", "pairs", "subimages", improvements included."""

        def record(score: Score) -> dict[str, str | float]:
            return asdict(score) | {"delta_psnr": score.delta_psnr, "delta_ssim": score.delta_ssim}

        return json.dumps(
            {
                "mean": record(self.mean),
                "pairs": [record(score) for score in self.pairs],
                "subimages": [record(score) for score in self.subimages],
            },
            indent=2,
        )


def psnr(image: NDArray, truth: NDArray, mask: NDArray) -> float:
    """Peak signal-to-noise ratio in dB, peak 1, over the pixels in `mask` ((H, W) each); infinite for equal images."""
    error = np.mean(np.square(image[mask].astype(np.float64) - truth[mask]))
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: NDArray, truth: NDArray, mask: NDArray) -> float:
    """Structural similarity (7 x 7 uniform window, data range 1), mean over the windows that lie in `mask` as a whole.

    With every pixel in the mask this is scikit-image's default to the last digit of its own mean.
    """
    _, similarity = structural_similarity(
        image.astype(np.float64), truth.astype(np.float64), win_size=SSIM_WINDOW, data_range=1, full=True
    )
    return float(similarity[_whole_windows(mask)].mean())


def _whole_windows(mask: NDArray) -> NDArray:
    """True at the centres of the SSIM windows that leave neither the image nor the mask."""
    return binary_erosion(mask, np.ones((SSIM_WINDOW, SSIM_WINDOW), bool), border_value=0)


def evaluate(
    model: UShape,
    pairs: Sequence[RegisteredPair],
    *,
    on_pair: Callable[[RegisteredPair, NDArray, Score | None], None] | None = None,
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

    Raises EvaluationError if no subimage can be scored.
    """
    subimages: list[Score] = []
    by_pair: list[Score] = []
    for pair in pairs:
        restored = restore(model, pair.lr)
        regions = enumerate(split_3x4(pair.hr.shape)[1])
        scores = [score for i, region in regions if (score := score_region(f"{pair.name}/{i}", pair, restored, region))]
        if scores:
            by_pair.append(_mean(pair.name, scores))
        subimages += scores
        if on_pair:
            on_pair(pair, restored, by_pair[-1] if scores else None)
    if not subimages:
        raise EvaluationError(
            f"None of the {len(pairs)} pairs has LR data in its test columns: there is nothing to score."
        )
    return Evaluation(subimages, by_pair, _mean("mean", subimages))


def score_region(name: str, pair: RegisteredPair, restored: NDArray, region: tuple[slice, slice]) -> Score | None:
    """The score of one region of a pair, `restored` (H, W) being the result for all of it; None if none is valid."""
    lr, hr, mask, result = pair.lr[region], pair.hr[region], pair.mask[region], restored[region]
    if min(mask.shape) < SSIM_WINDOW or not _whole_windows(mask).any():
        return None
    bicubic = np.clip(lr, 0, 1)
    return Score(
        name,
        psnr_bicubic=psnr(bicubic, hr, mask),
        psnr=psnr(result, hr, mask),
        ssim_bicubic=ssim(bicubic, hr, mask),
        ssim=ssim(result, hr, mask),
    )


def _mean(name: str, scores: Sequence[Score]) -> Score:
    fields = ("psnr_bicubic", "psnr", "ssim_bicubic", "ssim")
    return Score(name, **{field: statistics.fmean(getattr(score, field) for score in scores) for field in fields})
