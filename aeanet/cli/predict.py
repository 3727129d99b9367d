"""`aeanet predict`."""

from pathlib import Path
from typing import Annotated

import typer

from aeanet.cli.shared import Run, fail, make_folder, one_sentence, progress_bar, say, sentence, show, to_device, warn

EXAMPLE = "aeanet predict runs/first images/*.tif --out restored"


def main(
    run: Run,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="LR micrographs (PNG, BMP, JPEG, TIFF).", show_default=False),
    ],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
) -> None:
    """Restore raw LR micrographs at the magnification of the pairs the run was trained on.

    Results keep name and depth; TIFF stays TIFF, everything else becomes PNG. Images that cannot be read are
    reported and the others go on.
    """
    with one_sentence():
        from aeanet.images import read_image, write_image
        from aeanet.model import load_model
        from aeanet.prediction import super_resolve

        targets = [
            folder / f"{image.stem}{'.tif' if image.suffix.lower() in ('.tif', '.tiff') else '.png'}"
            for image in images
        ]
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            if target in targets[:index]:
                fail(
                    f"{images[targets.index(target)]} and {image} would both be written to {target}: "
                    "restore them into different folders."
                )
            if any(other.exists() and target.exists() and other.samefile(target) for other in images):
                fail(f"the result for {image} would replace an input image: choose another folder with --out.")
        model = to_device(load_model(run))
        make_folder(folder)
        failed = 0
        with progress_bar() as bar:
            for index, (image, target) in enumerate(zip(images, targets, strict=True)):
                show(bar, f"Restoring {image.name}", index / len(images))
                try:
                    source = read_image(image)
                    write_image(target, super_resolve(model, source.pixels), like=source)
                    say(str(target))
                except Exception as error:
                    reason = sentence(error)
                    if reason is None:
                        raise
                    failed += 1
                    warn(reason)
            show(bar, "Restored", 1.0)
        if failed:
            fail(f"{failed} of {len(images)} images could not be restored.")
