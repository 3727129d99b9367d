"""What the commands share: arguments, progress, and messages.

Results go to standard output, progress and errors to standard error. The exit status is 1 for an
error that the user can mend, 2 for a wrong call, 130 after Ctrl-C.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aeanet.errors import sentence_or_raise
from aeanet.imaging.precision import PrecisionChoice
from aeanet.io.text import RecordError, read_json, visible

if TYPE_CHECKING:
    from aeanet.data.pairs import PairSet

# Names of files may look like markup.
_AS_IT_IS: Any = {"markup": False, "emoji": False, "highlight": False}
out = Console(**_AS_IT_IS)
err = Console(stderr=True, **_AS_IT_IS)

REGISTRATION = "registration.json"  # in a folder that `aeanet register` wrote
INTERRUPTED = 130  # what a shell reports for a process ended by Ctrl-C


def path(text: str) -> Path:
    """A path as the user gave it. An empty text is an error, where `Path` would take it for the
    folder that the user is in.
    """
    if not text:
        raise typer.BadParameter("it is empty, a path is wanted.")
    return Path(text)


def option(text: str, *names: str, **settings: Any) -> Any:
    """An option with its help, which states the default where that is needed."""
    return typer.Option(*names, help=text, show_default=False, **settings)


def argument(text: str, **settings: Any) -> Any:
    """An argument with its help."""
    return typer.Argument(help=text, show_default=False, **settings)


Pairs = Annotated[
    Path,
    argument(
        "Folder of pairs: lr/NAME.png with hr/NAME.png, or NAME10000.bmp (LR) with NAME20000.bmp "
        "(HR).",
        metavar="PAIRS",
        parser=path,
    ),
]
Run = Annotated[
    Path,
    argument(
        "Run folder that `aeanet train` wrote, or sem, the model that comes with aeanet.",
        metavar="RUN",
        parser=path,
    ),
]
Images = Annotated[
    list[Path],
    argument(
        "Micrographs and stacks: PNG, BMP, JPEG, TIFF, dm3 and other formats of microscopes, "
        "OME-Zarr.",
        metavar="IMAGE",
        parser=path,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        help="Side of the tiles in px of the result; the result does not depend on it. auto: the "
        "whole image if it fits into the memory, else the largest tile that does."
    ),
]
Flips = Annotated[
    int | None,
    option(
        "Flips of the image whose results are averaged, 1, 2 or 4, in as many times the time: "
        "for sem on real pairs, four gain 0.07 dB more than one, two 0.05 (sem and runs that began "
        "from it 4, others 1)."
    ),
]
Precision = Annotated[
    PrecisionChoice,
    typer.Option(
        help="Of what the network adds to the image. bfloat16 takes half the memory. auto: "
        "bfloat16 where the processor or GPU multiplies it and the model loses at most 0.01 dB, "
        "else float32."
    ),
]
ReportPage = Annotated[
    bool,
    option(
        "Also write one HTML page beside the results: pictures to compare, plots, warnings and "
        "settings. It is report.html, or for one result NAME-report.html.",
        "--report",
    ),
]
Overwrite = Annotated[bool, option("Replace results that are already there.", "--overwrite")]
KeepBar = Annotated[
    bool, option("Keep the information bar of the microscope as part of the image.", "--keep-bar")
]
Chosen = Annotated[
    str | None,
    option(
        "Which image to take from a file that holds several: its name (SE), or its number from 1.",
        "--image",
    ),
]
StackAxes = Annotated[
    str | None,
    option(
        "What the axes of a stack are where its file does not say it: ZYX for a volume, TYX for a "
        "time series, CYX for channels. A folder of numbered slices is taken as one stack.",
        "--axes",
    ),
]
Channel = Annotated[
    str | None, option("The one channel of a stack to take: its name, or its number from 1.")
]
PerPlane = Annotated[
    bool,
    option(
        "Take black and white of each plane of a stack for itself; by default once for all planes, "
        "so that the stack does not flicker.",
        "--per-plane",
    ),
]
SkipDamaged = Annotated[
    bool,
    option("Leave planes of a stack empty that cannot be read.", "--skip-damaged"),
]
Minutes = Annotated[
    float | None,
    option("Stop after this many minutes of training, those before --resume included."),
]
MOST_MINUTES = 10_000_000  # 19 years


def seconds_of(minutes: float | None) -> float | None:
    """What --minutes asks for, in seconds; a number that cannot be ends the command."""
    if minutes is not None and not 0 < minutes < MOST_MINUTES:
        fail(f"--minutes is {minutes:g}, wanted a number above 0 and below {MOST_MINUTES:,}.")
    return None if minutes is None else 60 * minutes


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=err.quiet or not err.is_terminal,
    ) as bar:
        yield bar


def show(bar: Progress, label: str, share: float) -> None:
    """Show what is being done and the share that is done. A share below the last one begins a new
    line and clock.
    """
    if not bar.tasks or share < bar.tasks[-1].completed:
        bar.add_task(label, total=1.0)
    bar.update(bar.task_ids[-1], description=label, completed=share)


@contextmanager
def leading() -> Iterator[None]:
    """Of several processes only the first prints within it; an error that leaves it is printed by
    all.
    """
    from aeanet.distributed import rank

    out.quiet = err.quiet = rank() > 0
    try:
        yield
    finally:
        out.quiet = err.quiet = False


def register_pairs(folder: Path) -> "PairSet":
    """The pairs of a folder, registered. Pairs that cannot be used are named with the reason."""
    from aeanet.data.pairs import load_pairs

    if (folder / REGISTRATION).is_file():
        warn(
            f"{folder} holds results of aeanet register, whose LR has the grid of HR, so the "
            "magnification is 1 here: give the original pairs to train for raw LR images."
        )
    with progress_bar() as bar:
        show(bar, "Registering", 0.0)

        def progress(done: int, total: int, _name: str) -> None:
            show(bar, f"Registered {done} of {total} pairs", done / total)

        data = load_pairs(folder, progress=progress)
    for name, reason in data.refused.items():
        warn(f"Pair {name} is left out: {reason}")
    return data


def read_scans(path: Path) -> "PairSet":
    """Noisy images as pairs to train on. Those that cannot be used are named with the reason."""
    from aeanet.training.scans import load_scans

    with progress_bar() as bar:
        data = load_scans(path, progress=partial(show, bar))
    for name, reason in data.refused.items():
        warn(f"{name} is left out: {reason}")
    return data


def recorded_pairs(record: Path) -> set[str]:
    """The names of the pairs of an earlier call, in the record that it wrote: a table by name, or
    a list of scores. Without a record, or with one that is damaged, none.
    """
    with suppress(OSError, RecordError, KeyError, TypeError):
        pairs = read_json(record)["pairs"]
        names = [pair["name"] if isinstance(pair, dict) else pair for pair in pairs]
        # a name that is a path might lead out of the folder, whose files are removed
        return {name for name in names if Path(name).name == name}
    return set()


def keep_apart(results: Path, pairs: Path) -> None:
    """End the command if its results would lie among the original pairs."""
    if results.resolve() in {part.resolve() for part in (pairs, pairs / "lr", pairs / "hr")}:
        fail(f"{results} holds the original pairs: choose another folder with --out.")


def say(sentence: str) -> None:
    """Print one or more lines."""
    out.print("\n".join(map(visible, sentence.split("\n"))), soft_wrap=True)


def note(sentence: str) -> None:
    """Say something beside the results."""
    err.print(visible(sentence), soft_wrap=True)


def warn(sentence: str) -> None:
    err.print(visible(sentence), style="yellow", soft_wrap=True)


def fail(sentence: str) -> NoReturn:
    err.print(visible(sentence), style="red", soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Within it, an error that the user can mend ends the command with one sentence; a defect keeps
    its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        warn("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        fail(sentence_or_raise(error))
