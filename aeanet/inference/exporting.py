"""Networks as ONNX models, for programs that are not Python: Fiji, napari, C++, web browsers."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from aea_kernels.export import PLAIN
from aeanet.errors import UserError
from aeanet.io.atomic import write_atomically
from aeanet.io.quiet import quietly
from aeanet.io.text import json_text
from aeanet.networks.base import Network

OPSET = 20
"""Of ONNX 1.15 and newer, and what PyTorch writes without a conversion."""
EXPORTABLE = ("aeanet", "gvtnet", "unet", "vdsr", "edsr", "shuffled", "rcan")
SIZES = ((1, 32, 48), (2, 53, 38), (1, 21, 87))
"""Batch, height and width of the images on which an exported model is compared with PyTorch."""
TOLERANCE = 1e-5
"""Of the largest difference, relative to the largest number of the result."""
CONVENTIONS = {
    "image": "float32 (batch, 1, height, width), grey: 0 is black, 1 is white, the full range of "
    "the detector.",
    "grid": "The image lies on the grid of the result: an LR image is first enlarged by the "
    "magnification, bicubically (free parameter -0.75, edges repeated), so that the centre of LR "
    "pixel x comes to lie at magnification * (x + 0.5) - 0.5.",
    "restored": "float32 of the shape of the image; clip it to 0 and 1.",
}

Run = Callable[[NDArray], NDArray]
"""Runs an exported model on images (N, 1, H, W)."""


class ExportError(UserError):
    """A model that cannot be exported."""


def export_onnx(model: Network, path: Path) -> dict[tuple[int, int, int], float]:
    """Write a network as an ONNX model that takes images of every size, if the two agree at the
    sizes of `SIZES`.

    The model has the input "image" and the output "restored", (batch, 1, height, width) in float32.
    Its metadata have under "aeanet" a JSON record: config and magnification of the network and, in
    words, what an image is.

    Args:
        model: a network of `EXPORTABLE`, on the CPU; it is left in evaluation mode. One that
            depends on the magnification keeps in the file the one that it has.
        path: of the file, which appears whole or not at all.

    Returns:
        The largest difference between ONNX Runtime and PyTorch for each size, relative to the
        largest number.

    Raises:
        ExportError: for another network, where a package of the extra `export` is missing, or if
            the two differ by more than `TOLERANCE`.
        OSError: naming the file.
    """
    check_exportable(model)
    record = {"config": model.config, "magnification": model.magnification, **CONVENTIONS}
    content = onnx_model(plain_program(model.eval()), record)
    differences = compare(model, onnx_runner(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return differences


def check_exportable(model: Network) -> None:
    """Raise ExportError for a network that ONNX has no operations for, or without its packages."""
    name = model.config["name"]
    if name not in EXPORTABLE:
        raise ExportError(
            f"the model {name!r} looks patches up in a library, which ONNX has no operation for; "
            f"export {', '.join(EXPORTABLE[:-1])} or {EXPORTABLE[-1]}."
        )

    # one that is missing would else be found out in the middle of the export
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise ExportError(
                f"the package {error.name} is not installed: pip install 'aeanet[export]'."
            ) from error


def plain_program(module: nn.Module) -> ExportedProgram:
    """A module of images (N, 1, H, W) of every size, in operations that other programs have.

    Args:
        module: in evaluation mode, on the CPU.
    """
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad(), quietly("torch"):
        example = torch.zeros(SIZES[1][0], 1, *SIZES[1][1:])
        program = torch.export.export(
            module, (example,), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
        )
        return program.run_decompositions(PLAIN)


def onnx_model(program: ExportedProgram, record: Mapping[str, Any]) -> bytes:
    """An ONNX file whose input is "image" and whose output is "restored".

    Args:
        program: of `plain_program`.
        record: what a reader must know of the model, for the metadata.
    """
    # the weights in the file itself, not in another one beside it
    with torch.no_grad(), quietly("torch", "torch.onnx", "onnxscript", "onnx_ir"):
        exported = torch.onnx.export(
            program,
            input_names=["image"],
            output_names=["restored"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    # metadata of ONNX are pairs of texts, so a record goes in as JSON
    assert exported is not None
    proto = exported.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = "aeanet", json_text(record)

    # An axis of the result has the name of the image's if it is always as long.
    names: dict[str, str] = {}
    for tensor, prefix in ((proto.graph.input[0], ""), (proto.graph.output[0], "enlarged ")):
        axes = tensor.type.tensor_type.shape.dim
        for axis, name in zip(axes, ("batch", "", "height", "width"), strict=True):
            if name:
                axis.dim_param = names.setdefault(axis.dim_param, prefix + name)
    return proto.SerializeToString()


def onnx_runner(content: bytes) -> Run:
    """Runs an ONNX file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["restored"], {"image": image})[0]


def compare(module: nn.Module, run: Run) -> dict[tuple[int, int, int], float]:
    """The largest difference between an exported model and its module for each of `SIZES`, relative
    to the largest number.

    Raises:
        ExportError: one is beyond `TOLERANCE`.
    """
    differences = {size: _difference(module, run, size) for size in SIZES}
    worst = np.max(list(differences.values()))  # NaN if one is
    if not worst <= TOLERANCE:  # also true of NaN
        raise ExportError(
            f"the exported model differs from PyTorch by {worst:.1g} of the result: nothing is "
            "written."
        )
    return differences


def _difference(module: nn.Module, run: Run, size: tuple[int, int, int]) -> float:
    batch, height, width = size
    image = np.random.default_rng(0).random((batch, 1, height, width), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    restored = run(image)
    if restored.shape != expected.shape:
        return float("inf")
    return float(np.abs(restored - expected).max() / np.abs(expected).max())
