"""`aeanet predict`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from aeanet.cli.shared import (
    Channel,
    Chosen,
    Flips,
    Images,
    KeepBar,
    Overwrite,
    PerPlane,
    Precision,
    ReportPage,
    Run,
    SkipDamaged,
    StackAxes,
    Tile,
    option,
    path,
)
from aeanet.imports import quick_imports

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
    page: ReportPage = False,
    keep_bar: KeepBar = False,
    chosen: Chosen = None,
    axes: StackAxes = None,
    channel: Channel = None,
    per_plane: PerPlane = False,
    skip_damaged: SkipDamaged = False,
    keys: Annotated[
        Literal["plane", "stack"],
        option(
            "What attention is over in a stack, for networks that have it: plane, each of them, or "
            "stack, all of them.",
            "--keys",
        ),
    ] = "plane",
    overwrite: Overwrite = False,
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs that the run was trained on.

    A result keeps the name, bit depth and range of its image, and states the size of its pixels if
    the image does. Colour becomes grey. PNG, BMP and JPEG become PNG, OME-Zarr stays so, everything
    else becomes OME-TIFF. An image that cannot be restored is named with the reason, and the others
    are restored. A result that is already there is kept unless you give --overwrite.

    A volume or a time series is restored plane by plane with one brightness, into the same kind of
    file with the same axes. After a break the same command goes on where it was.

    OME-Zarr and large TIFF images are read and written tile by tile. Their information bar is
    left out where the file states its height, unless you give --keep-bar; any other is restored.

    `torchrun --nproc-per-node 2 -m aeanet predict ...` shares the tiles of each image, or the
    planes of each stack, between two processes or GPUs.
    """
    with quick_imports():
        from aeanet.cli.batch import restore_images
        from aeanet.cli.stacks import StackOptions

    # images are judged where a page shows it
    options: Any = {
        "magnification": magnification,
        "precision": precision,
        "flips": flips,
        "keep_bar": keep_bar,
        "chosen": chosen,
        "page": page,
        "trust": page,
        "stacks": StackOptions(axes, channel, per_plane, skip_damaged, keys),
    }
    restore_images(
        run, images, folder, tile=tile, compiled=compiled, overwrite=overwrite, **options
    )
