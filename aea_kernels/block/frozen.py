"""What follows from frozen weights alone: computed once, and kept until one of them changes."""

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
    products: folding.Products


_kept = WeakTensorKeyDictionary()
"""By the first of the weights."""


def known_of_weights(
    projections: Projections, heads: int, x: Tensor, backend: str
) -> folding.Products | Projections:
    """The products of the projections, from an earlier call where no weight has changed since; the
    projections themselves where products are not to be kept.

    They are kept for the Triton kernels, of weights that need no gradient, and not in a CUDA graph,
    which is to see weights that change later. Numbers written through ``weight.data`` are not
    noticed.
    """
    if torch.compiler.is_compiling() or heads > MOST_HEADS or not _frozen(projections):
        return projections
    if resolved(backend, x.device) != "triton" or capturing(x.device):
        return projections
    setting = heads, acc_dtype(x.dtype), _stream(x.device)
    kept = _kept.get(projections.query_weight)
    if kept is not None and kept.setting == setting:
        pairs = zip(kept.weights, projections, strict=True)
        if all(weight.same_as(now) for weight, now in pairs):
            return kept.products

    with torch.no_grad(), torch.inference_mode(False):
        found = folding.products(projections, heads, acc_dtype(x.dtype))
        weights = [Weight(weakref.ref(t), t.detach(), _state(t)) for t in projections]
    _kept[projections.query_weight] = Kept(weights, setting, found)
    return found


def _frozen(projections: Sequence[Tensor]) -> bool:
    for weight in projections:
        # a tensor made in inference mode counts no versions, and a subclass may mean anything
        if type(weight) not in (Tensor, Parameter) or weight.requires_grad or weight.is_inference():
            return False
    return True


def _stream(device: torch.device) -> int:
    """Where the products are computed: another stream may not wait for that."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
