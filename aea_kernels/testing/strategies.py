"""hypothesis strategies: feature maps in every layout a caller may hold, elements of groups,
attention blocks.

from hypothesis import given
from aea_kernels.testing import strategies

@given(x=strategies.feature_maps(channels=32))
def test_my_block(x): ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from ..nn import AugmentedAttention
from .symmetry import Element, Group

LAYOUTS = ("contiguous", "channels_last", "sliced", "transposed", "expanded")
NORMS = ("batch", "group", "layer", "rms", None)
Size = int | st.SearchStrategy[int] | None
Draw = Callable[[st.SearchStrategy[Any]], Any]


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Standard normal values, the same on every device, on torch's default device."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
    return drawn.to(torch.get_default_device(), dtype)


@st.composite
def tensors(
    draw: Draw,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    layouts: Sequence[str] = LAYOUTS,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `shape` whose strides are drawn from the named layouts; values standard
    normal.
    """
    # the shape is always the one asked for; how it lies in memory differs
    layout, seed = draw(st.sampled_from(layouts)), draw(st.integers(0, 2**16))
    if layout == "channels_last":
        x = normal(shape[0], *shape[2:], shape[1], dtype=dtype, seed=seed).movedim(-1, 1)
    elif layout == "sliced":
        # every other number of a larger tensor, without its first and last
        x = normal(*(2 * n + 1 for n in shape), dtype=dtype, seed=seed)[
            tuple(slice(1, 2 * n, 2) for n in shape)
        ]
    elif layout == "transposed":
        x = normal(*reversed(shape), dtype=dtype, seed=seed).permute(*reversed(range(len(shape))))
    elif layout == "expanded":
        # images with a stride of 0
        x = normal(1, *shape[1:], dtype=dtype, seed=seed).expand(shape)
    else:
        x = normal(*shape, dtype=dtype, seed=seed)
    return x.requires_grad_(requires_grad)


def spatial_shapes(
    max_axes: int = 3, max_side: int = 7, min_axes: int = 1
) -> st.SearchStrategy[tuple[int, ...]]:
    """Sizes along one to three axes of positions."""
    return st.lists(st.integers(1, max_side), min_size=min_axes, max_size=max_axes).map(tuple)


@st.composite
def feature_maps(
    draw: Draw,
    channels: Size = None,
    images: Size = None,
    spatial: tuple[int, ...] | st.SearchStrategy[tuple[int, ...]] | None = None,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
    layouts: Sequence[str] = LAYOUTS,
) -> Tensor:
    """(N, C, *spatial) of drawn shape, dtype and strides.

    Args:
        channels, images: a number or a strategy; 1 to 8 and 1 to 3 by default.
        spatial: sizes or a strategy; one to three axes of 1 to 7 positions by default.
        dtypes, layouts: to draw from.
    """
    shape = (
        _drawn(draw, images, st.integers(1, 3)),
        _drawn(draw, channels, st.integers(1, 8)),
        *_drawn(draw, spatial, spatial_shapes()),
    )
    return draw(tensors(shape, dtype=draw(st.sampled_from(dtypes)), layouts=layouts))


@st.composite
def group_elements(draw: Draw, group: Group, shape: Sequence[int]) -> Element:
    """An element of the group, not the identity, for an input (N, C, *spatial) of this shape."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return draw(st.sampled_from(group.elements(shape, generator)))


@st.composite
def attention_blocks(
    draw: Draw, dtype: torch.dtype = torch.float64, norms: Sequence[str | None] = NORMS
) -> AugmentedAttention:
    """A block with weights, biases, BN and running statistics all away from their initial values.

    Args:
        norms: to draw from.
    """
    # sizes that divide: heads those of keys and values, groups the channels
    heads = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 9))
    norm = draw(st.sampled_from(norms))
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]

    # norm, references and the batch-aware branch: each may be missing
    block = AugmentedAttention(
        channels,
        heads=heads,
        references=draw(st.sampled_from([0, 1, 5])),
        batch_aware=draw(st.booleans()),
        key_channels=heads * draw(st.integers(1, 4)),
        value_channels=heads * draw(st.sampled_from([1, 2, 3, 4, 18])),
        norm=norm,
        groups=draw(st.sampled_from(divisors)) if norm == "group" else 32,
    )

    # away from the initial ones and zeros, which hide faults; weights of norms stay positive enough
    seed = draw(st.integers(0, 2**16))
    with torch.no_grad():
        for i, (name, parameter) in enumerate(block.named_parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed + i) / math.sqrt(channels))
            parameter.add_({"norm.weight": 1.5, "norm.bias": 1.0}.get(name, 0.0))

        # running statistics, of which the variance has to be positive
        for name, buffer in block.named_buffers():
            if name == "norm.running_mean":
                buffer.copy_(normal(channels, seed=seed + 100))
            elif name == "norm.running_var":
                buffer.copy_(0.5 + normal(channels, seed=seed + 101).abs())
    return block.to(dtype)


def _drawn(draw: Draw, value: Any, default: st.SearchStrategy[Any]) -> Any:
    value = default if value is None else value
    return draw(value) if isinstance(value, st.SearchStrategy) else value
