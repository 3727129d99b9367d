"""Restoration of stacks from file to file: shared out among processes, and resumed after a kill."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch.distributed import ProcessGroup

from aeanet.distributed import agreeing, gathered
from aeanet.imaging.exposure import Outliers
from aeanet.imaging.upsampling import upsampled_shape
from aeanet.inference.brightness import Survey, survey
from aeanet.inference.memory import largest_tile
from aeanet.inference.overlap import overlapped
from aeanet.inference.prediction import RunOptions, chosen_precision, known_magnification
from aeanet.inference.restored import Restored
from aeanet.inference.stack_errors import planes_by
from aeanet.inference.stacks import LoadedPlane, StackRestorer, specimen_rows, values_of
from aeanet.io.images.micrograph import ImageError
from aeanet.io.images.reading import ZARR_SUFFIX
from aeanet.io.stacks import Contents, Stack, Unfinished, begin, finish, unfinished
from aeanet.networks.base import Network

Judge = Callable[[Restored], Any]
"""What is to be known of a restored plane, for JSON."""
# Of the bytes that a request leads to: raise it when a change of the code changes them.
_VERSION = 3


@dataclass(frozen=True)
class RestoredStack:
    """A stack that was restored from file to file.

    Attributes:
        stack: its file or folder.
        target: the result.
        contents: of the result.
        bar: rows of an information bar that were left out at the bottom of each plane.
        records: what the judge said of each plane; None for those that were left empty.
        damaged: what is wrong with planes that were left empty, by their number.
        errors: the file of the standard errors, if it was asked for and written.
        refused: why it was not written, if it was asked for and another file is kept there.
    """

    stack: Path
    target: Path
    contents: Contents
    bar: int
    records: list[Any]
    damaged: dict[int, str] = field(default_factory=dict)
    errors: Path | None = None
    refused: str = ""


def restore_stack_file(
    model: Network,
    stack: Stack,
    target: Path,
    *,
    magnification: float | None = None,
    per_plane: bool = False,
    keep_bar: bool = False,
    skip_damaged: bool = False,
    attend_to: Literal["plane", "stack"] = "plane",
    outliers: Outliers = "keep",
    judge: Judge | None = None,
    on_plane: Callable[[int, int], None] | None = None,
    **options: Unpack[RunOptions],
) -> RestoredStack:
    """Restore a stack plane by plane into a file of its kind, in the memory of one plane.

    The result appears when it is complete. After a kill, the same call goes on after the last plane
    that is complete, and ends with the same bytes. Processes of a group share out the planes; those
    that are left over, and are taken in tiles, are shared out by tiles.

    Args:
        model: any network, on its device. A network of errors gives the standard error of each
            pixel, in the values of the file, float32.
        stack: from a file or folder.
        target: the result. Its kind is that of the stack where others than its maker write it, else
            OME-TIFF.
        magnification, per_plane, outliers: as in `stacks.restore_stack`.
        keep_bar: keep an information bar as part of each plane.
        attend_to: what attention is over, for networks that have it: each plane, or all planes,
            exactly.
        skip_damaged: leave planes empty that cannot be read. Otherwise they are an error, and
            nothing is written.
        judge: is given each plane that is restored; what it returns is kept with the plane.
        on_plane: called with (done, total) before the first plane and after each.
        options: of `RunOptions`.

    Raises:
        ImageError: for planes that cannot be read, or a result that cannot be written.
        PredictionError, TilingError, MemoryError, AgreedError: as `files.restore_file`.
    """
    # the group shares out planes, so a plane is restored without it
    group = options.pop("group", None)
    options.pop("progress", None)
    magnification = known_magnification(model, magnification)
    options["precision"] = chosen_precision(model, options.get("precision", "auto"))

    # all that the bytes depend on: by it a later call knows whether it may go on
    with agreeing(group):
        rows = stack.contents.plane_shape[0]
        specimen = rows if keep_bar else specimen_rows(stack)
        request = _request(
            model,
            stack,
            magnification=magnification,
            specimen=specimen,
            per_plane=per_plane,
            skip_damaged=skip_damaged,
            attend_to=attend_to,
            outliers=outliers,
            judged=judge is not None,
            options=dict(options),
        )
    stack = stack if specimen == rows else stack.cropped(specimen)

    # Survey and tiles are those of the call that began: after a kill the free memory may be
    # another.
    leads = group is None or group.rank() == 0
    with unfinished(target, request, group) as work:
        found = work.note("survey")
        found = found or survey(stack, fits_range=model.fits_range, group=group).record()
        known = Survey.of_record(found)

        # processes have surveyed together, so all of them know of the damage
        with agreeing(group):
            if known.damaged and not skip_damaged:
                raise ImageError(_damage(known))
            if len(known.damaged) == stack.planes:
                raise ImageError(f"No plane of {stack.path} can be read.")

        # without tiles that are kept, the bytes could differ from plane to plane
        plan = work.note("plan") or {"tile": _tile(model, stack, magnification, group, options)}
        options["tile"] = plan["tile"]
        restorer = planes_by(
            model,
            stack,
            magnification=magnification,
            per_plane=per_plane,
            outliers=outliers,
            found=known,
            **options,
        )

        # from here on a call that is killed can be gone on with
        contents = replace(restorer.contents(), bits=_bits(restorer.contents(), known))
        with agreeing(group):
            if leads:
                work.put("survey", found)
                work.put("plan", plan)
                begin(work, contents)

        # keys are sums over all planes, so they are there before the first plane is restored
        if attend_to == "stack":
            restorer.attend_to_all_planes(group)
        run = _Run(restorer, work, contents, judge, on_plane, group)
        run.planes()
        with agreeing(group):
            if leads:
                finish(work)

    # planes that were left empty have no record
    damaged = known.damaged
    records = [run.records.get(number) for number in range(stack.planes)]
    source = stack.path or target
    return RestoredStack(source, target, contents, rows - specimen, records, damaged)


@dataclass
class _Run:
    """The planes of a stack that are not yet restored.

    Attributes:
        records: what is known of each plane, when all are done.
    """

    restorer: StackRestorer
    work: Unfinished
    contents: Contents
    judge: Judge | None
    on_plane: Callable[[int, int], None] | None
    group: ProcessGroup | None
    records: dict[int, Any] = field(default_factory=dict)

    def planes(self) -> None:
        """Restore them all."""
        # what an earlier call completed stays as it is
        group, work, total = self.group, self.work, self.contents.planes
        missing = [number for number in range(total) if number not in work.done]
        size = 1 if group is None else group.size()

        # Planes of one tile cannot be shared, so some processes are idle while the last are done.
        tiled = self.restorer.options.get("tile") is not None
        together = len(missing) % size if tiled else 0
        shared_out, left = missing[: len(missing) - together], missing[len(missing) - together :]
        mine = shared_out if group is None else shared_out[group.rank() :: size]

        # Without other processes, planes are read, judged and written beside the restoration of
        # others.
        finished = total - len(missing)
        told = itertools.count(1)

        def tell(_: int, outcome: Callable[[], None]) -> None:
            outcome()
            self._show(min(finished + next(told) * size, total))

        # first each process its own planes, then all of them the rest, one plane in tiles after
        # another
        with agreeing(group), work.planes_of(self.contents):
            self._show(finished)
            overlapped(mine, self._load, self._restore, self._finish, tell)
        for count, number in enumerate(left, 1):
            with work.planes_of(self.contents):
                self._together(number)
            self._show(finished + len(shared_out) + count)
        for part in gathered(work.done, group):
            self.records |= part

    def _together(self, number: int) -> None:
        """Restore a plane that all processes share; the first of them writes it."""
        restored = self._restore(number, self._load(number), self.group)
        with agreeing(self.group):
            if self.group is None or self.group.rank() == 0:
                self._finish(number, restored)

    def _load(self, number: int) -> LoadedPlane | None:
        """None for a plane that cannot be read."""
        return None if number in self.restorer.found.damaged else self.restorer.load(number)

    def _restore(
        self, _: int, loaded: LoadedPlane | None, group: ProcessGroup | None = None
    ) -> Restored | None:
        return None if loaded is None else self.restorer.restore_loaded(loaded, group=group)

    def _finish(self, number: int, restored: Restored | None) -> None:
        """Judge a plane and write it."""
        if restored is None:
            self.work.add(number, np.zeros(self.contents.plane_shape, self.contents.dtype), None)
            return
        record = None if self.judge is None else self.judge(restored)
        self.work.add(number, values_of(restored), record)

    def _show(self, done: int) -> None:
        if self.on_plane is not None:
            self.on_plane(done, self.contents.planes)


def _damage(found: Survey) -> str:
    """The sentence on planes that cannot be read."""
    first, *others = found.damaged.values()
    more = f" So are {len(others)} more planes." if others else ""
    return f"{first}{more} --skip-damaged leaves such planes empty."


def _bits(contents: Contents, found: Survey) -> int | None:
    """What the greatest white of the channels needs, for unsigned types."""
    if contents.dtype.kind != "u":
        return None
    return max(int(channel.high).bit_length() for channel in found.channels)


def _tile(
    model: Network,
    stack: Stack,
    magnification: float,
    group: ProcessGroup | None,
    options: RunOptions,
) -> int | None:
    """The side of the tiles: that given, else None if each process can take a whole plane at once,
    else the largest that fits.
    """
    if options.get("tile") is not None:
        return options["tile"]
    height, width = upsampled_shape(stack.contents.plane_shape, magnification)
    precision = chosen_precision(model, options.get("precision", "auto"))
    beside = 1  # processes that share the memory
    if group is not None and next(model.parameters()).device.type == "cpu":
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", group.size()))
    whole = largest_tile(model, (height * beside, width), precision) is None
    if all(gathered(whole, group)):
        return None
    return largest_tile(model, (height, width), precision, group)


def _request(model: Network, stack: Stack, **settings: Any) -> dict[str, Any]:
    """All that the bytes of a result depend on."""
    return {
        "version": _VERSION,
        "torch": torch.__version__,
        "model": {"config": model.config, "weights": model.fingerprint()},
        "stack": {
            "files": _files_of(stack),
            "axes": stack.axes,
            "shape": list(stack.shape),
        },
        **settings,
    }


def _files_of(stack: Stack) -> list[list[str | int]]:
    """The name, the size and the time of the last change of each file of a stack."""
    path = stack.path
    if path is None:
        return []

    # Slices are the files of their folder, where results may lie in others. The values of a Zarr
    # image are in folders within it.
    base, files = path.parent, [path]
    if path.is_dir():
        inside = path.rglob("*") if path.suffix.lower() == ZARR_SUFFIX else path.iterdir()
        base, files = path, sorted(file for file in inside if file.is_file())
    names = [str(file.relative_to(base)) for file in files]
    stated = [file.stat() for file in files]
    return [[n, s.st_size, s.st_mtime_ns] for n, s in zip(names, stated, strict=True)]
