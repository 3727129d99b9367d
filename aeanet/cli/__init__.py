"""The command `aeanet`: a module for each of its commands, with an `EXAMPLE` and a function `main`.

Heavy packages are imported inside the commands, so that `--help` is instant.
"""

import os

import typer

from aeanet.cli import demo, evaluate, heatmaps, info, predict, register, reproduce, train

app = typer.Typer(
    help="A noisy SEM micrograph in, a clean one at twice the resolution out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _module in (demo, register, train, predict, evaluate, heatmaps, reproduce, info):
    app.command(_module.__name__.rpartition(".")[2], epilog=f"Example: `{_module.EXAMPLE}`")(_module.main)


def main() -> None:
    """The entry point of the console script."""
    # Waiting OpenMP threads spin long by default: beside other busy programs that makes training many times slower.
    # Spinning this short costs nothing on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    app()
