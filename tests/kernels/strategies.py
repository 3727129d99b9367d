"""What hypothesis draws: tensors in every layout a caller may hold, and blocks of every configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import aea_kernels as aea

EXAMPLES = {"eager": 40, "triton": 6}
"""Of every property; the interpreter is a thousand times slower than a kernel."""


def for_all(
    interpreted: int = EXAMPLES["triton"], **strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`hypothesis.given` with as many examples as suit the backend under test: `interpreted` for "triton"."""
    examples = EXAMPLES | {"triton": interpreted}

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        runs = {name: settings(max_examples=n)(given(**strategies)(test)) for name, n in examples.items()}
        fixtures = dict(inspect.signature(runs["eager"]).parameters)
        named = "backend" in fixtures

        def run(backend: str, **arguments: Any) -> None:
            runs[backend](**arguments, **({"backend": backend} if named else {}))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        fixtures["backend"] = inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in fixtures.values()]
        )
        return run

    return decorate


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Standard normal, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
    return drawn.to(torch.get_default_device(), dtype)


LAYOUTS = ("contiguous", "channels_last", "sliced", "transposed", "expanded")


@st.composite
def tensors(draw, shape: tuple[int, ...], dtype=torch.float64, layouts=LAYOUTS, requires_grad=False) -> Tensor:
    """A tensor of `shape` whose strides are drawn too; values standard normal."""
    layout, seed = draw(st.sampled_from(layouts)), draw(st.integers(0, 2**16))
    if layout == "channels_last":
        x = normal(shape[0], *shape[2:], shape[1], dtype=dtype, seed=seed).movedim(-1, 1)
    elif layout == "sliced":
        x = normal(*(2 * n + 1 for n in shape), dtype=dtype, seed=seed)[tuple(slice(1, 2 * n, 2) for n in shape)]
    elif layout == "transposed":
        x = normal(*reversed(shape), dtype=dtype, seed=seed).permute(*reversed(range(len(shape))))
    elif layout == "expanded":
        x = normal(1, *shape[1:], dtype=dtype, seed=seed).expand(shape)
    else:
        x = normal(*shape, dtype=dtype, seed=seed)
    return x.requires_grad_(requires_grad)


def spatial_shapes(max_axes: int = 3, max_side: int = 7) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, max_side), min_size=1, max_size=max_axes).map(tuple)


@st.composite
def blocks(draw, dtype=torch.float64) -> aea.AugmentedAttention:
    """A block with weights, biases, BN and running statistics all away from their initial values."""
    heads = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 9))
    block = aea.AugmentedAttention(
        channels,
        heads=heads,
        references=draw(st.sampled_from([0, 1, 5])),
        batch_aware=draw(st.booleans()),
        key_channels=heads * draw(st.integers(1, 4)),
        value_channels=heads * draw(st.integers(1, 4)),
        norm=draw(st.booleans()),
    )
    seed = draw(st.integers(0, 2**16))
    with torch.no_grad():
        for i, parameter in enumerate(block.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed + i) / math.sqrt(channels))
        if block.norm is not None:
            block.norm.weight.add_(1.5)
            block.norm.bias.add_(1.0)
            block.norm.running_mean.copy_(normal(channels, seed=seed + 100))
            block.norm.running_var.copy_(0.5 + normal(channels, seed=seed + 101).abs())
    return block.to(dtype)
