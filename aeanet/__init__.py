"""Electron-microscopy super-resolution on augmented equivariant attention: the names a script needs.

They are imported when first used, so that `import aeanet` and `aeanet --help` do not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aeanet.data.registration import register_pair
    from aeanet.inference.prediction import super_resolve
    from aeanet.networks.registry import build_model, load_model, save_model
    from aeanet.networks.unet import AEANet
    from aeanet.scoring.evaluation import evaluate

_HOMES = {
    "AEANet": "networks.unet",
    "build_model": "networks.registry",
    "evaluate": "scoring.evaluation",
    "load_model": "networks.registry",
    "register_pair": "data.registration",
    "save_model": "networks.registry",
    "super_resolve": "inference.prediction",
}
__all__ = ["AEANet", "build_model", "evaluate", "load_model", "register_pair", "save_model", "super_resolve"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aeanet' has no attribute {name!r}")
    return getattr(import_module(f"aeanet.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
