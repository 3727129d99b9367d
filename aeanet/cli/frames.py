"""`aeanet frames`."""

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aeanet.cli.places import check_place
from aeanet.cli.restore import check_magnification
from aeanet.cli.shared import (
    Chosen,
    Flips,
    KeepBar,
    Overwrite,
    Precision,
    ReportPage,
    argument,
    fail,
    note,
    option,
    path,
    progress_bar,
    say,
    show,
    warn,
)
from aeanet.io.atomic import make_folder, write_atomically
from aeanet.io.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

    from aeanet.cli.report import Judged, Report
    from aeanet.inference.frames import RestoredFrames
    from aeanet.io.images import Micrograph
    from aeanet.networks.base import Network

EXAMPLE = "aeanet frames scans/*.tif --out result.tif"
COLUMNS = ("frame", "file", "x", "y", "x_first", "y_first", "x_last", "y_last", "gain", "weight")
"""Of the drift table, before the reason for which a frame is left out."""


def main(
    images: Annotated[
        list[Path],
        argument(
            "Frames in the order of their recording: an image file each, or one stack or folder "
            "of numbered slices.",
            metavar="IMAGE",
            parser=path,
        ),
    ],
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
    page: ReportPage = False,
    precision: Precision = "auto",
    flips: Flips = None,
    keep_bar: KeepBar = False,
    chosen: Chosen = None,
    overwrite: Overwrite = False,
) -> None:
    """Make one image of repeated scans of one field.

    The drift from frame to frame, and the slow drift within each of them, is found and undone. Bad
    frames, such as blurred ones or those of another field, are left out and named with the reason.
    The mean of the others, in which frames with less noise have more weight, is restored by the
    model that comes with aeanet.

    The result has the field, type, range and pixel size of the frame in the middle of the others.
    NAME-drift.csv and NAME-drift.png beside it say how far the specimen lies from its place in that
    frame, in px: as the mean over the lines, and in the first and the last of them. Results that
    are already there are kept unless you give --overwrite.
    """
    # what is wrong with the call is said before PyTorch is imported, which takes seconds
    check_magnification(magnification)
    if target.is_dir():
        fail(f"{target} is a folder; --out names the file of the result, .tif or .png.")
    if target.suffix.lower() in (".jpg", ".jpeg"):
        fail(f"{target} would lose what JPEG leaves out; name the result .tif or .png.")

    # all names follow from that of the result, so each place is looked at beforehand
    images = list(dict.fromkeys(images))
    table, plot, mean, shown = (
        target.with_name(f"{target.stem}-{what}")
        for what in ("drift.csv", "drift.png", f"fused{target.suffix}", "report.html")
    )
    written = [target, table, plot, *([mean] if fused else [])]
    make_folder(target.parent)
    for file in [*written, *([shown] if page else [])]:
        check_place(file, overwrite=overwrite, inputs=images)

    from aeanet.cli.batch import known_flips
    from aeanet.cli.report import Report
    from aeanet.inference.frame_files import read_frames
    from aeanet.inference.prediction import chosen_precision
    from aeanet.io.images import check_format
    from aeanet.networks.registry import load_model, to_device

    asked = known_flips(flips)
    with progress_bar() as bar:

        def on_frame(name: str, share: float) -> None:
            show(bar, f"Reading {name}", share)

        # frames that cannot be read are named now, and again in the last sentence
        found = read_frames(images, keep_bar=keep_bar, chosen=chosen, on_frame=on_frame)
        for sentence in found.unread.values():
            warn(sentence)
        if found.doubt:
            warn(found.doubt)

        # a format that cannot hold the type of the frames is refused before the network works
        frames = found.images
        check_format(target, next(iter(frames.values())).dtype)
        model = to_device(load_model("sem"))
        known = chosen_precision(model, precision)
        restored = restore(model, frames, bar, magnification, precision=known, flips=asked)
        show(bar, "Writing", 0.0)
        write(written, frames, restored, f"computed in {known}")
        show(bar, "Written", 1.0)

    # the results are written by now, so what fails from here on loses none of them
    note(f"The network computes in {known}.")
    report = Report(target.name, target)
    judged = note_frames(report, model, frames, restored)
    for print_it, sentence in report.sentences:
        print_it(sentence)
    say("\n".join(map(str, written)))
    shows = True
    if page:
        from aeanet.cli.pages.frames import frames_page
        from aeanet.cli.pages.shared import save_page

        shows = save_page(shown, frames_page(report, frames, restored, judged, known))

    # also with a result, a frame that is missing makes the exit code 1
    if found.unread:
        number, unread = len(frames) + len(found.unread), ", ".join(found.unread)
        fail(f"{len(found.unread)} of {number} frames could not be read: {unread}.")
    if not shows:
        raise typer.Exit(1)


def restore(
    model: "Network",
    frames: "dict[str, Micrograph]",
    bar: "Progress",
    magnification: float,
    **options: Any,
) -> "RestoredFrames":
    """The frames fused and restored, in tiles if the memory asks for it."""
    from aeanet.imaging.upsampling import upsampled_shape
    from aeanet.inference.frames import restore_frames
    from aeanet.inference.memory import largest_tile

    # all frames have one size, so the first tells that of the result
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


def write(
    files: list[Path], frames: "dict[str, Micrograph]", restored: "RestoredFrames", how: str
) -> None:
    """Write the result, the table, the plot and, if it is asked for, the mean."""
    from aeanet.figures.drift import draw_drift
    from aeanet.figures.style import render
    from aeanet.io.images import write_image

    # the frame whose grid the result has also gives its type, range and pixel size
    target, table, plot, *mean = files
    fused = restored.fused
    like = list(frames.values())[fused.aligned.reference]
    settings: Any = {"like": like, "magnification": fused.magnification}
    about = f"{len(fused.aligned.used)} frames fused and restored by aeanet, {how}."
    write_image(target, restored.result, **settings, description=about)
    write_atomically(table, drift_table(list(frames), restored).encode())
    write_atomically(plot, render(lambda: draw_drift(fused.aligned)))
    for file in mean:
        write_image(file, fused.pixels, **settings)


def drift_table(names: list[str], restored: "RestoredFrames") -> str:
    """The drift of each frame as CSV (`COLUMNS`), in px."""
    fused = restored.fused
    aligned, text = fused.aligned, StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "left_out"])

    # a line for each frame, numbered from 1; one that is left out has a reason and no numbers
    for n, name in enumerate(names):
        if n in aligned.left_out:
            numbers = [""] * (len(COLUMNS) - 2)
        else:
            # (x, y), as the columns are named; displacements are (y, x)
            lines = aligned.displacement[n][:, ::-1]
            moved = [*lines.mean(0), *lines[0], *lines[-1]]
            numbers = [f"{x:.3f}" for x in moved]
            numbers += [f"{aligned.gain[n]:.4f}", f"{fused.weight[n]:.4f}"]
        writer.writerow([n + 1, visible(Path(name).name), *numbers, aligned.left_out.get(n, "")])
    return text.getvalue()


def note_frames(
    report: "Report",
    model: "Network",
    frames: "dict[str, Micrograph]",
    restored: "RestoredFrames",
) -> "Judged":
    """Name the frames that are left out, and say the drift, the noise before and after, and what is
    unusual.
    """
    from aeanet.cli.report import Judged
    from aeanet.data.frames import fuse_aligned
    from aeanet.inference.restored import Restored
    from aeanet.trust import assess, estimate_noise

    fused, names = restored.fused, list(frames)
    aligned = fused.aligned
    for n, reason in sorted(aligned.left_out.items()):
        report.warn(f"{names[n]} is left out: {reason}.")

    # both noises are shares of one range, so that they can be compared
    reference, used = names[aligned.reference], len(aligned.used)
    farthest = float((aligned.displacement[aligned.used] ** 2).sum(-1).max() ** 0.5)
    before = estimate_noise(frames[reference].pixels).sd / restored.exposure.used
    left = fused.noise()[0] / restored.exposure.used
    if any(frame.colour for frame in frames.values()):
        report.note("The colours of the frames become grey.")
    report.note(
        f"{used} of {len(names)} frames are fused on the field of {reference}, from which "
        f"they lie up to {farthest:.1f} px apart. Of the range used in the mean the noise is "
        f"{before:.1%} in that frame, and {left:.1%} in the mean."
    )

    # The report knows images on the grid of their detector.
    mean = fused
    if fused.magnification != 1:
        mean = fuse_aligned([frame.pixels for frame in frames.values()], aligned)
    source = replace(frames[reference], pixels=mean.pixels.clip(0, 1))
    image, result, width = Restored(
        Path(reference), Path(), source, restored.result, exposure=restored.exposure
    ).judged()
    found = assess(model, image, result)
    for sentence in found.warnings:
        report.warn(sentence)
    return Judged(image, result, found, restored.exposure.used / width)
