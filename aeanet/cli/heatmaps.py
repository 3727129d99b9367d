"""`aeanet heatmaps`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeanet.cli.places import check_place
from aeanet.cli.shared import (
    Chosen,
    KeepBar,
    Overwrite,
    argument,
    fail,
    option,
    path,
    progress_bar,
    say,
    show,
)
from aeanet.io.atomic import make_folder, write_atomically
from aeanet.io.text import visible

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLE = "aeanet heatmaps runs/first images/*.tif --out relevance"


def main(
    run: Annotated[
        Path,
        argument(
            "Run folder of a model with references, as `aeanet train` writes without --from; sem "
            "has none.",
            metavar="RUN",
            parser=path,
        ),
    ],
    images: Annotated[
        list[Path], argument("Micrographs, as for `aeanet predict`.", metavar="IMAGE", parser=path)
    ],
    folder: Annotated[Path, option("Folder for the results.", "--out", parser=path)],
    keep_bar: KeepBar = False,
    which: Chosen = None,
    number: Annotated[
        int, typer.Option("--references", min=1, help="How many references the figure shows.")
    ] = 4,
    overwrite: Overwrite = False,
) -> None:
    """Show where in images each reference is relevant: the vectors learned in training that all
    images attend to.

    heatmaps.png shows the references that differ most. The first has the largest variance over the
    images, each further one the largest share of its variance that those before it do not explain
    linearly. NAME.npz holds all references: `relevance` (references, rows, columns), with a
    position for each 4 x 4 px of the restored image, and `shown`, the references in the figure, in
    its order. Results that are already there are kept unless you give --overwrite.
    """
    from io import BytesIO

    import numpy as np

    from aeanet.cli.outcome import Outcome
    from aeanet.figures import draw_heatmaps, render
    from aeanet.imaging.upsampling import upsample
    from aeanet.inference.prediction import known_magnification
    from aeanet.inference.relevance import check_references, most_varied, relevance_maps
    from aeanet.io.images import read_image
    from aeanet.networks.registry import load_model, to_device

    model = to_device(load_model(run))
    magnification = known_magnification(model, None)

    # An image that is given twice is shown once. Results are named after the images, so two others
    # of one name would replace each other.
    images = list(dict.fromkeys(images))
    names = [visible(image.stem) for image in images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        fail(f"two images are named {twice}: show them in different folders.")

    # what would fail for every image ends the command before the first of them
    check_references(model)
    figure = folder / "heatmaps.png"
    for file in (figure, *(folder / f"{name}.npz" for name in names)):
        check_place(file, overwrite=overwrite, inputs=images)
    make_folder(folder)

    # an image that fails is named, and the others are shown
    outcome = Outcome()
    shown: dict[str, NDArray] = {}
    maps: list[NDArray] = []
    with progress_bar() as bar:
        for done, image in enumerate(images):
            show(bar, f"Looking at {image.name}", done / len(images))
            with outcome.of(image):
                pixels = read_image(image, keep_bar=keep_bar, image=which).pixels
                enlarged = upsample(pixels, magnification)
                maps.append(relevance_maps(model, enlarged))
                shown[visible(image.stem)] = enlarged

        # which references differ most is known only when all images are
        show(bar, "Drawing", 1.0)
        chosen = most_varied(maps, number) if maps else []
        for name, relevance in zip(shown, maps, strict=True):
            buffer = BytesIO()
            np.savez_compressed(buffer, relevance=relevance, shown=chosen)
            write_atomically(folder / f"{name}.npz", buffer.getvalue())
            say(str(folder / f"{name}.npz"))
        if shown:
            images_shown = list(shown.values())
            content = render(lambda: draw_heatmaps(list(shown), images_shown, maps, chosen))
            write_atomically(figure, content)
            say(str(figure))
    outcome.end(len(images), "shown")
