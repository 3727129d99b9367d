"""What follows from frozen weights alone: kept from the second call on, until one changes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.weak import WeakTensorKeyDictionary

from ..backends import resolved
from ..backends.selfcheck import capturing
from ..core.dtypes import acc_dtype
from . import folding
from .spec import Projections

MOST_HEADS = 2
"""Of more heads the products are larger than the projections, and take longer to apply."""


class Weight(NamedTuple):
    """A weight as it was."""

    tensor: weakref.ref[Tensor]
    memory: Tensor
    """The same numbers: while they are kept, no others come to lie at their address."""
    state: tuple[Any, ...]

    def same_as(self, now: Tensor) -> bool:
        return self.tensor() is now and self.state == _state(now)


def _state(weight: Tensor) -> tuple[Any, ...]:
    """What differs once a weight was changed in place, moved, or given other numbers."""
    return weight._version, weight.data_ptr(), weight.stride(), weight.dtype


class Kept(NamedTuple):
    """Products, and what they were made of."""

    weights: list[Weight]
    setting: tuple[int, torch.dtype, int]
    """Heads, dtype of the products, and the stream that computed them."""
    products: folding.Products | None
    """None after one call: the second computes them. So the kernel that a CUDA graph takes was
    launched before, and weights that change at every call cost nothing."""


_kept = WeakTensorKeyDictionary()
"""By the first of the weights."""


def known_of_weights(
    projections: Projections, heads: int, x: Tensor, backend: str
) -> folding.Products | Projections:
    """The products of the projections, where no weight has changed since an earlier call; else the
    projections themselves.

    They are kept for the Triton kernels, of weights that need no gradient, and not in a CUDA graph,
    which is to see weights that change later. Numbers written through ``weight.data`` are not
    noticed.
    """
    if torch.compiler.is_compiling() or heads > MOST_HEADS or not _frozen(projections):
        return projections
    if resolved(backend, x.device) != "triton" or capturing(x.device):
        return projections
    dtype, first = acc_dtype(x.dtype), projections.query_weight
    setting = heads, dtype, _stream(x.device)
    kept = _kept.get(first)
    if kept is None or kept.setting != setting or not _unchanged(kept.weights, projections):
        weights = [Weight(weakref.ref(t), t.detach(), _state(t)) for t in projections]
        _kept[first] = Kept(weights, setting, None)
        return projections
    if kept.products is None:
        with torch.no_grad(), torch.inference_mode(False):
            kept = kept._replace(products=folding.products(projections, heads, dtype))
        _kept[first] = kept
    return kept.products


def _unchanged(weights: Sequence[Weight], projections: Sequence[Tensor]) -> bool:
    pairs = zip(weights, projections, strict=True)
    return all(weight.same_as(now) for weight, now in pairs)


def _frozen(projections: Sequence[Tensor]) -> bool:
    for weight in projections:
        # a tensor made in inference mode counts no versions, and a subclass may mean anything
        if type(weight) not in (Tensor, Parameter) or weight.requires_grad or weight.is_inference():
            return False
    return True


def _stream(device: torch.device) -> int:
    """Where the products are computed: another stream may not wait for that."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
