"""All networks by name, and their files."""

import inspect
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from aeanet.io.atomic import read_tensors, write_atomically
from aeanet.networks import baselines
from aeanet.networks.base import ModelError, Network
from aeanet.networks.unet import AEANet, GVTNet, UNet, UShape

MODEL_FILE = "model.safetensors"
FORMAT = "aeanet"
FORMAT_VERSION = "1"

MODELS: dict[str, type[Network]] = {
    "aeanet": AEANet,
    "gvtnet": GVTNet,
    "unet": UNet,
    "vdsr": baselines.VDSR,
    "edsr": baselines.EDSR,
    "rcan": baselines.RCAN,
    "lbnlm": baselines.PairedNonLocalMeans,
    "srsw": baselines.SparseCombination,
}


def build_model(name: str, **options: Any) -> Network:
    """A new network by its name in `MODELS`; `options` are those of its class. Raises ModelError."""
    if name not in MODELS:
        raise ModelError(f"there is no model {name!r}; the models are {', '.join(MODELS)}.")
    known = inspect.signature(MODELS[name]).parameters
    for option in options:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise ModelError(f"the model {name!r} has no option {option!r}; {has}.")
    return MODELS[name](**options)


def short_options(name: str) -> dict[str, Any]:
    """Options of the model of that name in `MODELS` that short trainings do better with than the paper's."""
    return {"residual": True} if issubclass(MODELS[name], UShape) else {}


def save_model(model: Network, path: str | os.PathLike[str]) -> Path:
    """Write a model to a safetensors file, its configuration and magnification in the file's metadata.

    The file appears whole or not at all: it is written beside its place and then moved there, so an earlier model of
    that name survives a full disk or a killed process. Raises OSError, naming the file.
    """
    path = Path(path)
    settings = {"config": model.config, "magnification": model.magnification}
    metadata = {"format": FORMAT, "version": FORMAT_VERSION, "settings": json.dumps(settings)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    return path


def load_model(path: str | os.PathLike[str]) -> Network:
    """The model in a file of `save_model`, or in the run folder that holds one, on the CPU and in evaluation mode.

    Raises ModelError, in one sentence, if there is none, or it is not one of ours, of another version, or damaged.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"there is no model at {path}: wanted a run folder with a {MODEL_FILE}, or such a file.")
    try:
        metadata, tensors = read_tensors(file)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{file} is damaged or is not a safetensors file: {error}.") from error
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{file} holds no aeanet model: its metadata does not name the format {FORMAT!r}.")
    if metadata.get("version") != FORMAT_VERSION:
        raise ModelError(
            f"{file} was written in version {metadata.get('version')} of the model format, this program reads version "
            f"{FORMAT_VERSION}."
        )
    try:
        settings = json.loads(metadata["settings"])
        model = build_model(**settings["config"])
        model.load_state_dict(tensors)
        model.magnification = settings["magnification"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{file} is damaged: its weights do not fit its configuration.") from error
    return model.eval()


def to_device(model: Network) -> Network:
    """The model on the GPU where there is one, else on the CPU."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")
