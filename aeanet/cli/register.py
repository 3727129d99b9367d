"""`aeanet register`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aeanet.cli.places import check_place
from aeanet.cli.shared import (
    REGISTRATION,
    Overwrite,
    Pairs,
    fail,
    keep_apart,
    option,
    out,
    path,
    progress_bar,
    recorded_pairs,
    register_pairs,
    say,
    show,
    warn,
)
from aeanet.errors import sentence_or_raise
from aeanet.io.atomic import make_folder
from aeanet.io.text import json_text, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from aeanet.data.pairs import PairFiles, PairSet
    from aeanet.data.registration import RegisteredPair

EXAMPLE = "aeanet register pairs/ --out aligned"


def main(
    folder: Pairs,
    results: Annotated[
        Path, option("Folder for lr/, hr/, mask/ and registration.json.", "--out", parser=path)
    ],
    as_json: Annotated[
        bool, option("Print registration.json instead of a table.", "--json")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Register LR onto the grid of HR, pair by pair, and write both for use in other programs.

    They are TIFF files of the bit depth of the originals: `lr/NAME.tif` is interpolated
    bicubically, `hr/NAME.tif` is unchanged, `mask/NAME.tif` is white where there is LR data. The
    other commands of aeanet register by themselves and take the original pairs. Pairs that cannot
    be used are named with the reason, and the others are written. Results that are already there
    are kept unless you give --overwrite, which also removes those of pairs that are gone.
    """
    from aeanet.data.pairs import find_pairs

    # all files are known by name, so none of their places is found taken during the work
    parts = {part: results / part for part in ("lr", "hr", "mask")}
    for place in (results, *parts.values()):
        keep_apart(place, folder)
    originals = {files.name: files for files in find_pairs(folder)}
    check_place(results / REGISTRATION, overwrite=overwrite)
    for part in parts.values():
        for name in originals:
            check_place(part / f"{name}.tif", overwrite=overwrite)
        make_folder(part)

    # a pair that cannot be written counts as one that cannot be registered
    data = register_pairs(folder)
    written: dict[str, RegisteredPair] = {}
    with progress_bar() as bar:
        for done, pair in enumerate(data.pairs):
            show(bar, f"Writing {pair.name}", done / len(data.pairs))
            try:
                write_pair(pair, originals[pair.name], parts)
                written[pair.name] = pair
            except Exception as error:
                data.refused[pair.name] = reason = sentence_or_raise(error)
                warn(f"Pair {pair.name} is not written: {reason}")
        show(bar, "Written", 1.0)

    # files of an earlier call would look like results of this one
    for name in recorded_pairs(results / REGISTRATION) - written.keys():
        for part in parts.values():
            (part / f"{name}.tif").unlink(missing_ok=True)

    # the record has the reasons, so it is written even if no pair is
    record = {
        "pairs": {name: asdict(pair.report) for name, pair in written.items()},
        "refused": data.refused,
    }
    write_json(results / REGISTRATION, record)
    if as_json:
        say(json_text(record, indent=2))
    else:
        out.print(report(written, data))
        say(f"{len(written)} aligned pairs are in {results}.")
    if not written:
        fail("No pair could be written.")


def write_pair(pair: "RegisteredPair", originals: "PairFiles", folders: dict[str, Path]) -> None:
    """Write both images in the type and range of their originals, with the pixel size of HR, and
    the mask in 8 bits.

    Raises:
        ImageError: if a file cannot be read or written.
    """
    from aeanet.data.pairs import read_pair
    from aeanet.io.images import write_image

    lr, hr = read_pair(originals)
    size = hr.pixel_size
    if size is None and lr.pixel_size:
        size = lr.pixel_size.magnified(pair.report.magnification)
    write_image(folders["lr"] / f"{pair.name}.tif", pair.lr, like=replace(lr, pixel_size=size))
    write_image(folders["hr"] / f"{pair.name}.tif", pair.hr, like=replace(hr, pixel_size=size))
    write_image(folders["mask"] / f"{pair.name}.tif", pair.mask.astype(float))


def report(pairs: dict[str, "RegisteredPair"], data: "PairSet") -> "Table":
    """A line for each pair, for a terminal."""
    from rich import box
    from rich.table import Table

    # titles of two lines, so that the table is narrow enough for a terminal
    table = Table("pair", title="Registration of LR onto HR", box=box.SIMPLE, padding=(0, 0, 0, 1))
    titles = (
        "magnifi-\ncation",
        "residual\n(HR px)",
        "inliers",
        "valid\narea",
        "PSNR before\n(dB)",
        "PSNR after\n(dB)",
    )
    for title in titles:
        table.add_column(title, justify="right")

    # a pair that is left out says so in place of its numbers
    for name, pair in pairs.items():
        found = pair.report
        table.add_row(
            name,
            f"{found.magnification:.3f}",
            f"{found.residual:.2f}",
            f"{found.inliers} of {found.matches}",
            f"{found.valid_fraction:.0%}",
            f"{found.psnr_before:.2f}",
            f"{found.psnr_after:.2f}",
        )
    for name in data.refused:
        table.add_row(name, "left out", *[""] * 5, style="yellow")
    return table
