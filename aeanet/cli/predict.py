"""`aeanet predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aeanet.cli.shared import KeepBar, Run, argument, fail, option, path
from aeanet.inference.precision import Precision

EXAMPLE = "aeanet predict runs/first images/*.tif --out restored"


def main(
    run: Run,
    images: Annotated[
        list[Path],
        argument(
            "LR micrographs: PNG, BMP, JPEG, TIFF, dm3 and other formats of microscopes, OME-Zarr.",
            metavar="IMAGE...",
            parser=path,
        ),
    ],
    folder: Annotated[Path, option("Folder for the results.", "--out", parser=path)],
    tile: Annotated[
        str,
        typer.Option(
            help="Side of the tiles in px of the result; the result does not depend on it. auto: the whole image if it "
            "fits into the memory, else the largest tile that does."
        ),
    ] = "auto",
    magnification: Annotated[float | None, option("Result px per image px, 0.9 to 16 (as in the training).")] = None,
    precision: Annotated[Precision, typer.Option(help="bfloat16: half the memory.")] = "float32",
    compiled: Annotated[
        bool, option("Compile the network first: takes a minute, then is faster on a GPU.", "--compile")
    ] = False,
    keep_bar: KeepBar = False,
    overwrite: Annotated[bool, option("Replace results that are already in the folder.", "--overwrite")] = False,
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs that the run was trained on.

    A result keeps the name, bit depth and range of its image, and states the size of its pixels. PNG, BMP and JPEG
    become PNG, OME-Zarr stays so, everything else becomes OME-TIFF. An image that cannot be restored is named with the
    reason, and the others are restored. A result that is already there is kept unless you give --overwrite.

    OME-Zarr and large TIFF images are read and written tile by tile. Their information bar is restored too, unless the
    file states the height of the specimen.

    `torchrun --nproc-per-node 2 -m aeanet predict ...` shares the tiles of each image between two processes or GPUs.
    They stop at the first image that cannot be read.
    """
    from aeanet.cli.batch import restore_all
    from aeanet.distributed import TILES_PATIENCE, all_processes
    from aeanet.inference.prediction import compile_parts, known_magnification
    from aeanet.inference.tiling import check_side, reach_of
    from aeanet.networks.registry import load_model, to_device

    if tile != "auto" and not (tile.isdecimal() and len(tile) < 10):
        fail(f"--tile is {tile!r}, wanted a number of pixels, or auto.")
    side = None if tile == "auto" else int(tile)
    with all_processes(TILES_PATIENCE) as group:
        model = to_device(load_model(run))
        magnification = known_magnification(model, magnification)
        if side is not None:
            check_side(side, reach_of(model))
        if compiled:
            compile_parts(model)
        options: Any = {"tile": side, "magnification": magnification, "precision": precision, "keep_bar": keep_bar}
        restore_all(model, images, folder, overwrite=overwrite, group=group, **options)
