"""The images of one command, restored one by one: whatever one of them does, the others are
restored.

The commands import this module when they run, since it imports PyTorch.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

from rich.progress import Progress
from torch.distributed import ProcessGroup

from aeanet.cli.places import TargetError, check_place
from aeanet.cli.shared import fail, leading, note, progress_bar, say, show, warn
from aeanet.cli.stacks import (
    ANY_STACK,
    StackOptions,
    restore_stack_at,
    say_stack,
    write_planes,
)
from aeanet.distributed import TILES_PATIENCE, AgreedError, agreeing, all_processes
from aeanet.errors import sentence_or_raise
from aeanet.imaging.exposure import Outliers
from aeanet.imaging.flips import Flips
from aeanet.inference.files import Restored, restore_file
from aeanet.inference.prediction import compile_parts, known_magnification
from aeanet.inference.reach import reach_of
from aeanet.inference.tiling import check_side
from aeanet.io.atomic import LONGEST_NAME, make_folder
from aeanet.io.images import result_name
from aeanet.io.stacks import find_stack, stack_name
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model, to_device

NAMED = 20  # images that the last sentence names


def restore_images(
    name: str | Path,
    images: Iterable[Path],
    folder: Path,
    *,
    tile: str = "auto",
    compiled: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Restore images by a model in as many processes as there are.

    Args:
        name: of the model, or its run folder.
        images, folder, overwrite: as in `restore_all`.
        tile: side in px, or "auto".
        compiled: compile the network by `torch.compile`.
        options: of `restore_all`.
    """
    if tile != "auto" and not (tile.isdecimal() and len(tile) < 10):
        fail(f"--tile is {tile!r}, wanted a number of pixels, or auto.")
    options["tile"] = None if tile == "auto" else int(tile)
    if options.get("flips") not in (None, *get_args(Flips)):
        fail(f"--flips is {options['flips']}, wanted 1, 2 or 4.")

    # What is wrong for every image ends the command before the first of them.
    with leading(), all_processes(TILES_PATIENCE) as group:
        model = to_device(load_model(name))
        options["magnification"] = known_magnification(model, options.get("magnification"))
        if options["tile"] is not None:
            check_side(options["tile"], reach_of(model))
        if compiled:
            compile_parts(model)
        restore_all(model, images, folder, overwrite=overwrite, group=group, **options)


def restore_all(
    model: Network,
    images: Iterable[Path],
    folder: Path,
    *,
    overwrite: bool = False,
    trust: bool = False,
    residual: bool = False,
    stacks: StackOptions = ANY_STACK,
    group: ProcessGroup | None = None,
    **options: Any,
) -> None:
    """Restore images into a folder, and end the command with exit code 1 unless all are restored.

    The path of each result goes to standard output once it is written. An image that cannot be
    restored is named on standard error with the reason, and again in the last sentence. A result
    that is already there is kept, and its image counts as not restored, unless `overwrite`. An
    input is never replaced, and no result replaces that of another image.

    Args:
        model: any network, on its device.
        images: LR micrographs; a path given twice is restored once.
        folder: for the results (`io.images.result_name`); it is made if it is not there.
        overwrite: replace results that are already there.
        trust: say of each image how noisy it is, and warn of what is unusual (`aeanet.trust`).
        residual: write what was taken away beside each result, as NAME-residual.
        stacks: what the user says of files of several planes.
        group: processes that share the tiles of each image; an error of one of them is one of all.
        options: of `inference.files.restore_file`.

    Raises:
        Exception: a defect of aeanet is raised again after the last image.
    """
    images = list(dict.fromkeys(images))
    taken: dict[Path, Path] = {}
    outcome = Outcome()
    leads = group is None or group.rank() == 0
    make_folder(folder)

    # What one process alone does lies within `agreeing`, so that all go on with the next image.
    with progress_bar() as bar:
        for index, image in enumerate(images):
            show(bar, f"Restoring {image.name}", index / len(images))
            progress = partial(_progress, bar, image.name, index, len(images))
            with outcome.of(image, alone=group is None):
                with agreeing(group):
                    stack = None
                    if options.get("chosen") is None:
                        stack = find_stack(image, stacks.axes, stacks.channel)
                    result = result_name(image) if stack is None else stack_name(image)
                    target = _target(image, folder / result, images, taken, overwrite)
                if stack is None:
                    restored = restore_file(
                        model, image, target, group=group, progress=progress("tile"), **options
                    )
                    with agreeing(group):
                        say_change(restored, options.get("outliers", "keep"))
                        if leads and (trust or residual):
                            picture = (
                                _residual_file(target, images, overwrite) if residual else None
                            )
                            say_trust(model, restored, picture)
                else:
                    with stack:
                        found = restore_stack_at(
                            model,
                            stack,
                            target,
                            stacks,
                            trust=trust,
                            on_plane=progress("plane"),
                            group=group,
                            **options,
                        )
                    with agreeing(group):
                        say_stack(image.name, found)
                        if residual:
                            warn(f"{image.name}: --residual is for single images.")
                        if leads and trust:
                            write_planes(found, images, overwrite)
                say(str(target))
        show(bar, "Restored", 1.0)
    outcome.end(len(images), "restored")


def _progress(
    bar: Progress, name: str, index: int, images: int, part: str
) -> Callable[[int, int], None]:
    """Shows how many parts, tiles or planes, of the image number `index` are done."""

    def shown(done: int, total: int) -> None:
        label = f"Restoring {name}, {part} {done} of {total}"
        show(bar, label, (index + done / total) / images)

    return shown


def say_change(restored: Restored, outliers: Outliers = "keep") -> None:
    """Say what of a file does not enter the result, and what became of its outliers."""
    name, source = restored.image.name, restored.source
    if source and source.bar:
        note(
            f"{name}: The information bar, {source.bar} rows at the bottom, is left out; "
            "--keep-bar keeps it."
        )
    if source and source.which:
        note(f"{name}: It holds several images; {source.which} is taken, the only raw one.")
    if number := restored.exposure.rows.size:
        what = "1 outlier" if number == 1 else f"{number:,} outliers"
        done = "kept; --outliers replace replaces it" if outliers == "keep" else "replaced"
        note(f"{name}: {what}, such as a hot or dead pixel, not shown to the model: {done}.")
    if source and source.colour:
        note(f"{name}: The colours become grey.")


def say_trust(model: Network, restored: Restored, picture: Path | None) -> None:
    """Say how noisy an image is, warn of what is unusual, and write what was taken away to
    `picture`.
    """
    from aeanet.trust import assess, write_residual
    from aeanet.trust.residual import residual

    image, result, width = restored.judged()
    found = assess(model, image, result)
    name, used = restored.image.name, restored.exposure.used / width
    note(f"{name}: {found.summary(used, width * restored.unit)}")
    for sentence in found.warnings:
        warn(f"{name}: {sentence}")
    if picture is not None and found.taken is None:
        note(f"{picture} is not written: what was taken away cannot be told.")
    if picture is not None and found.taken is not None:
        half = write_residual(picture, residual(image, result, found.noise))
        white = f"{half / used:.2%} of the range used"
        note(f"{picture}: what was taken away; mid-grey is 0, white is {white}.")


def _residual_file(target: Path, images: Iterable[Path], overwrite: bool) -> Path | None:
    """Where the residual of a result goes; None, with a warning, if a file is there that is to be
    kept.
    """
    ending = ".png" if target.suffix == ".png" else ".tif"
    file = target.with_name(f"{target.stem}-residual{ending}")
    try:
        if len(os.fsencode(file.name)) > LONGEST_NAME:
            raise TargetError("the name of the image is too long to add -residual.")
        check_place(file, overwrite=overwrite, inputs=images)
    except TargetError as error:
        warn(f"What was taken away is not written: {error}")
        return None
    return file


class Outcome:
    """Which items of a batch failed, and the first defect among the reasons."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.defect: Exception | None = None

    @contextmanager
    def of(self, image: Path, *, alone: bool = True) -> Iterator[None]:
        """Within it, an error is said and counted, and goes no further.

        Of several processes (not `alone`) only an error on which all agreed is: `agreeing`.
        """
        try:
            yield
        except Exception as error:
            if not alone and not isinstance(error, AgreedError):
                raise
            self.failed.append(str(image))
            try:
                warn(sentence_or_raise(error))
            except Exception as defect:
                warn(f"{image} fails by a defect of aeanet: {type(defect).__name__}: {defect}")
                self.defect = self.defect or defect

    def end(self, total: int, done: str) -> None:
        """Say which items failed, if any, and end the command."""
        if not self.failed:
            return
        names = ", ".join(self.failed[:NAMED])
        more = f" and {len(self.failed) - NAMED} more" if len(self.failed) > NAMED else ""
        sentence = f"{len(self.failed)} of {total} images could not be {done}: {names}{more}."
        if self.defect is not None:
            warn(sentence)
            raise self.defect
        fail(sentence)


def _target(
    image: Path, target: Path, images: list[Path], taken: dict[Path, Path], overwrite: bool
) -> Path:
    """Where the result of an image goes; `taken` has the results before it. Raises TargetError,
    OSError.
    """
    first = taken.setdefault(target, image)
    if first != image:
        raise TargetError(
            f"{image} would be written to {target}, as {first} is: restore it into another folder."
        )
    try:
        check_place(target, overwrite=overwrite, inputs=images)
    except TargetError as error:
        raise TargetError(f"{image} is not restored: {error}") from None
    return target
