"""How the files of `bad_inputs` are made, each by a function of a folder; and what holds of every
run with them.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from aeanet.networks.registry import build_model, save_model
from aeanet.training import Recipe, fingerprint
from aeanet.training.checkpoint import Checkpoint
from aeanet.training.randomness import random_state

Make = Callable[[Path], Any]

GREY = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)
# Of lbnlm, the fastest network to apply.
TINY: dict[str, Any] = {
    "size": 32,
    "patch": 3,
    "neighbours": 4,
}


def nothing(folder: Path) -> None:
    """The command has no input of its own."""


def put(name: str, content: bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(content)


def both(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


def directory(name: str) -> Make:
    return lambda folder: (folder / name).mkdir(parents=True)


def folder_of(name: str) -> Make:
    """The folder that a file is to lie in."""
    return lambda folder: (folder / name).parent.mkdir(parents=True, exist_ok=True)


def pipe(name: str) -> Make:
    return lambda folder: os.mkfifo(folder / name)


def link(name: str, target: str) -> Make:
    return lambda folder: (folder / name).symlink_to(target)


def tiff(name: str, values: NDArray, **options: Any) -> Make:
    return lambda folder: tifffile.imwrite(folder / name, values, **options)


def pages(name: str, *images: NDArray) -> Make:
    def make(folder: Path) -> None:
        with tifffile.TiffWriter(folder / name) as file:
            for image in images:
                shown = "rgb" if image.ndim == 3 else "minisblack"
                file.write(image, photometric=shown, metadata=None)

    return make


def picture(name: str, values: NDArray = GREY, kind: str | None = None) -> Make:
    return lambda folder: (folder / name).write_bytes(
        encoded(kind or Path(name).suffix[1:], values)
    )


def encoded(kind: str, values: NDArray = GREY) -> bytes:
    buffer = BytesIO()
    if kind.startswith("tif"):
        tifffile.imwrite(buffer, values)
    else:
        Image.fromarray(values).save(buffer, format={"jpg": "jpeg"}.get(kind, kind))
    return buffer.getvalue()


def changed(kind: str, place: int, byte: int) -> bytes:
    """A file with another byte at one place."""
    content = bytearray(encoded(kind))
    content[place] = byte
    return bytes(content)


def wide(kind: str, place: int, size: int) -> bytes:
    """A file whose header states another width: four bytes, little-endian."""
    content = encoded(kind)
    return content[:place] + size.to_bytes(4, "little") + content[place + 4 :]


def array(name: str, values: NDArray, **options: Any) -> Make:
    return lambda folder: zarr.create_array(folder / name, data=values, **options)


def group(name: str, **attributes: Any) -> Make:
    return lambda folder: zarr.open_group(folder / name, mode="w", zarr_format=3).attrs.update(
        attributes
    )


def edited(name: str, **changes: Any) -> Make:
    """A Zarr array whose metadata are changed afterwards."""

    def make(folder: Path) -> None:
        array(name, GREY)(folder)
        file = folder / name / "zarr.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return make


def model(
    name: str = "run", network: str = "lbnlm", magnification: Any = 2.0, **options: Any
) -> Make:
    def make(folder: Path) -> None:
        torch.manual_seed(0)
        built = build_model(network, **(options or (TINY if network == "lbnlm" else {})))
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.uniform_()
        built.magnification = magnification
        save_model(built, folder / name / "model.safetensors")

    return make


def odd_model(
    settings: Any = None,
    change: Callable[[dict[str, torch.Tensor]], Any] = lambda tensors: None,
    **metadata: str,
) -> Make:
    """A model's file, other in its settings (text, or what JSON takes), its tensors or its
    metadata.
    """

    def make(folder: Path) -> None:
        tensors = {
            name: tensor.clone()
            for name, tensor in build_model("lbnlm", **TINY).state_dict().items()
        }
        change(tensors)
        right = {"config": {"name": "lbnlm", **TINY}, "magnification": 2.0}
        text = settings if isinstance(settings, str) else json.dumps(right | (settings or {}))
        (folder / "run").mkdir()
        described = {"format": "aeanet", "version": "1", "settings": text} | metadata
        save_file(tensors, folder / "run" / "model.safetensors", described)

    return make


def option(**changes: Any) -> dict[str, Any]:
    """Settings of a model with another option."""
    return {"config": {"name": "lbnlm", **TINY, **changes}}


def checkpoint(**changes: Any) -> Make:
    """A checkpoint of which some fields are others."""

    def make(folder: Path) -> None:
        network = build_model("unet")
        described = {
            "recipe": vars(Recipe()),
            "model": network.config,
            "data": {"pairs": [], "held_back": [], "sha256": fingerprint([])},
            "versions": {},
            "processes": 1,
        }
        fields: dict[str, Any] = {
            "step": 1,
            "seconds": 1.0,
            "loss": 0.1,
            "steps_per_second": 1.0,
            "scores": None,
        }
        fields |= {
            "configuration": described,
            "model": {},
            "optimizer": {},
            "random": random_state(),
        } | changes
        (folder / "run").mkdir()
        Checkpoint(**fields).write(folder / "run" / "checkpoint.safetensors")

    return make


def pair(lr: NDArray, hr: NDArray, name: str = "a") -> Make:
    def make(folder: Path) -> None:
        for kind, values in (("lr", lr), ("hr", hr)):
            (folder / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "pairs" / kind / f"{name}.tif", values)

    return make


@contextmanager
def within_seconds(seconds: int = 20, waiting: int = 200) -> Iterator[None]:
    """Fail after so many seconds of this process's own work, or of anything: others may keep the
    machine busy.
    """

    def late(_number: int, _frame: object) -> NoReturn:
        raise AssertionError(f"it took more than {seconds} s, or waited for more than {waiting} s")

    timers = {
        signal.SIGALRM: (signal.ITIMER_REAL, waiting),
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
    }
    before = {number: signal.signal(number, late) for number in timers}
    try:
        for timer, limit in timers.values():
            signal.setitimer(timer, limit)
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def assert_no_part_of_a_file(folder: Path) -> None:
    hidden = [path for path in folder.rglob(".*") if path.name not in (".png", ".lock")]
    assert not hidden, hidden
