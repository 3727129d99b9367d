"""Models as BioImage.IO files, which Fiji, ilastik, QuPath and bioimageio.core open.

Such a file is a zip with a description of the model (RDF 0.5, https://bioimage.io/docs), its
weights, an example and a card. The description is written as JSON, which is YAML.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from aeanet.data.synthetic import simulate_image
from aeanet.imaging.flips import Flips
from aeanet.imaging.upsampling import upsample
from aeanet.inference.exporting import (
    OPSET,
    TOLERANCE,
    ExportError,
    check_exportable,
    compare,
    onnx_model,
    onnx_runner,
    plain_program,
)
from aeanet.inference.prediction import at_magnification, known_magnification, super_resolve
from aeanet.inference.standalone import MOST_PARTS, Standalone
from aeanet.inference.torchscript import torchscript_model, torchscript_runner
from aeanet.io.atomic import write_atomically
from aeanet.io.text import json_text
from aeanet.networks.base import Network

SMALLEST = 16
"""px: the least side of an image that the description allows."""
_NEAR = 0.01  # of a magnification: how far the one in the file may be from it
_EXAMPLE = (288, 384)  # px: about the sides of the example's result
_SEED = 4  # of the example
_SPLIT = 2  # px: width of the line between before and after
_WEIGHTS = ("weights.onnx", "weights.pt")
_PAPER = {
    "text": "Xie, Ding & Ji, Augmented Equivariant Attention Networks for Microscopy Image "
    "Transformation, IEEE Transactions on Medical Imaging, 2022",
    "url": "https://arxiv.org/abs/2011.03633",
}


@dataclass(frozen=True)
class About:
    """What a file says of its model, beside how to run it.

    Attributes:
        name: of at least five letters, digits, spaces, or _+-().
        card: Markdown.
        trained_on: a sentence.
        license: SPDX identifier, None where it is not known.
        authors: of the model.
    """

    name: str
    card: str
    trained_on: str
    license: str | None = None
    authors: tuple[str, ...] = ()


def export_bioimageio(
    model: Network,
    path: Path,
    about: About,
    *,
    magnification: float | None = None,
    flips: Flips | None = None,
) -> dict[str, float]:
    """Write a BioImage.IO file with ONNX and TorchScript weights that take LR images as they are in
    their files (`Standalone`).

    Args:
        model: a network that ONNX can express, on the CPU; it is left in evaluation mode.
        path: of the zip, which appears whole or not at all.
        about: what the description and the card say of the model.
        magnification: of the result, by default the model's; see `simple_magnification`.
        flips: as in `super_resolve`, whose result the file gives.

    Returns:
        The largest difference of each weights file from PyTorch, relative to the largest number.

    Raises:
        PredictionError: the magnification is not known or out of range.
        ExportError: no simple fraction is near it, the network cannot be exported, a package of the
            extra `export` is missing, or a result differs by more than `TOLERANCE`.
        OSError: naming the file.
    """
    check_exportable(model)
    factor = simple_magnification(model, magnification)

    # the weights have one magnification for good, and are told no noise
    with at_magnification(model, float(factor)), _told_nothing(model):
        flips = model.flips if flips is None else flips
        module = Standalone(model.eval(), flips).eval()
        image, restored = _example(module, factor, flips)

        # one program gives both files of weights, and each must agree with PyTorch
        program = plain_program(module)
        record = {"config": model.config, "magnification": float(factor)}
        weights = [onnx_model(program, record), torchscript_model(program)]
        runners = [onnx_runner(weights[0]), torchscript_runner(weights[1])]
        worst = [max(compare(module, run).values()) for run in runners]

    # the description comes last, since it has the hashes of all others
    files = {
        **dict(zip(_WEIGHTS, weights, strict=True)),
        "image.npy": _npy(image),
        "restored.npy": _npy(restored),
        "cover.png": _cover(image[0, 0], restored[0, 0], float(factor)),
        "README.md": _card(about, model, factor, flips).encode(),
    }
    files["rdf.yaml"] = json_text(_description(about, files, factor, record), indent=1).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _zip(files))
    return dict(zip(_WEIGHTS, worst, strict=True))


def simple_magnification(model: Network, given: float | None) -> Fraction:
    """The simplest fraction within 1 % of the magnification given, else of the model's, so that
    sides of images become whole numbers.

    Raises:
        PredictionError: there is neither, or it is out of range.
        ExportError: no fraction with a denominator of at most `MOST_PARTS` is so near.
    """
    magnification = known_magnification(model, given)
    for parts in range(1, MOST_PARTS + 1):
        factor = Fraction(round(magnification * parts), parts)
        if abs(factor - magnification) <= _NEAR * magnification:
            return factor
    raise ExportError(
        f"programs enlarge by simple fractions, and no fraction with a denominator of at most "
        f"{MOST_PARTS} is near the magnification {magnification:g}: give --magnification 1, 2, or "
        "another."
    )


@contextmanager
def _told_nothing(model: Network) -> Iterator[None]:
    """Within it, a network is not told the noise, which a file cannot measure."""
    before, model.told_noise = model.told_noise, False
    try:
        yield
    finally:
        model.told_noise = before


def _example(module: Standalone, factor: Fraction, flips: Flips) -> tuple[NDArray, NDArray]:
    """A simulated LR image of 8 bits, and what `super_resolve` makes of it, (1, 1, H, W) each."""
    # sides are multiples of the denominator, so that those of the result are whole
    step = factor.denominator
    height, width = (step * round(side / factor / step) for side in _EXAMPLE)
    lr = simulate_image(_SEED, (height, width), magnification=float(factor)).lr
    image = np.round(255 * lr).astype(np.float32)
    restored = 255 * super_resolve(
        module.network,
        image / np.float32(255),
        magnification=float(factor),
        flips=flips,
        precision="float32",
    )

    # the module does in plain operations what `super_resolve` does; here the two must agree
    image, restored = image[None, None], restored[None, None]
    with torch.no_grad():
        difference = np.abs(module(torch.from_numpy(image)).numpy() - restored).max()
    if not difference <= TOLERANCE * 255:
        raise ExportError(
            f"the model in the file differs from super_resolve by {difference / 255:.1g} of the "
            "range: nothing is written."
        )
    return image, restored


def _description(
    about: About, files: dict[str, bytes], factor: Fraction, record: dict[str, Any]
) -> dict[str, Any]:
    """The model's RDF 0.5."""

    def file(name: str, **more: Any) -> dict[str, Any]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest(), **more}

    # axes that image and result share
    first: list[dict[str, Any]] = [
        {"type": "batch"},
        {"type": "channel", "id": "channel", "channel_names": ["grey"]},
    ]

    # A pixel of the image is `numerator` units wide, one of the result `denominator` units.
    step = factor.denominator
    size = {"min": step * -(-SMALLEST // step), "step": step}
    shown = [
        {"type": "space", "id": axis, "size": size, "scale": factor.numerator} for axis in "yx"
    ]

    # sides of the result follow from those of the image
    made = [
        {
            "type": "space",
            "id": axis,
            "size": {"tensor_id": "image", "axis_id": axis},
            "scale": factor.denominator,
        }
        for axis in "yx"
    ]

    onnx, torchscript = _WEIGHTS
    authors = [{"name": name} for name in about.authors]
    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": about.name,
        "description": f"Restores grey electron micrographs: less noise, and {float(factor):g} "
        f"times the pixels along each side. {about.trained_on}",
        "authors": authors,
        "cite": [_PAPER],
        "license": about.license,
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": ["electron-microscopy", "denoising", "super-resolution", "2d", "pytorch", "onnx"],
        # each tensor comes with an example, by which a program can test itself
        "inputs": [
            {
                "id": "image",
                "description": "Grey LR image with the values of its file.",
                "axes": [*first, *shown],
                "data": {"type": "float32"},
                "test_tensor": file("image.npy"),
            }
        ],
        "outputs": [
            {
                "id": "restored",
                "description": "The restored image, in the units of the image.",
                "axes": [*first, *made],
                "data": {"type": "float32"},
                "test_tensor": file("restored.npy"),
            }
        ],
        "weights": {
            "torchscript": file(torchscript, pytorch_version=torch.__version__.partition("+")[0]),
            "onnx": file(onnx, opset_version=OPSET, parent="torchscript"),
        },
        # the paper is that of the method, also where the data are others
        "training_data": {
            "type": "dataset",
            "format_version": "0.3.0",
            "name": f"Training data of {about.name}",
            "description": about.trained_on,
            "authors": authors,
            "cite": [_PAPER],
            "license": about.license,
        },
        "config": {"aeanet": record},
    }


def _card(about: About, model: Network, factor: Fraction, flips: int) -> str:
    # the card says where the file does less than the command
    range_shown = "The network is shown the range from 0 to white."
    if model.fits_range:
        range_shown = (
            "The network is shown the range that the image uses; hot and dead pixels, which\n"
            "`aeanet restore` keeps apart, are not looked for."
        )
    if model.told_noise:
        range_shown += " It is not told the noise, which\n`aeanet predict` measures."
    mean = f"The result is the mean over {flips} flip{'s' if flips > 1 else ''} of the image."
    return f"""{about.card.rstrip()}

## In this file

The weights take a grey image (batch, 1, height, width) in float32 with the values of its file. They
give the result in the same units, {float(factor):g} times as high and wide. White is 1, 255 or
65535: the least that no pixel exceeds. {range_shown} {mean} Give it the whole image: white and the
range are found in what it is given, so tiles of one image can differ.

## Validation

`image.npy` must become `restored.npy`, the result of `aeanet.super_resolve` in float32. On pairs of
your own, `aeanet evaluate` gives PSNR and SSIM.
"""


def _cover(image: NDArray, restored: NDArray, magnification: float) -> bytes:
    """PNG, two squares in the same greys: the image, interpolated, and its restoration."""
    side = min(restored.shape)
    before, after = upsample(image, magnification)[:side, :side], restored[:side, :side]
    low, high = np.percentile(after, (0.3, 99.7))
    both = ((np.hstack([before, after]) - low) / (high - low)).clip(0, 1)
    both[:, side : side + _SPLIT] = 1
    file = io.BytesIO()
    Image.fromarray((255 * both).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()


def _npy(array: NDArray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zip(files: dict[str, bytes]) -> bytes:
    """The same bytes for the same files: no times are kept."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()
