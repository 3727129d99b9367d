"""All networks by name: which class each is, and the files they are saved to.

A network's module is imported when the network is asked for. This module itself imports no PyTorch,
so that `aeanet --help` can name the networks at once.
"""

import inspect
import json
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import safetensors

from aeanet.errors import ModelError
from aeanet.io.atomic import read_tensors, write_tensors
from aeanet.io.signatures import signature
from aeanet.io.text import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from aeanet.networks.base import Network

Model = TypeVar("Model", bound="Network")

MODEL_FILE = "model.safetensors"
SHIPPED = ("sem",)
"""The models that come with the package, by name; each has a card, NAME.md, and its record,
NAME.json.
"""
SHIPPED_FOLDER = Path(__file__).parents[1] / "models"
FORMAT = "aeanet"
FORMAT_VERSION = "1"
MOST = 2**20  # the greatest number that an option may be
NETWORKS = {
    "aeanet": "unet.AEANet",
    "shuffled": "shuffled.ShuffledUNet",
    "gvtnet": "unet.GVTNet",
    "unet": "unet.UNet",
    "vdsr": "baselines.convolutional.VDSR",
    "edsr": "baselines.convolutional.EDSR",
    "rcan": "baselines.convolutional.RCAN",
    "lbnlm": "baselines.examples.PairedNonLocalMeans",
    "srsw": "baselines.examples.SparseCombination",
}
"""The name of each network, and its class within `aeanet.networks`."""
HEADS = {"error": "error.ErrorNetwork"}
"""Networks that need another one, and are not for restoration, likewise."""


def network_class(name: str) -> "type[Network]":
    """The class of the network of that name.

    Raises:
        ModelError: there is none.
    """
    if name not in NETWORKS | HEADS:
        raise ModelError(f"there is no model {name!r}; the models are {', '.join(NETWORKS)}.")
    module, _, class_name = (NETWORKS | HEADS)[name].rpartition(".")
    return getattr(import_module(f"aeanet.networks.{module}"), class_name)


def build_model(name: str, **options: Any) -> "Network":
    """A new network with random weights, by its name in `NETWORKS`; `options` are those of its
    class.

    The names are "aeanet", "shuffled", "gvtnet", "unet", "vdsr", "edsr", "rcan", "lbnlm" and
    "srsw". All take grey images (N, 1, H, W) of the size of the result, 0 black and 1 white.

    Raises:
        ModelError: another name, an option that the network does not have, or a value of another
            type or out of range.
    """
    network = network_class(name)
    known = inspect.signature(network).parameters
    for option, value in options.items():
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise ModelError(f"the model {name!r} has no option {option!r}; {has}.")
        _check_option(option, value, type(known[option].default))
    return network(**options)


def _check_option(name: str, value: Any, wanted: type) -> None:
    """Raise ModelError for a value that a switch or a number cannot have; numbers are of
    references, which may be none, of patches, of pixels.
    """
    least = 0 if name == "references" else 1
    if wanted is bool and type(value) is not bool:
        raise ModelError(f"the option {name} is {value!r}, wanted True or False.")
    if wanted is int and (type(value) is not int or not least <= value <= MOST):
        raise ModelError(
            f"the option {name} is {value!r}, wanted a whole number from {least} to {MOST}."
        )


def short_options(name: str) -> dict[str, Any]:
    """The options with which a network does better in short trainings than with the paper's."""
    known = inspect.signature(network_class(name)).parameters
    return {"residual": True} if "residual" in known else {}


def save_model(model: "Network", path: str | os.PathLike[str], *, half: bool = False) -> Path:
    """Write a model to a safetensors file; its configuration, magnification, `bfloat16_cost` and
    `fits_range` are in the file's metadata.

    The file appears whole or not at all: an earlier model of that name survives a full disk or a
    killed process.

    Args:
        model: any network.
        path: the file; its folder is made if it is not there.
        half: round the weights to float16 (relative error 5e-4), which halves the file; they are
            float32 when loaded.

    Returns:
        The path.

    Raises:
        OSError: the file, which the error names, cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    # state_dict is a new dictionary each time, so tensors replaced in it leave the model as it is
    tensors = model.state_dict()
    for name, tensor in tensors.items():
        if half and tensor.is_floating_point():
            tensors[name] = tensor.half()

    # what the metadata leave out is not known of the model, or not so
    settings = {"config": model.config, "magnification": model.magnification}
    if model.bfloat16_cost is not None:
        settings["bfloat16_cost"] = model.bfloat16_cost
    if model.fits_range:
        settings["fits_range"] = True
    write_model_file(path, tensors, settings)
    return path


def write_model_file(
    path: Path, tensors: "Mapping[str, Tensor]", settings: "Mapping[str, Any]"
) -> None:
    """Write a file of this format and version; `settings` are for JSON.

    Raises:
        OSError: the file, which the error names, cannot be written.
    """
    metadata = {"format": FORMAT, "version": FORMAT_VERSION, "settings": json_text(settings)}
    write_tensors(path, tensors, metadata)


def model_path(name: str | os.PathLike[str]) -> Path:
    """The file of a shipped model (`SHIPPED`) unless there is a file or folder of that name; else
    the path given.
    """
    path = Path(name)
    if str(name) in SHIPPED and not path.exists():
        return SHIPPED_FOLDER / f"{name}.safetensors"
    return path


def given_model(model: "Network | str | os.PathLike[str]") -> "Network":
    """The network itself, or the one that `load_model` finds."""
    return load_model(model) if isinstance(model, str | os.PathLike) else model


def load_model(path: str | os.PathLike[str]) -> "Network":
    """The model in a file of `save_model`, in the run folder that holds one, or shipped under that
    name (`SHIPPED`).

    It is on the CPU and in evaluation mode.

    Raises:
        ModelError: there is none, or it is not a model of aeanet, of another version, or damaged:
            its settings must have the right types and ranges, its weights must be finite and have
            the shapes that belong to them.
    """
    # here and not above, so that this module can name the networks without PyTorch
    import torch

    from aeanet.networks.base import MAGNIFICATIONS, WithoutDrawing

    # whatever does not fit together is damage to the file, and its name is in the message
    file = _model_file(model_path(path))
    metadata, tensors = read_model_file(file)
    try:
        settings = json.loads(metadata["settings"])
        config, magnification = settings["config"], settings["magnification"]
        cost = settings.get("bfloat16_cost")
        with WithoutDrawing():
            # At first without memory: a damaged number may ask for more than there is.
            with torch.device("meta"):
                check_tensors(tensors, build_model(**config).state_dict())
            model = build_model(**config)
        model.load_state_dict(tensors)
    except ModelError as error:
        raise ModelError(f"{file} is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{file} is damaged: its weights do not fit its configuration.") from error

    # beside the configuration: settings that no class of a network checks
    if magnification is not None:
        least, most = MAGNIFICATIONS
        if type(magnification) not in (int, float) or not least <= magnification <= most:
            raise ModelError(
                f"{file} is damaged: its magnification is {magnification!r}, wanted {least:g} to "
                f"{most:g}."
            )
    if type(cost) not in (int, float, type(None)):
        raise ModelError(f"{file} is damaged: its bfloat16_cost is {cost!r}, wanted a number.")

    # shipped models are shown the range in use, whether their files say so or not
    model.magnification = magnification
    model.bfloat16_cost = cost
    model.fits_range = settings.get("fits_range") is True or file.parent == SHIPPED_FOLDER
    return model.eval()


def _model_file(path: Path) -> Path:
    """The model in a run folder, or the file itself. Raises ModelError if there is none."""
    file = path / MODEL_FILE if path.is_dir() else path
    if file.is_file():
        return file
    inside = sorted(path.glob(f"*/{MODEL_FILE}")) if path.is_dir() else []
    example = f"; there is one in {inside[0].parent}" if inside else ""
    raise ModelError(
        f"there is no model at {path}: wanted a run folder with a {MODEL_FILE}, such a file, or "
        f"the name of a shipped model ({', '.join(SHIPPED)}){example}."
    )


def read_model_file(file: Path) -> "tuple[dict[str, str], dict[str, Tensor]]":
    """Metadata and tensors of a file of this format and version. Raises ModelError for another."""
    # another kind of file is called by its name; an image means that the arguments were swapped
    try:
        metadata, tensors = read_tensors(file)
    except safetensors.SafetensorError as error:
        found = signature(file)
        if found is not None:
            order = "; the run comes before the images" if found[0].endswith("image") else ""
            raise ModelError(f"{file} is not a model of aeanet but a {found[0]}{order}.") from error
        raise ModelError(f"{file} is damaged or is not a safetensors file: {error}.") from error

    # other programs write safetensors too, and another version may mean something else by them
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{file} holds no aeanet model: its metadata does not name the format {FORMAT!r}."
        )
    if metadata.get("version") != FORMAT_VERSION:
        raise ModelError(
            f"{file} was written in version {metadata.get('version')} of the model format, this "
            f"program reads version {FORMAT_VERSION}."
        )
    return metadata, tensors


def check_tensors(tensors: "Mapping[str, Tensor]", wanted: "Mapping[str, Tensor]") -> None:
    """Raise ModelError unless these are the finite tensors of a network, which `wanted` has too."""
    # the same names on both sides; one that differs is enough for the message
    if differing := sorted(tensors.keys() ^ wanted.keys()):
        kind = "missing" if differing[0] in wanted else "none of its own"
        raise ModelError(f"the tensor {differing[0]} is {kind}.")

    # `wanted` may lie on the meta device: only its shapes and types are asked for
    for name, like in wanted.items():
        tensor = tensors[name]
        if tensor.shape != like.shape:
            raise ModelError(
                f"the tensor {name} has shape {tuple(tensor.shape)}, wanted {tuple(like.shape)}."
            )

        # any width will do, such as float16 in a file: loading converts it
        if tensor.is_floating_point() != like.is_floating_point() or tensor.is_complex():
            kind = "floating point" if like.is_floating_point() else "integers"
            raise ModelError(
                f"the tensor {name} holds {str(tensor.dtype)[6:]} numbers, wanted {kind}."
            )

        # in the type that it will have, in which a wider number can overflow
        if not tensor.to(like.dtype).isfinite().all():
            raise ModelError(f"the tensor {name} holds NaN or infinite numbers.")

        # their root would be NaN in the first prediction
        if name.endswith("running_var") and (tensor < 0).any():
            raise ModelError(f"the tensor {name} holds negative variances.")


def to_device(model: "Model") -> "Model":
    """The model on the GPU where there is one, else on the CPU."""
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")
