"""Networks as ONNX models, for programs that are not Python: Fiji, napari, C++, web browsers."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
    name = model.config["name"]
    if name not in EXPORTABLE:
        raise ExportError(
            f"the model {name!r} looks patches up in a library, which ONNX has no operation for; "
            f"export {', '.join(EXPORTABLE[:-1])} or {EXPORTABLE[-1]}."
        )
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise ExportError(
                f"the package {error.name} is not installed: pip install 'aeanet[export]'."
            ) from error

    with quietly("torch", "torch.onnx", "onnxscript", "onnx_ir"):
        content = _onnx(model.eval())
    differences = {size: _difference(model, content, size) for size in SIZES}
    worst = max(differences.values())
    if not worst <= TOLERANCE:  # also true of NaN
        raise ExportError(
            f"the exported model differs from PyTorch by {worst:.1g} of the result: nothing is "
            "written."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return differences


def _onnx(model: Network) -> bytes:
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        example = torch.zeros(SIZES[1][0], 1, *SIZES[1][1:])
        program = torch.export.export(
            model, (example,), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
        )
        exported = torch.onnx.export(
            program.run_decompositions(PLAIN),
            input_names=["image"],
            output_names=["restored"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert exported is not None

    # What a reader must know of the model, and the names of its axes.
    proto = exported.model_proto
    record: dict[str, Any] = {
        "config": model.config,
        "magnification": model.magnification,
        **CONVENTIONS,
    }
    entry = proto.metadata_props.add()
    entry.key, entry.value = "aeanet", json_text(record)
    for tensor in (*proto.graph.input, *proto.graph.output):
        for axis, label in zip(
            tensor.type.tensor_type.shape.dim, ("batch", None, "height", "width"), strict=True
        ):
            if label is not None:
                axis.dim_param = label
    return proto.SerializeToString()


def _difference(model: Network, content: bytes, size: tuple[int, int, int]) -> float:
    """Of ONNX Runtime from PyTorch on random images."""
    import onnxruntime

    batch, height, width = size
    image = np.random.default_rng(0).random((batch, 1, height, width), np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (restored,) = session.run(["restored"], {"image": image})
    if restored.shape != expected.shape:
        return float("inf")
    return float(np.abs(restored - expected).max() / np.abs(expected).max())
