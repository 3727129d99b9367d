"""The images of one command, restored one by one: whatever one of them does, the others are
restored.

The commands import this module when they run, since it imports PyTorch.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from rich.progress import Progress
from torch.distributed import ProcessGroup

from aeanet.cli.outcome import Outcome
from aeanet.cli.places import TargetError, check_place
from aeanet.cli.report import (
    Report,
    note_change,
    note_trust,
    residual_file,
    without_warned,
    write_error,
)
from aeanet.cli.shared import fail, leading, note, progress_bar, show
from aeanet.cli.stacks import (
    ANY_STACK,
    StackOptions,
    note_stack,
    restore_stack_at,
    write_planes,
)
from aeanet.distributed import TILES_PATIENCE, agreeing, all_processes
from aeanet.imaging.flips import Flips
from aeanet.inference.error import with_error
from aeanet.inference.files import Loaded, load_file, restore_loaded
from aeanet.inference.memory import keep_freed_memory
from aeanet.inference.overlap import overlapped
from aeanet.inference.prediction import chosen_precision, known_magnification
from aeanet.inference.reach import reach_of
from aeanet.inference.restored import Restored
from aeanet.inference.stack_files import RestoredStack
from aeanet.inference.tiling import check_side
from aeanet.io.atomic import make_folder
from aeanet.io.images import result_name
from aeanet.io.stacks import Stack, find_stack, stack_name
from aeanet.networks.base import Network
from aeanet.networks.error import ErrorNetwork, load_error_network, load_restoring
from aeanet.networks.layers import compile_parts
from aeanet.networks.registry import to_device

if TYPE_CHECKING:
    from aeanet.cli.pages.gallery import Gallery


def restore_images(
    name: str | Path,
    images: Iterable[Path],
    folder: Path,
    *,
    tile: str = "auto",
    compiled: bool = False,
    overwrite: bool = False,
    page: bool = False,
    error: bool = False,
    **options: Any,
) -> None:
    """Restore images by a model in as many processes as there are.

    Args:
        name: of the model, or its run folder.
        images, folder, overwrite: as in `restore_all`.
        tile: side in px, or "auto".
        compiled: compile the network by `torch.compile`.
        page: write a page to look at, too.
        error: also write the standard error of each pixel.
        options: of `restore_all`.
    """
    # what the user asks for, in the terms of `restore_all`
    if tile != "auto" and not (tile.isdecimal() and len(tile) < 10):
        fail(f"--tile is {tile!r}, wanted a number of pixels, or auto.")
    options["tile"] = None if tile == "auto" else int(tile)
    options["flips"] = known_flips(options.get("flips"))
    images = list(dict.fromkeys(images))
    keep_freed_memory()

    # What is wrong for every image ends the command before the first of them.
    with leading(), all_processes(TILES_PATIENCE) as group:
        model = to_device(load_restoring(name))
        asked = options.get("magnification")
        options["magnification"] = exact = known_magnification(model, asked)
        if asked is None and exact != round(exact):
            note(f"The magnification is {exact:.4g}, that of the pairs (--magnification sets it).")
        options["precision"] = chosen_precision(model, options["precision"])

        # a tile must not be smaller than what a pixel of the result depends on around it
        if options["tile"] is not None:
            check_side(options["tile"], reach_of(model))
        if error:
            options["error"] = to_device(load_error_network(name))
        if compiled:
            compile_parts(model)
        if options.get("trust") or options["precision"] != "float32":
            note(f"The network computes in {options['precision']}.")

        # the page lists the options, so it comes when all of them are decided
        if page:
            options["gallery"] = _gallery(name, model, images, folder, overwrite, options)
        restore_all(model, images, folder, overwrite=overwrite, group=group, **options)


def _gallery(
    name: str | Path,
    model: Network,
    images: list[Path],
    folder: Path,
    overwrite: bool,
    options: dict[str, Any],
) -> "Gallery":
    """The page to be; TargetError if its place is taken."""
    from aeanet.cli.pages.gallery import Gallery, page_file

    # its place is looked at before the images, though it is written after them
    file = page_file(folder, images)
    check_place(file, overwrite=overwrite, inputs=images)

    # what counts for all images; what was left open is shown as it was decided
    flips = options["flips"] or model.flips
    tile = options["tile"]
    settings = [
        ("model", f"{name}, network {model.config['name']}"),
        ("magnification", f"{options['magnification']:g}"),
        ("computed in", options["precision"]),
        ("flips", f"mean over {flips}" if flips > 1 else "none"),
        ("tiles", "as the memory needs" if tile is None else f"{tile} px"),
        ("outliers", options.get("outliers", "keep")),
    ]
    return Gallery(file, len(images), settings)


def known_flips(asked: int | None) -> Flips | None:
    """What --flips asks for; a number that cannot be ends the command."""
    if asked not in (None, *get_args(Flips)):
        fail(f"--flips is {asked}, wanted 1, 2 or 4.")
    return asked  # type: ignore[return-value]


def restore_all(
    model: Network,
    images: Iterable[Path],
    folder: Path,
    *,
    overwrite: bool = False,
    trust: bool = False,
    residual: bool = False,
    error: ErrorNetwork | None = None,
    gallery: "Gallery | None" = None,
    stacks: StackOptions = ANY_STACK,
    group: ProcessGroup | None = None,
    **options: Any,
) -> None:
    """Restore images into a folder, and end the command with exit code 1 unless all are restored.

    While the network works on one image, the next one is read, and the last one is judged and
    written. The path of each result goes to standard output once it is written. An image that
    cannot be restored is named on standard error with the reason, and again in the last sentence. A
    result that is already there is kept, and its image counts as not restored, unless `overwrite`.
    An input is never replaced, and no result replaces that of another image.

    Args:
        model: any network, on its device.
        images: LR micrographs; a path given twice is restored once.
        folder: for the results (`io.images.result_name`); it is made if it is not there.
        overwrite: replace results that are already there.
        trust: say of each image how noisy it is, and warn of what is unusual (`aeanet.trust`).
        residual: write what was taken away beside each result, as NAME-residual.
        error: write the standard error of each pixel, by this network, beside each result, as
            NAME-error.tif; it needs `trust`.
        gallery: the page on which the images are shown; it needs `trust`.
        stacks: what the user says of files of several planes.
        group: processes that share the tiles of each image, or the planes of each stack; an error
            of one of them is one of all.
        options: of `inference.files.restore_file`.

    Raises:
        Exception: a defect of aeanet is raised again after the last image.
    """
    # `load_file` takes some of the options, `restore_loaded` the others
    images = list(dict.fromkeys(images))
    magnification = known_magnification(model, options.pop("magnification", None))
    reading = {name: options.pop(name) for name in ("keep_bar", "chosen") if name in options}
    leads = group is None or group.rank() == 0
    taken: dict[Path, Path] = {}
    outcome = Outcome()
    make_folder(folder)

    def read(image: Path) -> tuple[Path, Loaded | Stack]:
        stack = None
        if reading.get("chosen") is None:
            stack = find_stack(image, stacks.axes, stacks.channel)
        name = result_name(image) if stack is None else stack_name(image)
        target = _target(image, folder / name, taken)
        _check_target(image, target, images, overwrite)
        if stack is not None:
            return target, stack
        return target, load_file(model, image, magnification, **reading)

    def work(image: Path, read: tuple[Path, Loaded | Stack]) -> Restored | RestoredStack:
        # the bar counts images; within one of them, planes or tiles
        target, loaded = read
        index = images.index(image)
        show(bar, f"Restoring {image.name}", index / len(images))
        progress = partial(_show_part, bar, image.name, index, len(images))

        # a stack reads, judges and writes its planes in this one step
        if isinstance(loaded, Stack):
            return restore_stack_at(
                model,
                loaded,
                target,
                stacks,
                trust=trust,
                on_plane=partial(progress, "plane"),
                error=error,
                inputs=images,
                overwrite=overwrite,
                magnification=magnification,
                keep_bar=reading.get("keep_bar", False),
                group=group,
                **options,
            )

        # an image that is read by regions is written here, one in memory by `finish`
        restored = restore_loaded(
            model,
            loaded,
            target,
            magnification,
            group=group,
            progress=partial(progress, "tile"),
            **options,
        )
        return restored if error is None else with_error(restored, error, group=group)

    def finish(image: Path, restored: Restored | RestoredStack) -> Report:
        # of several processes one judges, writes and speaks
        report = Report(image.name, restored.target)
        if not leads:
            return report

        # a stack is written by now; its table and its part of the page are left
        if isinstance(restored, RestoredStack):
            note_stack(report, restored, error)
            if residual:
                report.warn(f"{image.name}: --residual is for single images.")
            if trust:
                with report.keeping_error():
                    write_planes(report, restored, images, overwrite)
                    if gallery is not None:
                        gallery.add_stack(report, restored, stacks, magnification)
            return report

        if restored.result is not None:
            # A file may have come there since the image was read.
            _check_target(image, restored.target, images, overwrite)
            restored.write()
        note_change(report, restored, options.get("outliers", "keep"))
        if stacks.axes or stacks.channel:
            report.note(f"{image.name}: It is one image; --axes and --channel are for stacks.")

        # The result is safe, so an error in what comes beside it waits until all is said. What is
        # warned of has no standard error, so it is judged before that is written.
        if trust or residual:
            with report.keeping_error():
                picture = residual_file(report, images, overwrite) if residual else None
                judged = note_trust(report, model, restored, picture)
                if error is not None:
                    restored = without_warned(restored, judged)
                    write_error(report, restored, float(error.wider), judged, images, overwrite)
                if gallery is not None:
                    gallery.add(report, restored, judged)
        return report

    def tell(image: Path, finished: Callable[[], Report]) -> None:
        with outcome.of(image, alone=group is None):
            report = finished()
            with agreeing(group):
                report.say()

    def write_page() -> bool:
        return not leads or gallery is None or gallery.write(outcome.failed)

    # the images that are done are on the page also after Ctrl-C
    try:
        with progress_bar() as bar:
            overlapped(images, read, work, finish, tell, group=group)
            show(bar, "Restored", 1.0)
    except KeyboardInterrupt:
        write_page()  # of the images until then
        raise

    # after the last image, since the page names those that failed
    written = write_page()
    outcome.end(len(images), "restored")
    if not written:
        raise typer.Exit(1)


def _show_part(
    bar: Progress, name: str, index: int, images: int, part: str, done: int, total: int
) -> None:
    """Show how many parts, tiles or planes, of the image number `index` are done."""
    show(bar, f"Restoring {name}, {part} {done} of {total}", (index + done / total) / images)


def _target(image: Path, target: Path, taken: dict[Path, Path]) -> Path:
    """The place of the result of an image; `taken` has the results before it.

    Raises:
        TargetError: it is the place of another result.
    """
    first = taken.setdefault(target, image)
    if first != image:
        raise TargetError(
            f"{image} would be written to {target}, as {first} is: restore it into another folder."
        )
    return target


def _check_target(image: Path, target: Path, images: list[Path], overwrite: bool) -> None:
    """Raise TargetError, OSError if a file is there that is to be kept."""
    try:
        check_place(target, overwrite=overwrite, inputs=images)
    except TargetError as error:
        raise TargetError(f"{image} is not restored: {error}") from None
