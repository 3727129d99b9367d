"""The command `aeanet`: a module for each of its commands, with an `EXAMPLE` and a function `main`.

Heavy packages are imported inside the commands, so that `--help` does not wait for them.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from aeanet.cli import (
    demo,
    evaluate,
    export,
    frames,
    heatmaps,
    info,
    predict,
    pretrain,
    register,
    reproduce,
    restore,
    score,
    train,
)
from aeanet.cli.shared import one_sentence, say
from aeanet.cli.streams import prepare_streams

SHORT_WAIT = "GOMP_SPINCOUNT", "10000"
"""A variable of OpenMP, read when PyTorch is imported, and its value. By default, threads that wait
keep their core busy for long. Beside other programs that makes training many times slower. A short
wait costs nothing on an idle machine.
"""


def _show_version(asked: bool) -> None:
    if asked:
        say(f"aeanet {version('aeanet')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
_COMMANDS = (
    restore,
    frames,
    demo,
    register,
    train,
    predict,
    evaluate,
    score,
    heatmaps,
    export,
    reproduce,
    pretrain,
    info,
)
for _module in _COMMANDS:
    _command = app.command(
        _module.__name__.rpartition(".")[2], epilog=f"Example: `{_module.EXAMPLE}`"
    )
    _command(one_sentence()(_module.main))


@app.callback()
def _about(
    show: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """A noisy SEM micrograph in, a clean one at twice the resolution out.

    LR is an image at low magnification, HR one of the same field at the higher magnification.
    """


def main() -> None:
    """The entry point of the console script."""
    output, _ = prepare_streams()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(*SHORT_WAIT)
    try:
        app()
    finally:
        output.flush()
        if output.trouble is not None:
            sys.stderr.write(f"Standard output could not be written: {output.trouble.strerror}.\n")
            sys.exit(1)
