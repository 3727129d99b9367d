"""What the block is made of besides its feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Norm(NamedTuple):
    """What x passes before the projections, z = norm(x).

    "batch" is BN and ReLU6, ``z = ReLU6(weight (x - mean) / sqrt(variance + eps) + bias)``. The
    others have no activation: "group" is GroupNorm, "layer" and "rms" are LayerNorm and RMSNorm
    over the channels of each position, all as in PyTorch, and "none" is z = x.
    """

    kind: str = "none"
    weight: Tensor | None = None
    """(C,); None: ones, except with "batch", which needs it."""
    bias: Tensor | None = None
    """(C,); None: zeros, except with "batch", which needs it."""
    mean: Tensor | None = None
    """Of "batch", (C,). None: mean and variance come from x, over batch and space."""
    variance: Tensor | None = None
    """Of "batch", (C,), biased."""
    eps: float = 0.0
    groups: int = 1
    """Of channels, with "group"."""


class Prologue(NamedTuple):
    """What a kernel does to a tile of x before a product: the part of a norm that the moments
    cannot tell.

    The primitives of `core/ops.py` take it as three arguments. `norms.py` has the table.
    """

    kind: str
    """As in `Norm`."""
    parameters: list[Tensor]
    """"batch": weight, bias, mean, variance, (C,) each; "group": the pivots, (B, C); else empty."""
    eps: float


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


class BlockSpec(NamedTuple):
    """What of the block is not a tensor."""

    heads: int
    scale: float
    reference_images: int | None
    """How many images, from the first, take the reference branch; the others share their keys
    (Section 5.1). None: all, without their number: torch.export(strict=True) fails where a size of
    x goes into an autograd Function beside x.
    """
    norm: tuple[str, float, int]
    """Kind, eps and groups of `Norm`."""
    batch_statistics: bool
    """BN's mean and variance come from x."""
    group: ProcessGroup | None
    """The processes over which the batch-aware keys and BN's statistics are pooled."""
    backend: str
