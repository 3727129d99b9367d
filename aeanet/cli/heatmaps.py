"""`aeanet heatmaps`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aeanet.cli.shared import KeepBar, Run, argument, fail, option, progress_bar, say, show, warn
from aeanet.errors import sentence_or_raise
from aeanet.io.atomic import make_folder, write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLE = "aeanet heatmaps runs/first images/*.tif --out relevance"


def main(
    run: Run,
    images: Annotated[list[Path], argument("LR micrographs, as for `aeanet predict`.", metavar="IMAGE...")],
    folder: Annotated[Path, option("Folder for the results.", "--out")],
    keep_bar: KeepBar = False,
    number: Annotated[int, typer.Option("--references", min=1, help="How many references the figure shows.")] = 4,
) -> None:
    """Show where in images the learned shared references are relevant.

    heatmaps.png shows the references that differ most. The first has the largest variance over the images, each further
    one the largest share of its variance that those before it do not explain linearly. NAME.npz holds all references:
    `relevance` (references, rows, columns), with a position for each 4 x 4 px of the restored image, and `shown`, the
    references in the figure, in its order.
    """
    from io import BytesIO

    import numpy as np

    from aeanet.figures import draw_heatmaps, render
    from aeanet.inference.prediction import known_magnification
    from aeanet.inference.relevance import most_varied, relevance_maps
    from aeanet.inference.upsampling import upsample
    from aeanet.io.images import read_image
    from aeanet.networks.registry import load_model, to_device

    model = to_device(load_model(run))
    magnification = known_magnification(model, None)
    names = [image.stem for image in images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        fail(f"two images are named {twice}: show them in different folders.")
    make_folder(folder)
    shown: dict[str, NDArray] = {}
    maps: list[NDArray] = []
    with progress_bar() as bar:
        for done, image in enumerate(images):
            show(bar, f"Looking at {image.name}", done / len(images))
            try:
                enlarged = upsample(read_image(image, keep_bar=keep_bar).pixels, magnification)
            except Exception as error:
                warn(sentence_or_raise(error))
                continue
            maps.append(relevance_maps(model, enlarged))
            shown[image.stem] = enlarged
        show(bar, "Drawing", 1.0)
        chosen = most_varied(maps, number) if maps else []
        for name, relevance in zip(shown, maps, strict=True):
            buffer = BytesIO()
            np.savez_compressed(buffer, relevance=relevance, shown=chosen)
            write_atomically(folder / f"{name}.npz", buffer.getvalue())
            say(str(folder / f"{name}.npz"))
        if shown:
            figure = folder / "heatmaps.png"
            write_atomically(figure, render(lambda: draw_heatmaps(list(shown), list(shown.values()), maps, chosen)))
            say(str(figure))
    if len(shown) < len(images):
        fail(f"{len(images) - len(shown)} of {len(images)} images could not be shown.")
