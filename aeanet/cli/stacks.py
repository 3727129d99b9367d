"""The stacks among the images of one command: what is said of them, and the table of their planes.

The commands import this module when they run, since it imports PyTorch.
"""

import csv
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from aeanet.cli.places import TargetError, check_place
from aeanet.cli.report import Report, what_it_covers
from aeanet.inference.restored import Restored
from aeanet.inference.stack_files import RestoredStack, restore_stack_file
from aeanet.io.atomic import write_atomically
from aeanet.io.images.reading import TIFF_SUFFIXES, ZARR_SUFFIX
from aeanet.io.stacks import Stack
from aeanet.io.stacks.opening import MRC_SUFFIXES
from aeanet.networks.base import Network
from aeanet.networks.error import ErrorNetwork

_NAMED = 5  # planes that a sentence names


@dataclass(frozen=True)
class StackOptions:
    """What a user says of stacks.

    Attributes:
        axes: what the axes are, where a file does not say it.
        channel: the one channel to take, by name or number.
        per_plane: take black and white of each plane for itself.
        skip_damaged: leave planes empty that cannot be read.
        keys: what attention is over: each plane, or all planes.
    """

    axes: str | None = None
    channel: str | None = None
    per_plane: bool = False
    skip_damaged: bool = False
    keys: Literal["plane", "stack"] = "plane"


ANY_STACK = StackOptions()


def restore_stack_at(
    model: Network,
    stack: Stack,
    target: Path,
    options: StackOptions,
    *,
    trust: bool,
    on_plane: Callable[[int, int], None],
    error: ErrorNetwork | None = None,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    **settings: Any,
) -> RestoredStack:
    """Restore a stack and close it.

    Args:
        model, stack, target: as for `restore_stack_file`.
        options: what the user says of the stack.
        trust: whether each plane is judged.
        on_plane: called with (done, total).
        error: estimates the standard errors, which are written first: after a break the second call
            goes on with the restoration. Where a file is kept in their place they are left out.
        inputs, overwrite: as for `check_place`.
        settings: of `restore_stack_file`.
    """

    def judge(restored: Restored) -> dict[str, Any]:
        return judged(model, restored)

    # where the standard errors go, unless a file is there that is to be kept
    errors, refused = None, ""
    if error is not None:
        errors = errors_file(target)
        try:
            check_place(errors, overwrite=overwrite, inputs=inputs)
        except TargetError as reason:
            errors, refused = None, str(reason)

    settings |= {"per_plane": options.per_plane, "skip_damaged": options.skip_damaged}
    settings["on_plane"] = on_plane
    with stack:
        if error is not None and errors is not None:
            restore_stack_file(error, stack, errors, **settings | {"precision": "float32"})
        judging = judge if trust else None
        restored = restore_stack_file(
            model, stack, target, attend_to=options.keys, judge=judging, **settings
        )
    return replace(restored, errors=errors, refused=refused)


def errors_file(target: Path) -> Path:
    """Where the standard errors of a stack go: into a file of the same kind, or OME-TIFF where that
    holds no floating point.
    """
    suffix = target.suffix
    if suffix.lower() not in (*TIFF_SUFFIXES, *MRC_SUFFIXES, ZARR_SUFFIX):
        return target.with_name(f"{target.name}-error.tif")
    name = target.name.removesuffix(suffix)
    plain = name.removesuffix(".ome")
    return target.with_name(f"{plain}-error{name.removeprefix(plain)}{suffix}")


def judged(model: Network, restored: Restored) -> dict[str, Any]:
    """What is known of a restored plane: noise in shares of the range used and in the values of the
    file, how far it is from the images of the training, and its warnings.
    """
    from aeanet.trust import assess

    # judged in a range that has the share `width` of the file's, so both numbers are scaled by it
    image, result, width = restored.judged()
    found = assess(model, image, result)
    used, sd = restored.exposure.used / width, found.noise.sd
    known = math.isfinite(sd)
    return {
        "noise": sd / used if known and used > 0 else None,
        "noise_value": sd * width * restored.unit if known else None,
        "distance": found.distance,
        "residual_distance": found.residual_distance,
        "outliers": int(restored.exposure.rows.size),
        "warnings": found.warnings,
    }


def note_stack(report: Report, restored: RestoredStack, error: ErrorNetwork | None = None) -> None:
    """Say what does not enter a result, how noisy the stack is, which planes are unusual, and what
    became of the standard errors, if they were asked for.
    """
    # what does not enter the result; of many damaged planes a few by name, and their number
    name, contents = restored.stack.name, restored.contents
    if restored.bar:
        report.note(
            f"{name}: The information bar, {restored.bar} rows at the bottom of each plane, is "
            "left out; --keep-bar keeps it."
        )
    for number, sentence in list(restored.damaged.items())[:_NAMED]:
        report.warn(f"{name}: {contents.name_of(number)} is left empty: {sentence}")
    if len(restored.damaged) > _NAMED:
        report.warn(f"{name}: {len(restored.damaged)} planes are left empty.")

    # a stack that was not judged has no records
    if any(restored.records):
        report.note(f"{name}: {_noise(restored)}")
    for sentence in warnings_of(restored):
        report.warn(f"{name}: {sentence}")

    # errors that were asked for are there, or were kept from replacing a file
    if restored.refused:
        report.warn(f"The standard error is not written: {restored.refused}")
    if error is not None and restored.errors is not None:
        covers = what_it_covers(float(error.wider))
        report.note(f"{restored.errors}: the standard error of each pixel of each plane. {covers}")


def _noise(restored: RestoredStack) -> str:
    """A line on the noise of the planes."""
    # a plane that is left empty has no record; of others the noise cannot always be told
    contents = restored.contents
    judged_planes = {number: one for number, one in enumerate(restored.records) if one}
    known = {number: one for number, one in judged_planes.items() if one["noise"] is not None}
    if not known:
        return f"{contents.planes} planes. The noise cannot be told."

    # the median for all, as one odd plane hardly counts in it; the noisiest by name
    median = statistics.median(one["noise"] for one in known.values())
    value = statistics.median(one["noise_value"] for one in known.values())
    noisiest = max(known, key=lambda number: known[number]["noise"])
    warned = any(one["warnings"] for one in judged_planes.values())
    return (
        f"{contents.planes} planes. Noise: median {median:.1%} of the range used ({value:.3g} in "
        f"the values of the file), most {known[noisiest]['noise']:.1%} in "
        f"{contents.name_of(noisiest)}.{'' if warned else ' Nothing unusual.'}"
    )


def warnings_of(restored: RestoredStack) -> list[str]:
    """A sentence for each warning that planes have, with the worst of these planes; one for a
    channel that is unlike the images of the training throughout.
    """
    # planes with the same warning have one sentence
    contents, records = restored.contents, restored.records
    planes_of: dict[str, list[int]] = {}
    for number, one in enumerate(records):
        for sentence in one["warnings"] if one else ():
            head, separated, _ = sentence.partition(" (most unusual")  # names differ by plane
            planes_of.setdefault(head + ("." if separated else ""), []).append(number)

    # the worst planes first; more than a few are counted only
    sentences = []
    for sentence, planes in planes_of.items():
        worst = sorted(planes, key=lambda number: -oddness(records[number]))[:_NAMED]
        listed = ", ".join(str(number + 1) for number in worst)
        some = "1 plane" if len(planes) == 1 else f"{len(planes)} planes"
        count = "all planes" if len(planes) == contents.planes else some
        which = f"the worst are {listed}" if len(planes) > _NAMED else f"number {listed}"
        sentences.append(f"{sentence} So in {count}, {which}.")
    return sentences + [
        f"Channel {name} is unlike electron images." for name in odd_channels(restored)
    ]


def odd_channels(restored: RestoredStack) -> list[str]:
    """The channels of which most planes are unlike the images of the training, where others are
    not.
    """
    contents, records = restored.contents, restored.records
    channels = contents.sizes.get("C", 1)

    # a channel is odd if most of its planes are; planes that were left empty do not count
    odd = []
    for channel in range(channels):
        of_channel = [
            one
            for number, one in enumerate(records)
            if one and contents.place(number).get("C", 0) == channel
        ]
        unlike = [one for one in of_channel if (one["distance"] or 0) > 1]
        if 2 * len(unlike) > len(of_channel):
            name = f" ({contents.channels[channel]})" if contents.channels else ""
            odd.append(f"{channel + 1}{name}")

    # if all channels are, none is: the warnings of the planes say it
    return odd if len(odd) < channels else []


def oddness(record: dict[str, Any]) -> float:
    """How unusual a plane is: above 1 there is a warning."""
    return max(record["distance"] or 0.0, record["residual_distance"] or 0.0)


def write_planes(
    report: Report, restored: RestoredStack, inputs: Iterable[Path], overwrite: bool
) -> None:
    """Write what is known of each plane beside the result: NAME-planes.csv, and as a picture."""
    from aeanet.figures.planes import draw_planes
    from aeanet.figures.style import render

    # a plane of which the noise is not known leaves a gap in the plot
    records, target = restored.records, restored.target
    noise = [one["noise"] if one and one["noise"] is not None else math.nan for one in records]
    warned = [number for number, one in enumerate(records) if one and one["warnings"]]
    content = {
        ".csv": _table(restored).encode(),
        ".png": render(lambda: draw_planes(noise, warned, list(restored.damaged))),
    }

    # both are named after the result without its ending, which may be .ome.tif
    stem = target.name.removesuffix(target.suffix).removesuffix(".ome")
    for ending, written in content.items():
        file = target.with_name(f"{stem}-planes{ending}")
        try:
            check_place(file, overwrite=overwrite, inputs=inputs)
        except TargetError as error:
            report.warn(f"The table of the planes is not written: {error}")
            return
        write_atomically(file, written)
        report.note(f"{file}: the noise and the warnings of each plane.")


def _table(restored: RestoredStack) -> str:
    """CSV: a line for each plane, numbered from 1."""
    # a column for each axis along which planes are counted
    contents = restored.contents
    leading = contents.axes[: len(contents.leading)]
    columns = ("noise", "noise_value", "distance", "residual_distance", "outliers")
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["plane", *leading, *columns, "warnings"])

    # a plane that is left empty has its reason in place of warnings
    for number, one in enumerate(restored.records):
        place = [index + 1 for index in contents.place(number).values()]
        record = one or {}
        said = record.get("warnings") or [restored.damaged.get(number, "")]
        table.writerow(
            [number + 1, *place, *(_digits(record.get(name)) for name in columns), " ".join(said)]
        )
    return text.getvalue()


def _digits(value: Any) -> str:
    return "" if value is None else f"{value:.6g}"
