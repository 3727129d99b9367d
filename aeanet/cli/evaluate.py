"""`aeanet evaluate`."""

import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aeanet.cli.places import check_place
from aeanet.cli.shared import (
    Overwrite,
    Pairs,
    argument,
    fail,
    keep_apart,
    option,
    out,
    path,
    progress_bar,
    register_pairs,
    say,
    show,
    warn,
)
from aeanet.errors import sentence_or_raise
from aeanet.io.atomic import make_folder
from aeanet.io.text import json_text, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aeanet.data.registration import RegisteredPair
    from aeanet.networks.base import Network
    from aeanet.scoring import evaluation
    from aeanet.scoring.confidence import Estimate

    OnPair = Callable[[RegisteredPair, NDArray, evaluation.Score | None], None]

Samples = Annotated[
    Path | None,
    option(
        "Text file in which each line names the pairs that show one sample; intervals are then over samples.",
        parser=path,
    ),
]
RECORD = "evaluation.json"
EXAMPLE = "aeanet evaluate runs/first pairs/ --out scores"


def main(
    runs: Annotated[
        list[Path],
        argument(
            "Run folders that `aeanet train` wrote, or sem; several are seeds of one method, and are averaged.",
            metavar="RUN",
            parser=path,
        ),
    ],
    folder: Pairs,
    results: Annotated[
        Path | None,
        option("Folder for evaluation.json and a picture of each pair.", "--out", parser=path),
    ] = None,
    as_json: Annotated[bool, option("Print evaluation.json instead of a table.", "--json")] = False,
    samples: Samples = None,
    overwrite: Overwrite = False,
) -> None:
    """Score a run on the test columns of pairs: PSNR and SSIM against HR, and those of bicubic
    interpolation.

    Foreground and background are the pixels above and below Otsu's threshold on HR. Means have a 95
    % interval over pairs (Student's t). In a run of `train --self` each pair is scored by its own
    model. Pairs that cannot be used are named, and the others are scored. With the shipped model,
    or one that began from it, pairs whose LR is unlike its training or whose results need a second
    look are warned of, as `aeanet restore` does.
    Results that are already there are kept unless you give --overwrite.
    """
    from aeanet.data.pairs import find_pairs
    from aeanet.data.specimens import read_samples
    from aeanet.scoring import evaluation

    if swapped := [run for run in runs if (run / "lr").is_dir()]:
        fail(f"{swapped[0]} is a folder of pairs, not a run: the runs come first, the pairs last.")
    models = single_models(runs)
    if results:
        keep_apart(results, folder)
        for name in (RECORD, *(f"{pair.name}.png" for pair in find_pairs(folder))):
            check_place(results / name, overwrite=overwrite)
        make_folder(results)
    data = register_pairs(folder)
    sample_of = (
        read_samples(samples, {pair.name for pair in data.pairs} | data.refused.keys())
        if samples
        else {}
    )
    evaluations, warnings = score_all(runs, models, folder, data.pairs, results)
    scores = evaluation.Evaluation.average(evaluations)
    if not scores.subimages:
        fail("No pair was scored by all runs: there is nothing to report.")
    record = {
        "runs": [str(run) for run in runs],
        "refused": data.refused,
        "warnings": warnings,
        "intervals": evaluation.intervals(evaluations, sample_of),
        **scores.record(),
    }
    if results:
        write_json(results / RECORD, record)
    if as_json:
        say(json_text(record, indent=2))
    else:
        out.print(scores.table())
        gain, ssim = (
            evaluation.improvement(evaluations, m, samples=sample_of)
            for m in ("delta_psnr", "delta_ssim")
        )
        if gain and ssim:
            say(
                f"Mean Δ PSNR {gain.text(2)} dB, Δ SSIM {ssim.text(4)}{_of_what(len(runs), gain, samples)}."
            )
        for name, sentences in warnings.items():
            for sentence in sentences:
                warn(f"{name}: {sentence}")
        if warned := {name for name, sentences in warnings.items() if sentences}:
            say(where_the_errors_are(scores, warned))


def _of_what(runs: int, gain: "Estimate", samples: Path | None) -> str:
    """What the means are of, and what ± is where there is one; evaluation.json has the whole
    explanation.
    """
    methods = f", of {runs} runs as seeds of one method" if runs > 1 else ""
    if gain.half_width is None:
        return methods
    units = f"{'samples' if samples else 'pairs'}{' and runs' if runs > 1 else ''}"
    return f"{methods} (± is half of the 95 % interval of the mean over {units}, Student's t)"


def single_models(runs: list[Path]) -> "dict[Path, Network]":
    """The networks of those runs that have one for all pairs."""
    from aeanet.networks.registry import load_model, to_device
    from aeanet.training import listed_models

    return {run: to_device(load_model(run)) for run in runs if not listed_models(run)}


def score_all(
    runs: list[Path],
    models: "dict[Path, Network]",
    folder: Path,
    pairs: "list[RegisteredPair]",
    results: Path | None,
) -> "tuple[list[evaluation.Evaluation], dict[str, list[str]]]":
    """An evaluation of each run; of the first, pictures in `results`, and what is to be warned of,
    by pair.
    """
    from aeanet.data.pairs import find_pairs
    from aeanet.figures import draw_comparison
    from aeanet.io.images import read_image
    from aeanet.scoring import evaluation
    from aeanet.trust import assess_pair

    evaluations: list[evaluation.Evaluation] = []
    lr_files = {files.name: files.lr for files in find_pairs(folder)}
    warnings: dict[str, list[str]] = {}
    done = 0
    with progress_bar() as bar:
        show(bar, "Restoring", 0.0)

        def on_pair(
            pair: "RegisteredPair",
            restored: "NDArray",
            score: "evaluation.Score | None",
            model: "Network | None" = None,
        ) -> None:
            nonlocal done
            if model is not None and score and not evaluations:
                found = assess_pair(model, read_image(lr_files[pair.name]).pixels, pair, restored)
                warnings[pair.name] = found.warnings
            done += 1
            if results and score and not evaluations:
                draw_comparison(results / f"{pair.name}.png", pair, restored, score)
            show(bar, f"Restored {pair.name}", done / (len(runs) * len(pairs)))

        for run in runs:
            if run in models:
                evaluations.append(
                    evaluation.evaluate(
                        models[run], pairs, on_pair=partial(on_pair, model=models[run])
                    )
                )
            else:
                evaluations.append(by_own_models(run, pairs, on_pair))
    return evaluations, warnings


def where_the_errors_are(scores: "evaluation.Evaluation", warned: set[str]) -> str:
    """A sentence: the PSNR of the pairs that are warned of, beside that of the others."""
    groups = [
        [score.psnr for score in scores.pairs if (score.name in warned) is flag]
        for flag in (True, False)
    ]
    there, elsewhere = (
        f"{statistics.fmean(group):.2f} dB" if group else "unknown" for group in groups
    )
    return f"Warned of {len(groups[0])} of {len(scores.pairs)} pairs: mean PSNR {there} there, {elsewhere} elsewhere."


def by_own_models(
    run: Path, pairs: "list[RegisteredPair]", on_pair: "OnPair"
) -> "evaluation.Evaluation":
    """The scores of each pair by the network trained on it alone. Pairs without one are named."""
    from aeanet.networks.registry import load_model, to_device
    from aeanet.scoring import evaluation
    from aeanet.training import listed_models

    own = listed_models(run)
    subimages: list[evaluation.Score] = []
    for pair in pairs:
        try:
            if pair.name not in own:
                raise evaluation.EvaluationError(f"{run} holds no model of its own for it.")
            model = to_device(load_model(run / own[pair.name]))
            subimages += evaluation.evaluate(model, [pair], on_pair=on_pair).subimages
        except Exception as error:
            warn(f"Pair {pair.name} is left out: {sentence_or_raise(error)}")
    return evaluation.Evaluation(subimages)
