"""A computation in float64, although parts of it cast to a narrower dtype: what results of other
precisions are compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _NothingBelowFloat64(TorchDispatchMode):
    """Every dtype that an operation is asked for, as by `.float()`, is float64, or complex128 where
    it is complex.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        dtype = kwargs.get("dtype")
        if dtype is not None and dtype.is_floating_point:
            kwargs["dtype"] = torch.float64
        elif dtype is not None and dtype.is_complex:
            kwargs["dtype"] = torch.complex128
        return func(*args, **kwargs)


@contextmanager
def everything_in_float64() -> Iterator[None]:
    """New tensors are float64, and no cast leaves it."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _NothingBelowFloat64():
            yield
    finally:
        torch.set_default_dtype(default)


def named_tensors(value: Any) -> dict[str, Tensor]:
    """The floating-point and complex tensors in a nest (see `leaves`), by their places joined with
    dots: "" for a tensor alone, "flow" and "boxes.0" in a dictionary.
    """
    return {name: t for name, t in leaves(value).items() if isinstance(t, Tensor) and _inexact(t)}


def tensors_in(value: Any) -> list[Tensor]:
    """The floating-point and complex tensors in a nest."""
    return list(named_tensors(value).values())


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same nest with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    parts = _parts(value)
    if parts is None:
        return value

    # a container of the same kind, for which a NamedTuple has a constructor of its own
    changed = [map_tensors(change, part) for part in parts.values()]
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(changed)
    if isinstance(value, list | tuple):
        return type(value)(changed)

    # mappings, dataclasses and wrappers: in a copy, so that what is none of the parts stays
    twin = copy.copy(value)
    if isinstance(value, Mapping):
        for key, part in zip(value, changed, strict=True):
            twin[key] = part
    else:
        # a frozen dataclass refuses the ordinary way
        for name, part in zip(parts, changed, strict=True):
            object.__setattr__(twin, name, part)
    return twin


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """What a nest of tuples, lists, dictionaries, dataclasses and wrappers holds, by its place.

    A wrapper is an object that has a tensor as its attribute `tensor`, as e2cnn and escnn have.
    """
    parts = _parts(value)
    if parts is None:
        return {name: value}
    found: dict[str, Any] = {}
    for place, part in parts.items():
        found |= leaves(part, f"{name}.{place}" if name else place)
    return found


def _parts(value: Any) -> dict[str, Any] | None:
    """What a container holds, by key, number or attribute; None for anything else."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, list | tuple):
        names = getattr(value, "_fields", range(len(value)))
        return {str(name): part for name, part in zip(names, value, strict=True)}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(getattr(value, "tensor", None), Tensor):
        return {"tensor": value.tensor}
    return None


def _inexact(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def to_float64(t: Tensor) -> Tensor:
    """In float64, or in complex128 where it is complex."""
    return t.to(torch.complex128 if t.is_complex() else torch.float64)
