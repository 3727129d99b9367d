"""`aeanet restore`."""

from pathlib import Path
from typing import Annotated

import typer

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
    SkipDamaged,
    StackAxes,
    Tile,
    fail,
    path,
)
from aeanet.imaging.exposure import Outliers
from aeanet.imports import quick_imports

EXAMPLE = "aeanet restore image.tif"
MAGNIFICATIONS = (1.0, 4.0)  # that the shipped model was trained for


def main(
    images: Images,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the results.", parser=path)
    ] = Path("restored"),
    magnification: Annotated[
        float,
        typer.Option(
            help="Result px per image px, 1 to 4; 1 takes the noise away and keeps the size."
        ),
    ] = 2.0,
    tile: Tile = "auto",
    precision: Precision = "auto",
    flips: Flips = None,
    residual: Annotated[
        bool,
        typer.Option(
            "--residual",
            help="Also write what was taken away, as NAME-residual (single images); mid-grey is 0.",
        ),
    ] = False,
    error: Annotated[
        bool,
        typer.Option(
            "--error",
            help="Also write the standard error of each pixel, as NAME-error, in the values of the "
            "image: within it lie 68 % of the true values.",
        ),
    ] = False,
    page: ReportPage = False,
    keep_bar: KeepBar = False,
    chosen: Chosen = None,
    outliers: Annotated[
        Outliers,
        typer.Option(help="Hot, dead and burnt-in pixels: keep them as they are, or replace them."),
    ] = "keep",
    axes: StackAxes = None,
    channel: Channel = None,
    per_plane: PerPlane = False,
    skip_damaged: SkipDamaged = False,
    overwrite: Overwrite = False,
) -> None:
    """Restore micrographs at once, by the model that comes with aeanet: no pairs, no training.

    It was trained on simulated micrographs of many specimens and instruments (aeanet/models/sem.md
    says how well it does). A model trained on your own pairs does better:
    `aeanet train PAIRS --from sem`, then `aeanet predict`.

    The model is shown the range that an image uses, without hot and dead pixels and other outliers.
    The result has the range of the file again, and the outliers unless you give --outliers replace.

    It says how noisy each image is, and warns where the image is unlike those that the model was
    trained on, or where what was taken away does not look like noise.

    A result keeps the name, bit depth and range of its image, and states the size of its pixels if
    the image does. Colour becomes grey. PNG, BMP and JPEG become PNG, OME-Zarr stays so, everything
    else becomes OME-TIFF. An image that cannot be restored is named with the reason, and the others
    are restored. A result that is already there is kept unless you give --overwrite.

    A volume or a time series is restored plane by plane with one brightness, into the same kind of
    file with the same axes. After a break the same command goes on where it was. NAME-planes.csv
    and NAME-planes.png have the noise and the warnings of each plane.
    """
    with quick_imports():
        from aeanet.cli.batch import restore_images
        from aeanet.cli.stacks import StackOptions

    # the limits are those of the shipped model; its training also tells what is unusual
    check_magnification(magnification)
    restore_images(
        "sem",
        images,
        folder,
        tile=tile,
        magnification=magnification,
        precision=precision,
        flips=flips,
        keep_bar=keep_bar,
        chosen=chosen,
        outliers=outliers,
        overwrite=overwrite,
        page=page,
        error=error,
        trust=True,
        residual=residual,
        stacks=StackOptions(axes, channel, per_plane, skip_damaged),
    )


def check_magnification(magnification: float) -> None:
    """End the command for a magnification for which the shipped model was not trained."""
    low, high = MAGNIFICATIONS
    if not low <= magnification <= high:
        fail(
            f"--magnification is {magnification:g}, wanted {low:g} to {high:g}, for which the "
            "model was trained."
        )
