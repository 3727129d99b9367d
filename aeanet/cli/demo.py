"""`aeanet demo`."""

from pathlib import Path
from typing import Annotated

import typer

from aeanet.cli.places import check_place
from aeanet.cli.shared import Overwrite, out, path, progress_bar, show
from aeanet.io.atomic import make_folder

EXAMPLE = "aeanet demo --out aeanet-demo"


def main(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the pictures and the model.", parser=path)
    ] = Path("aeanet-demo"),
    overwrite: Overwrite = False,
) -> None:
    """Simulate SEM pairs, train for two minutes, restore an image that the network has not seen,
    and show the gain.

    Results that are already there are kept unless you give --overwrite.
    """
    from aeanet.demo import FILES, run_demo

    for name in FILES:
        check_place(folder / name, overwrite=overwrite)
    make_folder(folder)
    with progress_bar() as bar:
        report = run_demo(folder, lambda label, share: show(bar, label, share))
    out.print(report)
