"""The command `aeanet`: a module for each of its commands, with an `EXAMPLE` and a function `main`.

Heavy packages are imported inside the commands, so that `--help` does not wait for them.
"""

import os
import platform
import sys
from copy import copy
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

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

THREADS = {"GOMP_SPINCOUNT": "10000"}
"""Variables of OpenMP and OpenBLAS, read when PyTorch and NumPy are imported, and their values.

By default, threads that wait keep their core busy for long. Beside other programs that makes
training many times slower, and where NumPy works beside the network its waiting threads take the
network's cores. A short wait costs nothing on an idle machine, and NumPy's products are small here.
"""
if platform.machine() in ("x86_64", "AMD64"):  # elsewhere PyTorch may use OpenBLAS itself
    THREADS["OPENBLAS_NUM_THREADS"] = "1"


class _Command(TyperCommand):
    """A command whose help leaves room for its sentences: a flag has no type, and both of its names
    stand in one column, as --[no-]NAME.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        shown = copy(self)
        shown.params = [copy(param) for param in self.get_params(ctx)]
        shown.add_help_option = False  # it is one of them
        for param in shown.params:
            if not getattr(param, "is_flag", False):
                continue
            param.metavar = ""
            if param.secondary_opts:
                param.opts = [f"--[no-]{param.opts[0].removeprefix('--')}"]
                param.secondary_opts = []
        TyperCommand.format_help(shown, ctx, formatter)


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
        _module.__name__.rpartition(".")[2],
        cls=_Command,
        epilog=f"Example: `{_module.EXAMPLE}`",
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


def leave_cores() -> None:
    """Set `THREADS`, except what the user has chosen."""
    for name, value in THREADS.items():
        policy = name == "GOMP_SPINCOUNT" and "OMP_WAIT_POLICY" in os.environ
        if not policy:
            os.environ.setdefault(name, value)


def main() -> None:
    """The entry point of the console script."""
    output, _ = prepare_streams()
    leave_cores()
    try:
        app()
    finally:
        output.flush()
        if output.trouble is not None:
            sys.stderr.write(f"Standard output could not be written: {output.trouble.strerror}.\n")
            sys.exit(1)
