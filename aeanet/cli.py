"""The command `aeanet`: demo, train, predict, evaluate.

Results go to standard output, progress and errors to standard error. Whatever can go wrong at the user's end is one
sentence and exit status 1 (2 for a wrong call, 130 after Ctrl-C). Heavy packages are imported inside the commands, so
that `--help` is instant.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aeanet import evaluation, training
    from aeanet.model import UShape
    from aeanet.pairs import PairSet
    from aeanet.registration import RegisteredPair

app = typer.Typer(
    help="A noisy SEM micrograph in, a clean one at twice the resolution out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console()
err = Console(stderr=True)

INTERRUPTED = 130  # what a shell reports for a process ended by Ctrl-C


class ModelName(str, Enum):
    aeanet = "aeanet"
    gvtnet = "gvtnet"
    unet = "unet"


class Schedule(str, Enum):
    halving = "halving"
    one_cycle = "one-cycle"


Pairs = Annotated[
    Path,
    typer.Argument(
        metavar="PAIRS",
        help="Folder of pairs: lr/NAME.png with hr/NAME.png, or NAME10000.bmp (LR) with NAME20000.bmp (HR).",
        show_default=False,
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that `aeanet train` wrote.", show_default=False)]


@app.command(epilog="Example: `aeanet demo --out aeanet-demo`")
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the pictures and the model.")] = Path("aeanet-demo"),
) -> None:
    """Simulate SEM pairs, train for two minutes, restore an image the network has not seen, show what was gained."""
    with _one_sentence():
        from aeanet.demo import run_demo

        _make_folder(folder)
        with _bar() as bar:
            report = run_demo(folder, lambda label, share: _show(bar, label, share))
        out.print(report)


@app.command(epilog="Example: `aeanet train pairs/ --out runs/first --quick`")
def train(
    folder: Pairs,
    run: Annotated[Path, typer.Option("--out", help="Run folder to write.", show_default=False)],
    quick: Annotated[
        bool, typer.Option("--quick", help="A short recipe: 2,000 steps of 16 crops of 64 px, one cycle up to 2e-3.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps (120,000).", show_default=False)] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the training crops in px (256).", show_default=False)
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Crops per step (8).", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate, or its peak (4e-4).", show_default=False)] = None,
    schedule: Annotated[
        Schedule | None,
        typer.Option(help="halving: every 10,000 steps (default); one-cycle: up, then down to 0.", show_default=False),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and crops.")] = 0,
    model: Annotated[ModelName, typer.Option(help="Network.")] = ModelName.aeanet,
    references: Annotated[int, typer.Option(min=0, help="Learnable references of the attention (aeanet only).")] = 64,
    batch_aware: Annotated[
        bool, typer.Option(help="Let half of each batch attend to one another (aeanet only).")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model already in the run folder.")] = False,
) -> None:
    """Register the pairs of a folder and train on them; by default as long as the paper did, which wants a GPU.

    Ctrl-C ends the training and leaves the model as it then is.
    """
    with _one_sentence():
        from aeanet import training
        from aeanet.model import MODEL_FILE

        if (run / MODEL_FILE).exists() and not overwrite:
            _fail(
                f"{run} already holds a model: choose another folder with --out, or replace the model with --overwrite."
            )
        given: dict[str, Any] = {
            "steps": steps,
            "crop": crop,
            "batch": batch,
            "rate": rate,
            "schedule": schedule.value if schedule else None,
            "max_seconds": None if minutes is None else 60 * minutes,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        recipe = replace(training.Recipe.short() if quick else training.Recipe(), seed=seed, **changes)
        options = {"references": references, "batch_aware": batch_aware} if model is ModelName.aeanet else {}
        _make_folder(run)
        data = _load_pairs(folder)
        with _bar() as bar:

            def on_step(now: training.Progress) -> None:
                _show(bar, f"Training, step {now.step:,} of {recipe.steps:,}, loss {now.loss:.4f}", now.used)

            def on_save(network: "UShape") -> None:
                try:
                    training.save_model(network, run / MODEL_FILE)
                except OSError as error:  # a disk full for now must not end a training of days
                    _warn(f"The model could not be saved for now: {_describe(error)}")

            trained = training.train(data.pairs, recipe, name=model.value, on_step=on_step, on_save=on_save, **options)
        _save_run(run, trained, recipe, data)
        if trained.interrupted:
            _warn(f"Interrupted after {trained.steps:,} steps; the model as it then was is in {run}.")
            raise typer.Exit(INTERRUPTED)
        _say(f"{trained.steps:,} steps in {trained.seconds:.0f} s; the model is in {run}.")


@app.command(epilog="Example: `aeanet predict runs/first images/*.tif --out restored`")
def predict(
    run: Run,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="LR micrographs (PNG, BMP, JPEG, TIFF).", show_default=False),
    ],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs the run was trained on.

    Results keep name and depth; TIFF stays TIFF, everything else becomes PNG. Images that cannot be read are
    reported and the others go on.
    """
    with _one_sentence():
        from aeanet.images import read_image, write_image
        from aeanet.model import load_model
        from aeanet.prediction import super_resolve

        targets = [
            folder / f"{image.stem}{'.tif' if image.suffix.lower() in ('.tif', '.tiff') else '.png'}"
            for image in images
        ]
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            if target in targets[:index]:
                _fail(
                    f"{images[targets.index(target)]} and {image} would both be written to {target}: "
                    "restore them into different folders."
                )
            if any(other.exists() and target.exists() and other.samefile(target) for other in images):
                _fail(f"the result for {image} would replace an input image: choose another folder with --out.")
        model = _to_device(load_model(run))
        _make_folder(folder)
        failed = 0
        with _bar() as bar:
            for index, (image, target) in enumerate(zip(images, targets, strict=True)):
                _show(bar, f"Restoring {image.name}", index / len(images))
                try:
                    source = read_image(image)
                    write_image(target, super_resolve(model, source.pixels), like=source)
                    _say(str(target))
                except Exception as error:
                    sentence = _sentence(error)
                    if sentence is None:
                        raise
                    failed += 1
                    _warn(sentence)
            _show(bar, "Restored", 1.0)
        if failed:
            _fail(f"{failed} of {len(images)} images could not be restored.")


@app.command(epilog="Example: `aeanet evaluate runs/first pairs/ --out scores`")
def evaluate(
    run: Run,
    folder: Pairs,
    results: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for evaluation.json and a picture of each pair.", show_default=False),
    ] = None,
) -> None:
    """Score a run on the test columns of pairs: PSNR and SSIM against HR, beside those of bicubic interpolation."""
    with _one_sentence():
        from aeanet import evaluation
        from aeanet.figures import draw_comparison
        from aeanet.files import write_atomically
        from aeanet.model import load_model

        model = _to_device(load_model(run))
        if results:
            _make_folder(results)
        data = _load_pairs(folder)
        done = 0
        with _bar() as bar:
            _show(bar, "Restoring", 0.0)

            def on_pair(pair: "RegisteredPair", restored: "NDArray", score: "evaluation.Score | None") -> None:
                nonlocal done
                done += 1
                if results and score:
                    draw_comparison(results / f"{pair.name}.png", pair, restored, score)
                _show(bar, f"Restored {pair.name}", done / len(data.pairs))

            scores = evaluation.evaluate(model, data.pairs, on_pair=on_pair)
        out.print(scores.table())
        if results:
            write_atomically(results / "evaluation.json", scores.to_json().encode())


def main() -> None:
    """The entry point of the console script."""
    # Waiting OpenMP threads spin long by default: beside other busy programs that makes training many times slower.
    # Spinning this short costs nothing on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    app()


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err) as bar:
        yield bar


def _show(bar: Progress, label: str, share: float) -> None:
    """Say what is done and how much of it; a share that falls back begins a line of its own, with its own clock."""
    if not bar.tasks or share < bar.tasks[-1].completed:
        bar.add_task(label, total=1.0)
    bar.update(bar.task_ids[-1], description=label, completed=share)


def _load_pairs(folder: Path) -> "PairSet":
    from aeanet.pairs import load_pairs

    with _bar() as bar:
        _show(bar, "Registering", 0.0)
        data = load_pairs(
            folder, progress=lambda done, total, name: _show(bar, f"Registered {done} of {total} pairs", done / total)
        )
    for name, reason in data.refused.items():
        _warn(f"Pair {name} is left out: {reason}")
    return data


def _make_folder(folder: Path) -> None:
    """Make a folder and try to write in it now, rather than fail after hours of work. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _save_run(run: Path, trained: "training.Trained", recipe: "training.Recipe", data: "PairSet") -> None:
    """Write the run folder; where the disk refuses, write it to the temporary folder and fail, naming both."""
    from aeanet.training import save_run

    try:
        save_run(run, trained, recipe, data)
    except OSError as error:
        refuge = Path(tempfile.mkdtemp(prefix="aeanet-run-"))
        save_run(refuge, trained, recipe, data)
        _fail(f"{_describe(error)} The trained model is in {refuge} instead.")


def _to_device(model: "UShape") -> "UShape":
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _say(sentence: str) -> None:
    out.print(sentence, soft_wrap=True, highlight=False, markup=False)


def _warn(sentence: str) -> None:
    err.print(sentence, style="yellow", soft_wrap=True, highlight=False, markup=False)


def _fail(sentence: str) -> NoReturn:
    err.print(sentence, style="red", soft_wrap=True, highlight=False, markup=False)
    raise typer.Exit(1)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn the errors a user can cause into one sentence; what remains is a defect of ours and keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _warn("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        _fail(sentence)


def _sentence(error: Exception) -> str | None:
    """What to tell the user about an error, None if it is not one of the user's."""
    if isinstance(error, ValueError) and type(error).__module__.startswith("aeanet."):
        return str(error)
    if isinstance(error, OSError):
        return _describe(error)
    # PyTorch says so in a class of its own on GPUs, in a bare RuntimeError on CPUs.
    short_of_memory = "out of memory", "can't allocate memory", "not enough memory"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in short_of_memory)
    ):
        return "There is not enough memory for this: use smaller images, crops or batches, or another machine."
    return None


def _describe(error: OSError) -> str:
    return f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}."
