"""Modules to put into networks: the augmented equivariant attention block."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from .backends import backend_name
from .block.function import attention_block
from .block.keys import attend_to_keys, moments_of_keys
from .block.modules import norm_of, projections_of
from .block.projected import features
from .block.spec import Norm
from .core.checks import check_device, check_not_traced, check_size, check_type
from .summary import Moments

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

NORM_EPS = 1.001e-5
NORM_MOMENTUM = 0.003


class AugmentedAttention(nn.Module):
    """The augmented equivariant attention block of Xie, Ding & Ji (Section 5.1, Fig. 3), residual
    included.

    ``y = x + output(attention(q(z), k(z), v(z)))`` with ``z = ReLU6(BN(x))``, or another norm of x.
    In training, BN sees the whole batch, then the first floor(N/2) images attend to themselves and
    the shared references (Eq. 4), the others to each other (Eq. 5). In prediction every image
    attends to itself and the references.

    BN can be frozen by itself, as anywhere: ``block.norm.eval()`` makes training use its running
    statistics. Norm and projections are not called: their parameters are read, so hooks on them do
    not run, and modules that do more when they are called are refused.

    Time grows linearly with the number of positions, and beyond x nothing of its size is kept for
    backward.

    An image too large to be one feature map is attended to exactly in two passes over its tiles:
    add up ``moments`` of all of them, assign the sum to ``keys``, and call the block on each; see
    `aeanet.inference.tiling`.

    GroupNorm, LayerNorm and RMSNorm cost no pass of their own (`norms.py`). With the Triton kernels
    and more than 128 channels, LayerNorm and RMSNorm take the route through queries, keys and
    values.

    Args:
        channels: C of the feature map.
        heads: attention heads H; key and value channels are split evenly among them.
        references: R, the number of learnable shared references; 0 for none.
        batch_aware: train half of the batch with Eq. 5; with ``references=0`` and False this is
            plain self-attention.
        key_channels, value_channels: over all heads; `channels` by default.
        norm: before the projections. "batch": BN and ReLU6, the paper's; "group", "layer" or "rms":
            GroupNorm, or LayerNorm or RMSNorm over the channels of each position, without an
            activation; None: nothing. The module
            of torch.nn is ``block.norm``, and another of these may be put in its place.
        groups: of channels, in GroupNorm.
        group: process group over which, in training, the batch-aware half pools its keys, and BN
            its statistics: N processes train as one with all their images (batches of one size; a
            mean over processes is the mean loss).

    Attributes:
        norm: the module of torch.nn named above, None without a norm.
        query, key, value, output: the projections, `nn.Linear`.
        references: the learned parameter (R, C), None where R is 0.
        keys: in prediction, attend to these ``moments`` (of N or 1 images) instead of those of x;
            with GroupNorm they give its mean and variance too. None, the default: to x itself.

    Raises:
        ValueError: a size that is not positive, channels that the heads or groups do not divide, or
            an unknown norm.
    """

    norm: nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm | None
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
        norm: str | None = "batch",
        groups: int = 32,
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__()

        # heads come first: key and value channels are divided among them
        for name, size in {"channels": channels, "heads": heads}.items():
            check_size(name, size)
        check_size("references", references, 0)

        # an error names what was given: `channels`, where these follow it
        for name, given in {"key_channels": key_channels, "value_channels": value_channels}.items():
            name, size = ("channels", channels) if given is None else (name, given)
            check_size(name, size)
            if size % heads:
                raise ValueError(
                    f"{name} is {size}, expected a positive multiple of heads = {heads}"
                )

        # a head has E = key_channels / heads channels of keys; E ** -0.5 is the paper's scale
        key_channels = channels if key_channels is None else key_channels
        value_channels = channels if value_channels is None else value_channels
        self.channels, self.heads, self.batch_aware, self.group = (
            channels,
            heads,
            batch_aware,
            group,
        )
        self.scale = (key_channels // heads) ** -0.5

        # the forward pass reads the parameters of these modules and calls none of them
        self.norm = _norm_module(norm, channels, groups)
        self.query = nn.Linear(channels, key_channels)
        self.key = nn.Linear(channels, key_channels)
        self.value = nn.Linear(channels, value_channels)
        self.output = nn.Linear(value_channels, channels)

        # in the space of z: key and value project the references as they are, without the norm
        if references:
            self.references = nn.Parameter(torch.empty(references, channels))
        else:
            self.register_parameter("references", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections Glorot-uniform with zero biases; references uniform within sqrt(6 / (R + C));
        BN as new.
        """
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
            ValueError: x has another number of channels or axes, or `keys` do not fit.
            TypeError: x has a dtype that is not floating point, or a module of the block was
                replaced by another kind, or is sharded apart from the block.
        """
        self._check(x)

        # keys summarised before, such as those of a whole image of which x is a tile
        if self.keys is not None:
            return self._attend_to_keys(x, self.keys)

        # in training the first half of the images takes A_R (Eq. 4), the others A_batch (Eq. 5)
        half = x.shape[0] // 2 if self.training and self.batch_aware else None
        y, mean, variance = attention_block(
            x,
            self._norm(x.dtype),
            projections_of(self),
            self.references,
            heads=self.heads,
            scale=self.scale,
            reference_images=half,
            group=self.group if self.training else None,
        )

        # BN's running statistics follow those of this batch, which are of all processes together
        if mean is not None and variance is not None and x.numel():
            assert isinstance(self.norm, nn.BatchNorm2d)  # nothing else takes statistics of x
            processes = 1 if self.group is None else self.group.size()
            number = processes * (x.numel() // self.channels)
            update_running_statistics(self.norm, mean, variance, number)
        return y

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> Moments:
        """`moments` of x, or of its rows and columns `core`: what `keys` takes, added over
        tiles.
        """
        return self.moments(x if core is None else x[(..., *core)])

    @torch.no_grad()
    def moments(self, x: Tensor) -> Moments:
        """What the block has to know of the keys in x (N, C, *spatial): moments of z, with BN's
        running statistics.

        With GroupNorm, which needs the whole image for z, they are those of x, in float64 so as to
        keep their digits where the mean is large. They add over tiles, images and processes; for
        prediction, no derivatives are recorded.

        Raises:
            ValueError, TypeError: as `forward`.
        """
        self._check(x)
        return Moments(moments_of_keys(x, self._norm(x.dtype, running=True), backend_name()))

    def relevance(self, x: Tensor) -> Tensor:
        """``q(z) . k(R)`` at every position, (N, R, *spatial): the heat maps of Fig. 5, with BN's
        running statistics.

        Raises:
            ValueError: the block has no references, or x does not fit.
            TypeError: as `forward`.
        """
        self._check(x)
        if self.references is None:
            raise ValueError("this block has no references, so there is no relevance to show")

        # k(R) . q(z) is one matrix and a constant applied to z: no query is formed
        z, _, _ = features(x, self._norm(x.dtype, running=True))
        given = projections_of(self)
        keys = torch.nn.functional.linear(self.references, given.key_weight, given.key_bias)
        matrix = (keys @ given.query_weight).to(z.dtype)  # (R, C)
        constant = (keys @ given.query_bias).to(z.dtype)  # (R,)
        return (matrix @ z + constant[:, None]).unflatten(2, x.shape[2:])

    def _attend_to_keys(self, x: Tensor, keys: Moments) -> Tensor:
        """`forward` where `keys` are set."""
        if self.training:
            raise ValueError(
                "keys are set, and the block is in training mode: they are for prediction"
            )

        # moments (1 or N, C+1, C+1): those of one image serve the whole batch
        if not isinstance(keys, Moments) or keys.gram.dim() != 3:
            given = type(keys).__name__
            raise ValueError(f"keys are a {given}, expected the Moments of feature maps, `moments`")
        check_device("keys.gram", keys.gram, x)
        images, width = keys.gram.shape[0], self.channels + 1
        if keys.gram.shape[1:] != (width, width) or images not in (1, len(x)):
            expected = "1 image" if len(x) == 1 else f"1 or {len(x)} images"
            raise ValueError(
                f"keys are of {images} images with {keys.gram.shape[-1] - 1} channels, "
                f"expected {expected} with {self.channels} channels"
            )

        # BN's running statistics, whatever its mode: those of a tile are not its image's
        return attend_to_keys(
            x,
            keys.gram,
            self._norm(x.dtype, running=True),
            projections_of(self),
            self.references,
            self.heads,
            self.scale,
            backend_name(),
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """As of any module; the copy has the same process group, which cannot be copied."""
        twin = self.__new__(type(self))
        memo |= {id(self): twin, id(self.group): self.group}
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def extra_repr(self) -> str:
        references = 0 if self.references is None else len(self.references)
        options = f"references={references}, batch_aware={self.batch_aware}"
        return f"{self.channels}, heads={self.heads}, {options}"

    def _check(self, x: Tensor) -> None:
        check_not_traced()
        check_type("x", x)
        if not 3 <= x.dim() <= 5 or x.shape[1] != self.channels:
            expected = f"(N, {self.channels}, *spatial) with 1, 2 or 3 spatial axes"
            raise ValueError(f"x is {tuple(x.shape)}, expected {expected}")
        weight = self.query.weight
        if isinstance(weight, Tensor) and x.device != weight.device:
            raise ValueError(
                f"x is on {x.device}, expected {weight.device} as the weights of the block"
            )

    def _norm(self, dtype: torch.dtype, *, running: bool = False) -> Norm:
        """`norm` for a feature map of `dtype`; `running`: with BN's running statistics whatever its
        mode.
        """
        return norm_of(self.norm, self.channels, self.query.weight, dtype, running=running)


def _norm_module(
    norm: str | None, channels: int, groups: int
) -> nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm | None:
    if norm == "group":
        check_size("groups", groups)
        if channels % groups:
            raise ValueError(f"groups is {groups}, expected a divisor of channels = {channels}")
        return nn.GroupNorm(groups, channels)

    # over the channels of each position
    if norm == "layer":
        return nn.LayerNorm(channels)
    if norm == "rms":
        return nn.RMSNorm(channels)

    # the paper's; ReLU6 after it is no module
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
    if norm is not None:
        raise ValueError(f"norm is {norm!r}, expected 'batch', 'group', 'layer', 'rms' or None")
    return None


@torch.no_grad()
def update_running_statistics(
    norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, number: int
) -> None:
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
