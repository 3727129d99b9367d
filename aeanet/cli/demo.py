"""`aeanet demo`."""

from pathlib import Path
from typing import Annotated

import typer

from aeanet.cli.shared import fail, out, path, progress_bar, show
from aeanet.io.atomic import make_folder

EXAMPLE = "aeanet demo --out aeanet-demo"


def main(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the pictures and the model.", parser=path)] = Path(
        "aeanet-demo"
    ),
) -> None:
    """Simulate SEM pairs, train for two minutes, restore an image that the network has not seen, and show the gain."""
    from aeanet.demo import PICTURES, RECORD, run_demo

    taken = [name for name in PICTURES if (folder / name).exists()]
    if taken and not (folder / RECORD).exists():
        fail(f"the demo would replace {folder / taken[0]}, which is none of its own: choose another folder with --out.")
    make_folder(folder)
    with progress_bar() as bar:
        report = run_demo(folder, lambda label, share: show(bar, label, share))
    out.print(report)
