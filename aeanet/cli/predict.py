"""`aeanet predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aeanet.cli.shared import KeepBar, Run, argument, fail, make_folder, option, progress_bar, say, show, warn
from aeanet.errors import sentence_or_raise
from aeanet.inference.precision import Precision

EXAMPLE = "aeanet predict runs/first images/*.tif --out restored"


def main(
    run: Run,
    images: Annotated[
        list[Path],
        argument(
            "LR micrographs: PNG, BMP, JPEG, TIFF, dm3 and other formats of microscopes, OME-Zarr.", metavar="IMAGE..."
        ),
    ],
    folder: Annotated[Path, option("Folder for the results.", "--out")],
    tile: Annotated[
        str,
        typer.Option(
            help="Side of the tiles in px of the result; the result does not depend on it. auto: the whole image if it "
            "fits into the memory, else the largest tile that does."
        ),
    ] = "auto",
    magnification: Annotated[float | None, option("Result px per image px (as in the training).")] = None,
    precision: Annotated[Precision, typer.Option(help="bfloat16: half the memory.")] = "float32",
    compiled: Annotated[
        bool, option("Compile the network first: takes a minute, then is faster on a GPU.", "--compile")
    ] = False,
    keep_bar: KeepBar = False,
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs that the run was trained on.

    A result keeps the name, bit depth and range of its image, and states the size of its pixels. PNG, BMP and JPEG
    become PNG, OME-Zarr stays so, everything else becomes OME-TIFF. An image that cannot be read is reported, and the
    others are restored.

    OME-Zarr and large TIFF images are read and written tile by tile. Their information bar is restored too, unless the
    file states the height of the specimen.

    `torchrun --nproc-per-node 2 -m aeanet predict ...` shares the tiles of each image between two processes or GPUs.
    They stop at the first image that cannot be read.
    """
    from aeanet.distributed import TILES_PATIENCE, all_processes, rank
    from aeanet.inference.files import restore_file
    from aeanet.inference.prediction import compile_parts, known_magnification
    from aeanet.inference.tiling import check_side, reach_of
    from aeanet.networks.registry import load_model, to_device

    if tile != "auto" and not tile.isdecimal():
        fail(f"--tile is {tile!r}, wanted a number of pixels, or auto.")
    side = None if tile == "auto" else int(tile)
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
        options: Any = {"precision": precision, "keep_bar": keep_bar, "group": group}
        with progress_bar(disable=rank() > 0) as bar:
            for index, (image, target) in enumerate(zip(images, targets, strict=True)):

                def on_tile(done: int, total: int, name: str = image.name, index: int = index) -> None:
                    share = (index + done / total) / len(images)
                    show(bar, f"Restoring {name}, tile {done} of {total}", share)

                try:
                    restore_file(
                        model, image, target, tile=side, magnification=magnification, progress=on_tile, **options
                    )
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


def _targets(images: list[Path], folder: Path) -> list[Path]:
    """Where each result goes: never over an input, never two to one place."""
    from aeanet.io.images import result_name

    targets = [folder / result_name(image) for image in images]
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        if target in targets[:index]:
            fail(
                f"{images[targets.index(target)]} and {image} would both be written to {target}: "
                "restore them into different folders."
            )
        if any(other.exists() and target.exists() and other.samefile(target) for other in images):
            fail(f"the result for {image} would replace an input image: choose another folder with --out.")
    return targets
