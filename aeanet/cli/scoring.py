"""The runs that `aeanet evaluate` scores, pair by pair.

The command imports this module when it runs, since it imports PyTorch.
"""

import statistics
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from aeanet.cli.shared import progress_bar, show, warn
from aeanet.data.pairs import find_pairs
from aeanet.data.registration import RegisteredPair
from aeanet.errors import sentence_or_raise
from aeanet.figures import draw_comparison
from aeanet.io.images import read_image
from aeanet.networks.base import Network
from aeanet.networks.error import load_restoring
from aeanet.networks.registry import to_device
from aeanet.scoring.confidence import Estimate
from aeanet.scoring.evaluation import Evaluation, EvaluationError, Score, evaluate
from aeanet.training import listed_models
from aeanet.trust import assess_pair

if TYPE_CHECKING:
    from aeanet.page import View

OnPair = Callable[[RegisteredPair, NDArray, Score | None], None]


def of_what(runs: int, gain: Estimate, samples: Path | None) -> str:
    """What the means are of, and what ± is where there is one; evaluation.json has the whole
    explanation.
    """
    methods = f", of {runs} runs as seeds of one method" if runs > 1 else ""
    if gain.half_width is None:
        return methods
    units = f"{'samples' if samples else 'pairs'}{' and runs' if runs > 1 else ''}"
    return f"{methods} (± is half of the 95 % interval of the mean over {units}, Student's t)"


def single_models(runs: list[Path]) -> dict[Path, Network]:
    """The networks of those runs that have one for all pairs. Different ones are warned of, since
    their scores are averaged.
    """
    models = {run: to_device(load_restoring(run)) for run in runs if not listed_models(run)}
    networks = {str(model.config): model.config["name"] for model in models.values()}
    if len(networks) > 1:
        warn(
            f"The runs have different networks ({', '.join(networks.values())}) and are averaged "
            "as seeds of one method: to compare them, score each by itself."
        )
    return models


def score_all(
    runs: list[Path],
    models: dict[Path, Network],
    folder: Path,
    pairs: list[RegisteredPair],
    results: Path | None,
    shown: "dict[str, View] | None" = None,
) -> tuple[list[Evaluation], dict[str, list[str]]]:
    """Score all runs, and draw and assess the pairs by the first of them.

    Args:
        runs: the folders of the runs.
        models: the networks of those runs that have one for all pairs.
        folder: of the pairs.
        pairs: registered.
        results: the folder for the pictures; None for no pictures.
        shown: is given what a page shows of each pair, by its name.

    Returns:
        An evaluation of each run, and what is to be warned of, by pair.
    """
    # LR as it was recorded, since a pair has it on the grid of HR
    evaluations: list[Evaluation] = []
    lr_files = {files.name: files.lr for files in find_pairs(folder)}
    warnings: dict[str, list[str]] = {}
    restored_pairs = count(1)
    with progress_bar() as bar:
        show(bar, "Restoring", 0.0)

        def on_pair(
            model: Network | None,
            pair: RegisteredPair,
            restored: NDArray,
            score: Score | None,
        ) -> None:
            # no run is complete as long as the first is scored: it alone draws and judges
            if score is None and not evaluations:
                warnings[pair.name] = ["It has no LR data in its test columns, so it has no score."]
            if score and not evaluations:
                if model is not None:
                    lr = read_image(lr_files[pair.name]).pixels
                    warnings[pair.name] = assess_pair(model, lr, pair, restored).warnings
                if results:
                    draw_comparison(results / f"{pair.name}.png", pair, restored, score)
                if shown is not None:
                    from aeanet.cli.pages.evaluation import pair_view

                    shown[pair.name] = pair_view(pair, restored, len(pairs))

            # over all runs, so that the bar goes through once
            share = next(restored_pairs) / (len(runs) * len(pairs))
            show(bar, f"Restored {pair.name}", share)

        # a run of `train --self` has no network for all pairs
        for run in runs:
            model = models.get(run)
            if model is None:
                found = score_by_pair(run, pairs, partial(on_pair, None))
            else:
                found = evaluate(model, pairs, on_pair=partial(on_pair, model))
            evaluations.append(found)
    return evaluations, warnings


def where_the_errors_are(scores: Evaluation, warned: set[str]) -> str:
    """A sentence: the PSNR of the pairs that are warned of, beside that of the others."""
    means = []
    for flag in (True, False):
        group = [score.psnr for score in scores.pairs if (score.name in warned) is flag]
        means.append(f"{statistics.fmean(group):.2f} dB" if group else "unknown")
    number = sum(score.name in warned for score in scores.pairs)
    return (
        f"Warned of {number} of {len(scores.pairs)} pairs: mean PSNR {means[0]} there, {means[1]} "
        "elsewhere."
    )


def score_by_pair(run: Path, pairs: list[RegisteredPair], on_pair: OnPair) -> Evaluation:
    """The scores of each pair by the network trained on it alone. Pairs without one are named."""
    files = listed_models(run)
    subimages: list[Score] = []
    for pair in pairs:
        try:
            if pair.name not in files:
                raise EvaluationError(f"{run} holds no model of its own for it.")
            model = to_device(load_restoring(run / files[pair.name]))
            subimages += evaluate(model, [pair], on_pair=on_pair).subimages
        except Exception as error:
            warn(f"Pair {pair.name} is left out: {sentence_or_raise(error)}")
    return Evaluation(subimages)
