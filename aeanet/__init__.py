"""Electron-microscopy super-resolution on augmented equivariant attention: the names a script needs.

They are imported when first used, so that `import aeanet` and `aeanet --help` do not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aeanet.evaluation import evaluate
    from aeanet.model import AEANet, build_model, load_model, save_model
    from aeanet.prediction import super_resolve
    from aeanet.registration import register_pair

_HOMES = {
    "AEANet": "model",
    "build_model": "model",
    "evaluate": "evaluation",
    "load_model": "model",
    "register_pair": "registration",
    "save_model": "model",
    "super_resolve": "prediction",
}
__all__ = ["AEANet", "build_model", "evaluate", "load_model", "register_pair", "save_model", "super_resolve"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'aeanet' has no attribute {name!r}")
    return getattr(import_module(f"aeanet.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
