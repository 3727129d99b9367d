"""The backends: one file or folder each, never importing one another, and the choice between them."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import ModuleType, TracebackType

import torch

from . import eager

BACKENDS = ("auto", "eager", "triton", "naive")
_chosen: ContextVar[str] = ContextVar("aea_backend", default="auto")


class use_backend:
    """Choose who computes: ``"auto"``, ``"eager"``, ``"triton"`` or ``"naive"``.

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
    if name == "triton":
        raise RuntimeError(f"backend 'triton' cannot run on {device}: this version has no Triton kernels yet")
    return "eager" if name == "auto" else name


def primitives(device: torch.device) -> ModuleType:
    """The module of primitives for `device`; "naive" has none and is routed before this is asked."""
    assert backend_name(device) == "eager"
    return eager
