"""`aeanet frames`."""

import csv
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aeanet.cli.places import check_place
from aeanet.cli.restore import check_magnification
from aeanet.cli.shared import (
    Chosen,
    Flips,
    Images,
    KeepBar,
    Overwrite,
    fail,
    note,
    option,
    path,
    progress_bar,
    say,
    show,
    warn,
)
from aeanet.errors import sentence_or_raise
from aeanet.imaging.precision import Precision
from aeanet.io.atomic import make_folder, write_atomically
from aeanet.io.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

    from aeanet.inference.frames import RestoredFrames
    from aeanet.io.images import Micrograph
    from aeanet.networks.base import Network

EXAMPLE = "aeanet frames scans/*.tif --out result.tif"
COLUMNS = ("frame", "file", "x", "y", "x_first", "y_first", "x_last", "y_last", "gain", "weight")
"""Of the drift table, before the reason for which a frame is left out."""


def main(
    images: Images,
    target: Annotated[Path, option("File for the result, .tif or .png.", "--out", parser=path)],
    magnification: Annotated[
        float,
        typer.Option(
            help="Result px per px of a frame, 1 to 4; above 1 the shifts between the frames by "
            "parts of a pixel add detail."
        ),
    ] = 1.0,
    fused: Annotated[
        bool,
        typer.Option("--fused", help="Also write the mean before its restoration, as NAME-fused."),
    ] = False,
    precision: Annotated[Precision, typer.Option(help="bfloat16: half the memory.")] = "float32",
    flips: Flips = None,
    keep_bar: KeepBar = False,
    chosen: Chosen = None,
    overwrite: Overwrite = False,
) -> None:
    """Make one image of repeated scans of one field, given in the order of their recording.

    The drift from frame to frame, and the slow drift within each of them, is found and undone. Bad
    frames, such as blurred ones or those of another field, are left out and named with the reason.
    The mean of the others, in which frames with less noise have more weight, is restored by the
    model that comes with aeanet.

    The result has the field, type, range and pixel size of the frame in the middle of the others.
    NAME-drift.csv and NAME-drift.png beside it say how far the specimen lies from its place in that
    frame, in px: as the mean over the lines, and in the first and the last of them. Results that
    are already there are kept unless you give --overwrite.
    """
    check_magnification(magnification)
    images = list(dict.fromkeys(images))
    if len(images) < 2:
        fail("One frame is given, two or more are wanted; `aeanet restore` takes one.")
    beside = {
        what: target.with_name(f"{target.stem}-{what}")
        for what in ("drift.csv", "drift.png", f"fused{target.suffix}")
    }
    table, plot, mean = beside.values()
    make_folder(target.parent)
    for file in (target, table, plot, *([mean] if fused else [])):
        check_place(file, overwrite=overwrite, inputs=images)

    from aeanet.cli.batch import known_flips
    from aeanet.figures.drift import draw_drift
    from aeanet.io.images import check_format, write_image
    from aeanet.networks.registry import load_model, to_device

    options: Any = {"precision": precision, "flips": known_flips(flips)}
    with progress_bar() as bar:
        frames = read_frames(images, bar, keep_bar=keep_bar, image=chosen)
        check_format(target, next(iter(frames.values())).dtype)
        model = to_device(load_model("sem"))
        restored = restore(model, frames, bar, magnification, **options)

        show(bar, "Writing", 0.0)
        like = list(frames.values())[restored.fused.aligned.reference]
        aligned = restored.fused.aligned
        write_image(target, restored.result, like=like, magnification=magnification)
        write_atomically(table, drift_table(list(frames), restored).encode())
        draw_drift(plot, aligned)
        if fused:
            write_image(mean, restored.fused.pixels, like=like, magnification=magnification)
        show(bar, "Written", 1.0)

    say_frames(model, frames, restored)
    say("\n".join(map(str, (target, table, plot, *([mean] if fused else [])))))
    if unread := [str(image) for image in images if image not in frames]:
        fail(f"{len(unread)} of {len(images)} frames could not be read: {', '.join(unread)}.")


def read_frames(images: list[Path], bar: "Progress", **options: Any) -> "dict[Path, Micrograph]":
    """The frames by file. One that cannot be read is named with the reason and not among them.

    Raises:
        FrameError: they differ in size, or fewer than two can be read.
    """
    from aeanet.data.frames import FrameError
    from aeanet.io.images import read_image

    frames: dict[Path, Micrograph] = {}
    for done, file in enumerate(images):
        show(bar, f"Reading {file.name}", done / len(images))
        try:
            frames[file] = read_image(file, **options)
        except Exception as error:
            warn(sentence_or_raise(error))
    if len(frames) < 2:
        raise FrameError(
            f"{len(frames)} of {len(images)} frames could be read, two or more are wanted."
        )
    first = next(iter(frames))
    for image, frame in frames.items():
        if frame.pixels.shape != frames[first].pixels.shape:
            sizes = [f"{f} has {size(frames[f])}" for f in (first, image)]
            raise FrameError(f"Frames of one size are wanted, but {' and '.join(sizes)}.")
    if any(frame.colour for frame in frames.values()):
        note("The colours of the frames become grey.")
    return frames


def size(frame: "Micrograph") -> str:
    """Width and height, and what was cut off."""
    height, width = frame.pixels.shape
    without = f" without its bar of {frame.bar} rows" if frame.bar else ""
    return f"{width} x {height} px{without}"


def restore(
    model: "Network",
    frames: "dict[Path, Micrograph]",
    bar: "Progress",
    magnification: float,
    **options: Any,
) -> "RestoredFrames":
    """The frames fused and restored, in tiles if the memory asks for it."""
    from aeanet.imaging.upsampling import upsampled_shape
    from aeanet.inference.frames import restore_frames
    from aeanet.inference.memory import largest_tile

    pixels = [frame.pixels for frame in frames.values()]
    shape = upsampled_shape(pixels[0].shape, magnification)
    show(bar, "Aligning and restoring", 0.0)

    def progress(done: int, total: int) -> None:
        show(bar, f"Restoring tile {done} of {total}", done / total)

    return restore_frames(
        model,
        pixels,
        magnification=magnification,
        tile=largest_tile(model, shape, options["precision"]),
        progress=progress,
        **options,
    )


def drift_table(images: list[Path], restored: "RestoredFrames") -> str:
    """The drift of each frame as CSV (`COLUMNS`), in px."""
    fused = restored.fused
    aligned, text = fused.aligned, StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "left_out"])
    for n, image in enumerate(images):
        if n in aligned.left_out:
            numbers = [""] * (len(COLUMNS) - 2)
        else:
            lines = aligned.displacement[n][:, ::-1]
            moved = [*lines.mean(0), *lines[0], *lines[-1]]
            numbers = [f"{x:.3f}" for x in moved]
            numbers += [f"{aligned.gain[n]:.4f}", f"{fused.weight[n]:.4f}"]
        writer.writerow([n + 1, visible(image.name), *numbers, aligned.left_out.get(n, "")])
    return text.getvalue()


def say_frames(
    model: "Network", frames: "dict[Path, Micrograph]", restored: "RestoredFrames"
) -> None:
    """Name the frames that are left out, and say the drift, the noise before and after, and what is
    unusual.
    """
    from aeanet.data.frames import fuse_aligned
    from aeanet.trust import assess, estimate_noise

    fused, images = restored.fused, list(frames)
    aligned = fused.aligned
    for n, reason in sorted(aligned.left_out.items()):
        warn(f"{images[n]} is left out: {reason}.")
    reference, used = images[aligned.reference], len(aligned.used)
    farthest = float(abs(aligned.displacement[aligned.used]).max())
    before = estimate_noise(frames[reference].pixels).sd / restored.used
    left = fused.noise()[0] / restored.used
    note(
        f"{used} of {len(images)} frames are fused on the field of {reference.name}, from which "
        f"they lie up to {farthest:.1f} px apart. Noise {before:.1%} of the range used in that "
        f"frame, {left:.1%} in the mean."
    )

    # The report knows images on the grid of their detector.
    mean = fused
    if fused.magnification != 1:
        mean = fuse_aligned([frame.pixels for frame in frames.values()], aligned)
    for sentence in assess(model, mean.pixels.clip(0, 1), restored.result).warnings:
        warn(sentence)
