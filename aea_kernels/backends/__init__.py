"""The backends: one file or folder each, never importing one another, and the choice between them."""

from __future__ import annotations

import os
from contextvars import ContextVar, Token
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, TracebackType

import torch

from . import eager

BACKENDS = ("auto", "eager", "triton", "naive")
_chosen: ContextVar[str] = ContextVar("aea_backend", default="auto")


class use_backend:
    """Choose who computes: ``"auto"``, ``"eager"``, ``"triton"`` or ``"naive"``.

    "auto" is eager: the Triton kernels agree with it in the interpreter but have yet to run on a device.

    As a function, ``use_backend("eager")``, it holds from then on; as a context manager,
    ``with use_backend("naive"):``, until the end of the block. There is no silent fallback: a backend that cannot run
    raises when it is asked to.

    Raises:
        ValueError: the name is not one of the four.
    """

    def __init__(self, name: str) -> None:
        if name not in BACKENDS:
            raise ValueError(f"backend is {name!r}, expected one of {', '.join(map(repr, BACKENDS))}")
        self._token: Token[str] = _chosen.set(name)

    def __enter__(self) -> use_backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _chosen.reset(self._token)


def backend_name(device: torch.device) -> str:
    """The backend that computes on `device` now: what was asked for, "auto" resolved.

    Raises:
        RuntimeError: the backend asked for cannot run here.
    """
    name = _chosen.get()
    obstacle = _no_triton(device) if name == "triton" else None
    if obstacle is not None:
        raise RuntimeError(f"backend 'triton' cannot run on {device}: {obstacle}")
    return "eager" if name == "auto" else name


def _no_triton(device: torch.device) -> str | None:
    """Why Triton cannot run on `device`, None if it can."""
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return "it needs a CUDA device, or TRITON_INTERPRET=1 in the environment before the first import of triton"
    return None


def primitives(device: torch.device) -> ModuleType:
    """The module of primitives for `device`; "naive" has none and is routed before this is asked."""
    return eager if backend_name(device) == "eager" else import_module(".triton", __name__)
