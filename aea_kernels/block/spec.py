"""What the block is made of besides its feature map, in the order in which it is handed about."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Norm(NamedTuple):
    """BN and ReLU6 before the projections: ``z = ReLU6(weight (x - mean) / sqrt(variance + eps) +
    bias)``, (C,) each.

    Mean and variance None: they come from x, over batch and space.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor | None
    variance: Tensor | None
    eps: float


class ChannelNorm(NamedTuple):
    """A norm before the projections without an activation after it: GroupNorm, LayerNorm or
    RMSNorm, as in PyTorch.

    LayerNorm and RMSNorm run over the channels of each position.
    """

    kind: str
    """"group", "layer" or "rms"."""
    weight: Tensor | None  # (C,); None: ones
    bias: Tensor | None  # (C,); None: zeros
    eps: float
    groups: int
    """Of channels, in GroupNorm."""


class Projections(NamedTuple):
    """The four 1x1 projections: weights (out, in) and biases (out,)."""

    query_weight: Tensor  # (H * E, C)
    query_bias: Tensor
    key_weight: Tensor  # (H * E, C)
    key_bias: Tensor
    value_weight: Tensor  # (H * D, C)
    value_bias: Tensor
    output_weight: Tensor  # (O, H * D)
    output_bias: Tensor
