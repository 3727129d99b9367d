"""`aeanet evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeanet.cli.shared import Pairs, Run, make_folder, one_sentence, out, progress_bar, register_pairs, show, to_device

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aeanet import evaluation
    from aeanet.registration import RegisteredPair

EXAMPLE = "aeanet evaluate runs/first pairs/ --out scores"


def main(
    run: Run,
    folder: Pairs,
    results: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for evaluation.json and a picture of each pair.", show_default=False),
    ] = None,
) -> None:
    """Score a run on the test columns of pairs: PSNR and SSIM against HR, beside those of bicubic interpolation."""
    with one_sentence():
        from aeanet import evaluation
        from aeanet.figures import draw_comparison
        from aeanet.files import write_atomically
        from aeanet.model import load_model

        model = to_device(load_model(run))
        if results:
            make_folder(results)
        data = register_pairs(folder)
        done = 0
        with progress_bar() as bar:
            show(bar, "Restoring", 0.0)

            def on_pair(pair: "RegisteredPair", restored: "NDArray", score: "evaluation.Score | None") -> None:
                nonlocal done
                done += 1
                if results and score:
                    draw_comparison(results / f"{pair.name}.png", pair, restored, score)
                show(bar, f"Restored {pair.name}", done / len(data.pairs))

            scores = evaluation.evaluate(model, data.pairs, on_pair=on_pair)
        out.print(scores.table())
        if results:
            write_atomically(results / "evaluation.json", scores.to_json().encode())
