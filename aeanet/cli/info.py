"""`aeanet info`."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from aeanet.cli.shared import Chosen, argument, fail, option, say
from aeanet.cli.shared import path as as_path
from aeanet.io.text import json_text, read_json

if TYPE_CHECKING:
    from aeanet.io.stacks import Stack

EXAMPLE = "aeanet info runs/first"
_LISTED = 16  # numbers
_LONGEST = 200  # characters of a text of several lines


def main(
    path: Annotated[
        Path,
        argument(
            "A run folder, a model file, sem, or a micrograph.", metavar="FILE", parser=as_path
        ),
    ],
    chosen: Chosen = None,
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
    holds_model = suffix == ".safetensors" or (path.is_dir() and suffix != ZARR_SUFFIX)
    record = _model(path) if holds_model else _image(path, chosen)
    say(json_text(record, indent=2) if as_json else "\n".join(_lines(record)))


def _model(path: Path) -> dict[str, Any]:
    from aeanet.networks.registry import FORMAT_VERSION, SHIPPED_FOLDER, load_model
    from aeanet.training import RUN_FILE, listed_models

    folder = path if path.is_dir() else path.parent
    if path.is_dir() and listed_models(path):
        return {
            "file": str(path),
            "kind": "run of one model per pair",
            "models": listed_models(path),
        }
    model = load_model(path)
    run = path.with_suffix(".json") if path.parent == SHIPPED_FOLDER else folder / RUN_FILE
    return {
        "file": str(path),
        "kind": "model",
        "format_version": FORMAT_VERSION,
        "model": model.config,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "magnification": model.magnification,
        "training": read_json(run) if run.is_file() else None,
    }


def _image(path: Path, chosen: str | None) -> dict[str, Any]:
    """Rows, columns and values as in the file, without the information bar."""
    from dataclasses import asdict

    from aeanet.io.images import Micrograph, read_image
    from aeanet.io.mosaics import Mosaic, open_mosaic, shape_by_regions
    from aeanet.io.stacks import find_stack

    stack = find_stack(path) if chosen is None else None
    if stack is not None:
        with stack:
            return _stack(path, stack)
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


def _lines(record: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in record.items():
        label = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, dict) and value:
            yield label
            yield from _lines(value, f"{indent}  ")
        elif value is None:
            # What the record of a training leaves empty was not used.
            yield f"{label}: {'none' if indent else 'unknown'}"
        elif name == "command" and isinstance(value, list):
            yield f"{label}: {shlex.join(map(str, value))}"
        else:
            yield f"{label}: {_text(value)}"


def _text(value: Any) -> str:
    """One line: the beginning of a text, how many records or numbers there are; --json has all of
    it.
    """
    if isinstance(value, list | dict):
        if value and all(isinstance(entry, dict) for entry in value):
            return f"{len(value)} records, see --json"
        if len(value) > _LISTED and all(isinstance(entry, int | float) for entry in value):
            return f"{len(value)} numbers, see --json"
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    line, more, _ = str(value).partition("\n")
    return f"{line[:_LONGEST]} ..." if more and len(line) > _LONGEST else line
