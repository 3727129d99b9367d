"""A block as a function of its input and parameters: ours, and the paper's with the map."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import aea_kernels as aea
from aea_kernels import reference

PROJECTIONS = [
    f"{name}.{part}" for name in ("query", "key", "value", "output") for part in ("weight", "bias")
]
OPERATORS = (
    "linear_attention",
    "reference_attention",
    "batch_attention",
    "learned_query_attention",
    "relu_linear_attention",
    "efficient_attention",
    "channel_attention",
)


def block_as_function(block: aea.AugmentedAttention, backend: str) -> Callable[..., Tensor]:
    """The block as a function of x and all its parameters, on a copy whose running statistics may
    move.
    """

    def run(x, *parameters):
        twin = copy.deepcopy(block).to(x.dtype)
        with aea.use_backend(backend):
            names = [name for name, _ in twin.named_parameters()]
            return torch.func.functional_call(twin, dict(zip(names, parameters, strict=True)), (x,))

    return run


def oracle(block: aea.AugmentedAttention, written_out: bool = False) -> Callable[..., Tensor]:
    """The same function by Eqs. 4 and 5 with the attention map; norms other than BN are torch's own
    modules. `written_out`: LayerNorm by its definition, since the forward-mode derivative of
    torch's has no derivative of its own.
    """

    def run(x, *parameters):
        names = [name for name, _ in block.named_parameters()]
        named = dict(zip(names, parameters, strict=True))
        branches = len(x) // 2 if block.training and block.batch_aware else len(x)
        return reference.attention_block(
            x,
            _norm_of(block, named, written_out),
            tuple(named[name] for name in PROJECTIONS),
            named.get("references"),
            heads=block.heads,
            scale=block.scale,
            reference_images=branches,
        )

    return run


def _norm_of(block: aea.AugmentedAttention, named: dict[str, Tensor], written_out: bool):
    """As `reference.attention_block` takes it."""
    norm = block.norm
    own = {n.removeprefix("norm."): p for n, p in named.items() if n.startswith("norm.")}
    if norm is None:
        return None
    if isinstance(norm, nn.BatchNorm2d):
        like = named["query.weight"]
        weight = own.get("weight", like.new_ones(block.channels))
        bias = own.get("bias", like.new_zeros(block.channels))
        if norm.training or norm.running_mean is None:
            return weight, bias, None, None, norm.eps
        running = norm.running_mean.to(like.dtype), norm.running_var.to(like.dtype)
        return weight, bias, *running, norm.eps
    if isinstance(norm, nn.GroupNorm):
        return lambda x: torch.func.functional_call(norm, own, (x,))
    if isinstance(norm, nn.LayerNorm) and written_out:
        return lambda x: _layer_norm(x.movedim(1, -1), own, norm.eps).movedim(-1, 1)
    return lambda x: torch.func.functional_call(norm, own, (x.movedim(1, -1),)).movedim(-1, 1)


def _layer_norm(x: Tensor, parameters: dict[str, Tensor], eps: float) -> Tensor:
    away = x - x.mean(-1, keepdim=True)
    z = away / (away.square().mean(-1, keepdim=True) + eps).sqrt()
    return z * parameters["weight"] + parameters["bias"]


@contextmanager
def by_the_equations() -> Iterator[None]:
    """Blocks, and the operators that are called as attributes of the package, form their maps."""
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATORS:
            patch.setattr(aea, name, getattr(reference, name))

        def forward(block, x):
            return oracle(block, written_out=True)(x, *block.parameters())

        patch.setattr(aea.AugmentedAttention, "forward", forward)
        yield
