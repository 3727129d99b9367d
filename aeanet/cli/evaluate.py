"""`aeanet evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeanet.cli.shared import (
    Pairs,
    make_folder,
    one_sentence,
    out,
    progress_bar,
    register_pairs,
    say,
    show,
    to_device,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aeanet import evaluation
    from aeanet.registration import RegisteredPair

Samples = Annotated[
    Path | None,
    typer.Option(
        help="Text file, each line the names of pairs that show one sample; means are then over samples.",
        show_default=False,
    ),
]
EXAMPLE = "aeanet evaluate runs/first pairs/ --out scores"


def main(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders that `aeanet train` wrote; several are taken as seeds of one method, and averaged.",
            show_default=False,
        ),
    ],
    folder: Pairs,
    results: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for evaluation.json and a picture of each pair.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json instead of a table.")] = False,
    samples: Samples = None,
) -> None:
    """Score a run on the test columns of pairs: PSNR and SSIM against HR, beside those of bicubic interpolation.

    Foreground and background are what lies above and below Otsu's threshold on HR. Means come with a 95 % interval
    over pairs (Student's t). Pairs that cannot be used are named, and the others scored.
    """
    with one_sentence():
        from aeanet import evaluation
        from aeanet.figures import draw_comparison
        from aeanet.files import write_atomically
        from aeanet.model import load_model
        from aeanet.samples import read_samples

        models = [to_device(load_model(run)) for run in runs]
        if results:
            make_folder(results)
        data = register_pairs(folder)
        alike = read_samples(samples, {pair.name for pair in data.pairs} | data.refused.keys()) if samples else {}
        evaluations: list[evaluation.Evaluation] = []
        done = 0
        with progress_bar() as bar:
            show(bar, "Restoring", 0.0)

            def on_pair(pair: "RegisteredPair", restored: "NDArray", score: "evaluation.Score | None") -> None:
                nonlocal done
                done += 1
                if results and score and not evaluations:
                    draw_comparison(results / f"{pair.name}.png", pair, restored, score)
                show(bar, f"Restored {pair.name}", done / (len(models) * len(data.pairs)))

            for model in models:
                evaluations.append(evaluation.evaluate(model, data.pairs, on_pair=on_pair))
        scores = evaluation.Evaluation.average(evaluations)
        record = {
            "runs": [str(run) for run in runs],
            "refused": data.refused,
            "intervals": evaluation.intervals(evaluations, alike),
            **scores.record(),
        }
        text = json.dumps(record, indent=2)
        if results:
            write_atomically(results / "evaluation.json", text.encode())
        if as_json:
            typer.echo(text)
        else:
            out.print(scores.table())
            gain, ssim = (evaluation.improvement(evaluations, m, samples=alike) for m in ("delta_psnr", "delta_ssim"))
            if gain and ssim:
                say(f"Mean Δ PSNR {gain.text(2)} dB, Δ SSIM {ssim.text(4)} (± is the {evaluation.EXPLANATION}).")
