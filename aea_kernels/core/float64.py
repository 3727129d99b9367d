"""A computation in float64, although parts of it cast to a narrower dtype: what results of other
precisions are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class _NothingBelowFloat64(TorchDispatchMode):
    """Every floating-point dtype that an operation is asked for, as by `.float()`, is float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        dtype = kwargs.get("dtype")
        if dtype is not None and dtype.is_floating_point:
            kwargs["dtype"] = torch.float64
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


def tensors_in(value: Any) -> list[Tensor]:
    """The floating-point tensors in a nest of tuples, lists and dictionaries."""
    leaves = tree_leaves(value)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same nest with every tensor changed."""
    return tree_map_only(Tensor, change, value)
