"""`aeanet predict`."""

from pathlib import Path
from typing import Annotated, Any

from aeanet.cli.shared import (
    Chosen,
    Flips,
    Images,
    KeepBar,
    Overwrite,
    Precision,
    Run,
    Tile,
    option,
    path,
)

EXAMPLE = "aeanet predict runs/first images/*.tif --out restored"


def main(
    run: Run,
    images: Images,
    folder: Annotated[Path, option("Folder for the results.", "--out", parser=path)],
    tile: Tile = "auto",
    magnification: Annotated[
        float | None, option("Result px per image px, 0.9 to 16 (as in the training).")
    ] = None,
    precision: Precision = "auto",
    flips: Flips = None,
    compiled: Annotated[
        bool,
        option("Compile the network first: takes a minute, then is faster on a GPU.", "--compile"),
    ] = False,
    keep_bar: KeepBar = False,
    chosen: Chosen = None,
    overwrite: Overwrite = False,
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs that the run was trained on.

    A result keeps the name, bit depth and range of its image, and states the size of its pixels if
    the image does. Colour becomes grey. PNG, BMP and JPEG become PNG, OME-Zarr stays so, everything
    else becomes OME-TIFF. An image that cannot be restored is named with the reason, and the others
    are restored. A result that is already there is kept unless you give --overwrite.

    OME-Zarr and large TIFF images are read and written tile by tile. Their information bar is
    restored too, unless the file states the height of the specimen.

    `torchrun --nproc-per-node 2 -m aeanet predict ...` shares the tiles of each image between two
    processes or GPUs.
    """
    from aeanet.cli.batch import restore_images

    options: Any = {
        "magnification": magnification,
        "precision": precision,
        "flips": flips,
        "keep_bar": keep_bar,
        "chosen": chosen,
    }
    restore_images(
        run, images, folder, tile=tile, compiled=compiled, overwrite=overwrite, **options
    )
