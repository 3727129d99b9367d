"""`aeanet export`."""

from pathlib import Path
from typing import Annotated

from aeanet.cli.places import check_place
from aeanet.cli.shared import Overwrite, Run, option, path, say

EXAMPLE = "aeanet export runs/first --onnx first.onnx"


def main(
    run: Run,
    file: Annotated[Path, option("ONNX file to write.", "--onnx", metavar="FILE", parser=path)],
    overwrite: Overwrite = False,
) -> None:
    """Write a model for other programs, as an ONNX model that takes images of every size.

    Fiji, napari, C++ and web browsers can run it. Its input is an LR image in 0 to 1, already
    enlarged to the size of the result; what else must be known of it is in the file's metadata
    under `aeanet`. It gives what --flips 1 does.

    The file is written if ONNX Runtime and PyTorch agree on images of three sizes. One that is
    already there is kept unless you give --overwrite.
    """
    from aeanet.inference.exporting import OPSET, export_onnx
    from aeanet.networks.registry import load_model

    check_place(file, overwrite=overwrite)
    differences = export_onnx(load_model(run), file)
    say(f"{file} is written: {file.stat().st_size / 1e6:.1f} MB, ONNX opset {OPSET}.")
    for (batch, height, width), difference in differences.items():
        say(
            f"  {batch} x {height} x {width} px: differs from PyTorch by {difference:.1g} of the "
            "largest number"
        )
