"""`aeanet export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aeanet.cli.places import check_place
from aeanet.cli.shared import Flips, Overwrite, Run, fail, option, path, say

if TYPE_CHECKING:
    from aeanet.imaging.flips import Flips as Number
    from aeanet.inference.bioimageio import About
    from aeanet.networks.base import Network

EXAMPLE = "aeanet export sem --bioimageio sem.zip --magnification 2"


def main(
    run: Run,
    onnx: Annotated[
        Path | None,
        option("ONNX file to write: the network alone.", "--onnx", metavar="FILE", parser=path),
    ] = None,
    bioimageio: Annotated[
        Path | None,
        option(
            "BioImage.IO file (zip) to write: all that Fiji and other programs need.",
            "--bioimageio",
            metavar="FILE",
            parser=path,
        ),
    ] = None,
    magnification: Annotated[
        float | None,
        option(
            "With --bioimageio: result pixels per pixel of the image, such as 1, 2 or 2.5 (the "
            "simplest fraction near that of the pairs the model was trained on)."
        ),
    ] = None,
    flips: Flips = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model for other programs: Fiji, napari, C++, web browsers.

    --bioimageio writes a zip that takes LR images as they are in their files and gives what
    `aeanet predict` does, except that hot pixels are restored like others. It has weights for ONNX
    and TorchScript, an example and a card. Its magnification is fixed.

    --onnx writes the network alone. Its input is an LR image in 0 to 1, already enlarged to the
    size of the result; what else must be known of it is in the file's metadata under `aeanet`. It
    gives what --flips 1 does.

    Images may have any size. A file is written if it and PyTorch agree on images of three sizes.
    One that is already there is kept unless you give --overwrite.
    """
    from aeanet.cli.batch import known_flips
    from aeanet.inference.bioimageio import simple_magnification
    from aeanet.io.atomic import make_folder
    from aeanet.networks.error import load_restoring
    from aeanet.training.about import about_model

    # what cannot be written is refused before the model is loaded
    files = [file for file in (onnx, bioimageio) if file is not None]
    if not files:
        fail("Nothing to write: give --onnx FILE or --bioimageio FILE.")
    if bioimageio is None and (magnification, flips) != (None, None):
        fail("--magnification and --flips belong to --bioimageio: an ONNX file has neither.")
    if len({file.resolve() for file in files}) < len(files):
        fail(f"--onnx and --bioimageio both name {onnx}: give each a file of its own.")
    number = known_flips(flips)
    for file in files:
        check_place(file, overwrite=overwrite)

    # what the model or its record cannot give is refused before the first of two files is written
    model = load_restoring(run)
    if bioimageio is not None:
        factor = float(simple_magnification(model, magnification))
        about = about_model(run)
    for file in files:
        make_folder(file.parent)
    if onnx is not None:
        _write_onnx(model, onnx)
    if bioimageio is not None:
        _write_bioimageio(model, bioimageio, about, factor, number)


def _write_onnx(model: "Network", file: Path) -> None:
    from aeanet.inference.exporting import OPSET, export_onnx

    differences = export_onnx(model, file)
    say(f"{file} is written: {file.stat().st_size / 1e6:.1f} MB, ONNX opset {OPSET}.")
    for (batch, height, width), difference in differences.items():
        say(
            f"  {batch} x {height} x {width} px: differs from PyTorch by {difference:.1g} of the "
            "largest number"
        )


def _write_bioimageio(
    model: "Network", file: Path, about: "About", factor: float, flips: "Number | None"
) -> None:
    from aeanet.inference.bioimageio import export_bioimageio

    differences = export_bioimageio(model, file, about, magnification=factor, flips=flips)
    size = file.stat().st_size / 1e6
    say(f"{file} is written: {size:.1f} MB, for results of {factor:g} times the resolution.")
    for name, difference in differences.items():
        say(f"  {name} differs from PyTorch by at most {difference:.1g} of the largest number")
