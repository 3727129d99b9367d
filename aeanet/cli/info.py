"""`aeanet info`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from aeanet.cli.shared import Chosen, StackAxes, argument, fail, option, say
from aeanet.cli.shared import path as as_path
from aeanet.io.text import json_text, record_lines

if TYPE_CHECKING:
    from aeanet.io.stacks import Stack

EXAMPLE = "aeanet info runs/first"


def main(
    path: Annotated[
        Path,
        argument(
            "A run folder, a model file, sem, a micrograph, or a stack.",
            metavar="FILE",
            parser=as_path,
        ),
    ],
    chosen: Chosen = None,
    axes: StackAxes = None,
    as_json: Annotated[bool, option("Write JSON, for programs.", "--json")] = False,
) -> None:
    """Show what a model is and how it was trained, or what an image or a stack is and the
    size of its pixels.
    """
    from aeanet.io.images.reading import ZARR_SUFFIX
    from aeanet.networks.registry import model_path

    path = model_path(path)
    if not path.exists():
        fail(f"There is no {path}.")
    suffix = path.suffix.lower()
    holds_model = suffix == ".safetensors"
    if path.is_dir() and suffix != ZARR_SUFFIX:
        # who names axes means a stack of slices
        holds_model = axes is None and not _holds_slices(path)
    record = _model(path, as_json) if holds_model else _image(path, chosen, axes)
    say(json_text(record, indent=2) if as_json else "\n".join(record_lines(record)))


def _holds_slices(folder: Path) -> bool:
    """Whether a folder has images, and no model: a run has pictures too, of pairs or results."""
    from aeanet.io.images.reading import is_image
    from aeanet.networks.registry import MODEL_FILE

    models = [*folder.glob(MODEL_FILE), *folder.glob(f"*/{MODEL_FILE}")]
    return not models and any(is_image(file) for file in folder.iterdir())


def _model(path: Path, as_json: bool) -> dict[str, Any]:
    from aeanet.training import listed_models
    from aeanet.training.info import model_info

    if path.is_dir() and (models := listed_models(path)):
        return {"file": str(path), "kind": "run of one model per pair", "models": models}
    model = model_info(path)
    return model.record() if as_json else model.shown()


def _image(path: Path, chosen: str | None, axes: str | None) -> dict[str, Any]:
    """Rows, columns and values as in the file, without the information bar."""
    from dataclasses import asdict

    from aeanet.io.images import Micrograph, read_image
    from aeanet.io.mosaics import Mosaic, open_mosaic, shape_by_regions
    from aeanet.io.stacks import find_stack

    # --image takes one image of a file, so it is no stack then
    stack = find_stack(path, axes) if chosen is None else None
    if stack is not None:
        with stack:
            return _stack(path, stack)

    # An image that is read by regions may be larger than the memory. What needs all of its pixels,
    # the bar and the values, is not told of it.
    image: Mosaic | Micrograph
    in_memory: dict[str, Any] = {}
    if shape_by_regions(path, chosen):
        with open_mosaic(path, chosen) as image:
            kind, (height, width) = "image read by regions", image.shape
    else:
        image = read_image(path, image=chosen)
        raw = image.to_raw(image.pixels)
        kind, (height, width) = image.kind, raw.shape
        in_memory = {"bar_rows": image.bar, "values": [raw.min().item(), raw.max().item()]}
    return {
        "file": str(path),
        "kind": kind,
        "height": height,
        "width": width,
        **in_memory,
        "dtype": str(image.dtype),
        "black_and_white": [image.low, image.high],
        "pixel_size": image.pixel_size and asdict(image.pixel_size),
    }


def _stack(path: Path, stack: "Stack") -> dict[str, Any]:
    contents = stack.contents
    return {
        "file": str(path),
        "kind": contents.kind,
        "axes": contents.axes,
        "shape": list(contents.shape),
        "dtype": str(contents.dtype),
        "steps": {axis: f"{step.size:.6g} {step.unit}" for axis, step in contents.steps.items()},
        "channels": list(contents.channels),
    }
