"""`aeanet predict`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aeanet.cli.shared import KeepBar, Run, fail, make_folder, one_sentence, progress_bar, say, show, warn
from aeanet.errors import sentence_or_raise

if TYPE_CHECKING:
    from aeanet.networks.base import Network

EXAMPLE = "aeanet predict runs/first images/*.tif --out restored"


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


def main(
    run: Run,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="LR micrographs: PNG, BMP, JPEG, TIFF, dm3 and other microscopes' formats, OME-Zarr.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
    tile: Annotated[
        str,
        typer.Option(
            help="Side of the tiles in px of the result; the result does not depend on it. auto: the whole image if it "
            "fits into the memory, else the largest tile that does."
        ),
    ] = "auto",
    magnification: Annotated[
        float | None, typer.Option(help="Result px per image px (as in the training).", show_default=False)
    ] = None,
    precision: Annotated[Precision, typer.Option(help="bfloat16: half the memory.")] = Precision.float32,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: a minute, then faster on a GPU.")
    ] = False,
    keep_bar: KeepBar = False,
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs the run was trained on.

    Results keep name, depth and range, and state the size of the new pixels: PNG, BMP and JPEG become PNG, OME-Zarr
    stays so, everything else becomes OME-TIFF. Images that cannot be read are reported and the others go on. OME-Zarr
    and large TIFF images are read and written tile by tile, an information bar included unless the file tells its
    height. `torchrun --nproc-per-node 2 -m aeanet predict ...` shares the tiles of each image out to two processes or
    GPUs, which end with the first image that cannot be read.
    """
    with one_sentence():
        from aeanet.distributed import TILES_PATIENCE, all_processes, rank
        from aeanet.inference.prediction import compile_parts, known_magnification
        from aeanet.inference.tiling import check_side, reach_of
        from aeanet.networks.registry import load_model, to_device

        side = None if tile == "auto" else _side(tile)
        targets = _targets(images, folder)
        failed = 0
        with all_processes(TILES_PATIENCE) as group:
            model = to_device(load_model(run))
            magnification = known_magnification(model, magnification)
            if side is not None:
                check_side(side, reach_of(model))
            if compiled:
                compile_parts(model)
            make_folder(folder)
            with progress_bar(disable=rank() > 0) as bar:
                for index, (image, target) in enumerate(zip(images, targets, strict=True)):

                    def on_tile(done: int, total: int, name: str = image.name, index: int = index) -> None:
                        share = (index + done / total) / len(images)
                        show(bar, f"Restoring {name}, tile {done} of {total}", share)

                    options: Any = {"precision": precision.value, "group": group, "progress": on_tile}
                    try:
                        _restore(model, image, target, side, magnification, keep_bar, options)
                        if not rank():
                            say(str(target))
                    except Exception as error:
                        if group is not None:  # one process cannot go on to the next image without the others
                            raise
                        warn(sentence_or_raise(error))
                        failed += 1
                show(bar, "Restored", 1.0)
        if failed:
            fail(f"{failed} of {len(images)} images could not be restored.")


def _side(tile: str) -> int:
    if not tile.isdecimal():
        fail(f"--tile is {tile!r}, wanted a number of pixels, or auto.")
    return int(tile)


def _targets(images: list[Path], folder: Path) -> list[Path]:
    """Where each result goes: never over an input, never two to one place."""
    from aeanet.io.images import result_name
    from aeanet.io.mosaics import ZARR_SUFFIX

    targets = [folder / (f.name if f.suffix.lower() == ZARR_SUFFIX else result_name(f)) for f in images]
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        if target in targets[:index]:
            fail(
                f"{images[targets.index(target)]} and {image} would both be written to {target}: "
                "restore them into different folders."
            )
        if any(other.exists() and target.exists() and other.samefile(target) for other in images):
            fail(f"the result for {image} would replace an input image: choose another folder with --out.")
    return targets


def _restore(
    model: "Network",
    image: Path,
    target: Path,
    side: int | None,
    magnification: float,
    keep_bar: bool,
    options: dict[str, Any],
) -> None:
    """One image, in memory where it is not too large for that; `side` None chooses the tile by the free memory."""
    from aeanet.distributed import rank
    from aeanet.inference.memory import largest_tile
    from aeanet.inference.prediction import super_resolve, super_resolve_mosaic
    from aeanet.inference.upsampling import upsampled_shape
    from aeanet.io.images import read_image, write_image
    from aeanet.io.mosaics import shape_by_regions

    precision, group = options["precision"], options["group"]
    if (shape := shape_by_regions(image)) is not None:
        if side is None:
            side = largest_tile(model, upsampled_shape(shape, magnification), precision, group)
        super_resolve_mosaic(model, image, target, tile=side, magnification=magnification, **options)
        return
    source = read_image(image, keep_bar=keep_bar)
    if side is None:
        side = largest_tile(model, upsampled_shape(source.pixels.shape, magnification), precision, group)
    pixels = super_resolve(model, source.pixels, tile=side, magnification=magnification, **options)
    if not rank():
        write_image(target, pixels, like=source, magnification=magnification)
