"""What the commands that train share: options of a run folder, and what is said of a run."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from aeanet.cli.shared import INTERRUPTED, option, path, warn
from aeanet.errors import sentence_or_raise

NewRun = Annotated[Path, option("Run folder to write.", "--out", parser=path)]
Resume = Annotated[
    bool,
    option(
        "Go on from the latest checkpoint, with the options that the run was begun with.",
        "--resume",
    ),
]
ReplaceRun = Annotated[bool, option("Replace the run that is in the folder.", "--overwrite")]


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None: those that the user gave."""
    return {name: value for name, value in options.items() if value is not None}


def say_trouble(error: OSError) -> None:
    warn(f"A file could not be saved for now: {sentence_or_raise(error)}")


def steps_done(steps: int, wanted: int) -> str:
    """How many steps a training took, and of how many if it took fewer than wanted."""
    return f"{steps:,} of {wanted:,}" if steps < wanted else f"{steps:,}"


def end_interrupted(run: Path, steps: str) -> NoReturn:
    """End a command after Ctrl-C."""
    warn(f"Interrupted after {steps} steps. The model as it is now is in {run}; --resume goes on.")
    raise typer.Exit(INTERRUPTED)
