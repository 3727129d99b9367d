"""Modules to put into networks: the augmented equivariant attention block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import folding, ops
from .backends import backend_name
from .functional import attention_block
from .layout import acc_dtype
from .parameters import Norm, Projections
from .summary import Moments

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

NORM_EPS = 1.001e-5
NORM_MOMENTUM = 0.003


class AugmentedAttention(nn.Module):
    """The augmented equivariant attention block of Xie, Ding & Ji (Section 5.1, Fig. 3), residual included.

    ``y = x + output(attention(q(z), k(z), v(z)))`` with ``z = ReLU6(BN(x))``. In training, BN sees the whole batch,
    then the first floor(N/2) images attend to themselves and the shared references (Eq. 4), the others to each other
    (Eq. 5). In prediction every image attends to itself and the references.

    BN can be frozen by itself, as anywhere: ``block.norm.eval()`` makes training use its running statistics.

    Time grows linearly with the number of positions, and beyond x nothing of its size is kept for backward.

    An image too large to be one feature map is attended to exactly in two passes over its tiles: add up ``moments`` of
    all of them, assign the sum to ``keys``, and call the block on each; see `aeanet.inference.tiling`.

    Args:
        channels: C of the feature map.
        heads: attention heads H; key and value channels are split evenly among them.
        references: R, the number of learnable shared references; 0 for none.
        batch_aware: train half of the batch with Eq. 5; with ``references=0`` and False this is plain self-attention.
        key_channels, value_channels: over all heads; `channels` by default.
        norm: BN and ReLU6 before the projections.
        group: process group over which, in training, the batch-aware half pools its keys, and BN its statistics: N
            processes train as one with all their images (batches of one size; a mean over processes is the mean loss).

    Attributes:
        keys: in prediction, attend to these moments (of z, N or 1 images) instead of those of x; None, the default:
            to x itself.

    Raises:
        ValueError: a size that is not positive, or channels that the heads do not divide.
    """

    references: nn.Parameter | None
    keys: Moments | None = None

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 2,
        references: int = 64,
        batch_aware: bool = True,
        key_channels: int | None = None,
        value_channels: int | None = None,
        norm: bool = True,
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        key_channels = channels if key_channels is None else key_channels
        value_channels = channels if value_channels is None else value_channels
        for name, size in {"channels": channels, "heads": heads}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, expected at least 1")
        if references < 0:
            raise ValueError(f"references is {references}, expected 0 or more")
        for name, size in {"key_channels": key_channels, "value_channels": value_channels}.items():
            if size < 1 or size % heads:
                raise ValueError(f"{name} is {size}, expected a positive multiple of heads = {heads}")
        self.channels, self.heads, self.batch_aware, self.group = channels, heads, batch_aware, group
        self.scale = (key_channels // heads) ** -0.5
        self.norm = nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=NORM_MOMENTUM) if norm else None
        self.query = nn.Linear(channels, key_channels)
        self.key = nn.Linear(channels, key_channels)
        self.value = nn.Linear(channels, value_channels)
        self.output = nn.Linear(value_channels, channels)
        if references:
            self.references = nn.Parameter(torch.empty(references, channels))
        else:
            self.register_parameter("references", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections Glorot-uniform with zero biases; references uniform within sqrt(6 / (R + C)); BN as new."""
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
        if self.references is not None:
            bound = math.sqrt(6 / (len(self.references) + self.channels))
            nn.init.uniform_(self.references, -bound, bound)
        if self.norm is not None:
            self.norm.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *spatial), 1, 2 or 3 spatial axes, any strides -> the same shape and dtype.

        Raises:
            ValueError, TypeError: x has another number of channels or axes, or a dtype that is not floating point.
        """
        self._check(x)
        if self.keys is not None:
            return self._attend_to(self.keys, x)
        reference_images = x.shape[0] // 2 if self.training and self.batch_aware else x.shape[0]
        y, mean, variance = attention_block(
            x,
            self._norm(batch_statistics=self.norm is not None and self.norm.training),
            self._projections(),
            self.references,
            heads=self.heads,
            scale=self.scale,
            reference_images=reference_images,
            group=self.group if self.training else None,
        )
        if self.norm is not None and mean is not None and variance is not None and x.numel():
            processes = 1 if self.group is None else self.group.size()
            update_running_statistics(self.norm, mean, variance, processes * (x.numel() // self.channels))
        return y

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> Moments:
        """`moments` of x, or of its rows and columns `core`: what `keys` takes, added over tiles."""
        return self.moments(x if core is None else x[(..., *core)])

    @torch.no_grad()
    def moments(self, x: Tensor) -> Moments:
        """What the block has to know of the keys in x (N, C, *spatial): moments of z, with BN's running statistics.

        They add over tiles, images and processes; for prediction, no derivatives are recorded.

        Raises:
            ValueError, TypeError: as `forward`.
        """
        self._check(x)
        return Moments(ops.moments(x, *self._running_norm(), None, x.shape[0], self._primitives()))

    def relevance(self, x: Tensor) -> Tensor:
        """``q(z) . k(R)`` at every position, (N, R, *spatial): the heat maps of Fig. 5, with BN's running statistics.

        Raises:
            ValueError: the block has no references, or x does not fit.
        """
        self._check(x)
        if self.references is None:
            raise ValueError("this block has no references, so there is no relevance to show")
        z = x.flatten(2)
        if self.norm is not None:
            norm = self.norm
            z = nn.functional.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
            z = nn.functional.relu6(z)
        matrix = self.key(self.references) @ self.query.weight  # (R, C)
        constant = self.key(self.references) @ self.query.bias  # (R,)
        return (matrix @ z + constant[:, None]).unflatten(2, x.shape[2:])

    @torch.no_grad()
    def _attend_to(self, keys: Moments, x: Tensor) -> Tensor:
        if self.training:
            raise ValueError("keys are set, and the block is in training mode: they are for prediction")
        images, width = keys.gram.shape[0], self.channels + 1
        if keys.gram.shape[1:] != (width, width) or images not in (1, len(x)):
            raise ValueError(
                f"keys are of {images} images with {keys.gram.shape[-1] - 1} channels, "
                f"expected 1 or {len(x)} images with {self.channels} channels"
            )
        gram = keys.gram.to(acc_dtype(x.dtype))
        with torch.autocast(x.device.type, enabled=False):  # as inside the operators
            gram = folding.add_references(gram, self.references, len(gram))
        norm, eps = self._running_norm()
        projections, scale = self._projections(), self.scale
        return ops.attend_to_moments(x, norm, eps, gram, projections, self.heads, scale, self._primitives())[0]

    def _running_norm(self) -> tuple[list[Tensor], float]:
        norm = self.norm
        if norm is None:
            return [], 0.0
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("BN keeps no running statistics, so tiles would each be normalised by their own")
        return [norm.weight, norm.bias, norm.running_mean, norm.running_var], norm.eps

    @staticmethod
    def _primitives() -> str:
        """The backend, or where it is the oracle, which has no primitives, PyTorch's."""
        return "eager" if backend_name() == "naive" else backend_name()

    def extra_repr(self) -> str:
        references = 0 if self.references is None else len(self.references)
        return f"{self.channels}, heads={self.heads}, references={references}, batch_aware={self.batch_aware}"

    def _check(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or x.dim() < 3 or x.shape[1] != self.channels:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x is {got}, expected (N, {self.channels}, *spatial) with 1, 2 or 3 spatial axes")

    def _norm(self, *, batch_statistics: bool) -> Norm | None:
        norm = self.norm
        if norm is None:
            return None
        if batch_statistics or norm.running_mean is None or norm.running_var is None:
            return Norm(norm.weight, norm.bias, None, None, norm.eps)
        return Norm(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)

    def _projections(self) -> Projections:
        linear = (self.query, self.key, self.value, self.output)
        return Projections(*(t for projection in linear for t in (projection.weight, projection.bias)))


@torch.no_grad()
def update_running_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, number: int) -> None:
    """As torch.nn.BatchNorm2d: unbiased variance, cumulative average where momentum is None.

    Args:
        norm: BN; one that keeps no running statistics stays as it is.
        mean, variance: of a batch, (C,), biased.
        number: of positions they are of.
    """
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    factor = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
    unbiased = variance * (number / max(number - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), factor)
