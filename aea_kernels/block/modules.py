"""What the block reads of the modules that it holds: parameters and settings. It calls none of
them, so one that does more when it is called is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.checks import check_whole, is_recomputed
from ..core.dtypes import acc_dtype
from .spec import Norm, Projections

_READ = "the block reads it and does not call it"


def norm_of(
    norm: nn.Module | None, channels: int, like: Tensor, dtype: torch.dtype, *, running: bool
) -> Norm:
    """A module of torch.nn as the block's norm, for a feature map of `dtype`.

    Args:
        norm: see `AugmentedAttention`.
        channels: of the feature map.
        like: a weight of the block, for ones and zeros where BN has no weight and bias.
        running: take BN's running statistics whatever its mode.

    Raises:
        TypeError: it is another module, does more when it is called, or is sharded.
        ValueError: it is for another number of channels, or running statistics are asked for, and
            BN keeps none.
    """
    if norm is None or isinstance(norm, nn.Identity):
        return Norm()
    check_whole("norm.weight", getattr(norm, "weight", None))

    # without an activation after them; weight and bias may be None
    if isinstance(norm, nn.GroupNorm):
        _check_norm(norm, nn.GroupNorm, norm.num_channels, channels)
        return Norm("group", norm.weight, norm.bias, eps=norm.eps, groups=norm.num_groups)
    if isinstance(norm, nn.LayerNorm):
        _check_norm(norm, nn.LayerNorm, norm.normalized_shape, channels)
        return Norm("layer", norm.weight, norm.bias, eps=norm.eps)
    if isinstance(norm, nn.RMSNorm):
        _check_norm(norm, nn.RMSNorm, norm.normalized_shape, channels)
        eps = torch.finfo(acc_dtype(dtype)).eps if norm.eps is None else norm.eps
        return Norm("rms", norm.weight, eps=eps)

    # no other kind of BN: SyncBatchNorm, for instance, does more when it is called
    if not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(
            f"norm is a {type(norm).__name__}, expected BatchNorm2d (the block's argument `group` "
            "pools its statistics over processes), GroupNorm, LayerNorm, RMSNorm or None"
        )

    # BN comes with ReLU6, in kernels that read all four tensors: ones and zeros stand for none
    _check_norm(norm, nn.BatchNorm2d, norm.num_features, channels)
    weight = like.new_ones(channels) if norm.weight is None else norm.weight
    bias = like.new_zeros(channels) if norm.bias is None else norm.bias

    # None: they come from x, in training or where BN keeps none
    mean, variance = norm.running_mean, norm.running_var
    if running and (mean is None or variance is None):
        raise ValueError(
            "BN keeps no running statistics, so tiles would each be normalised by their own"
        )
    if norm.training and not running:
        mean = variance = None
    return Norm("batch", weight, bias, mean, variance, norm.eps)


def projections_of(block: nn.Module) -> Projections:
    """Weights and biases of the four projections of a block.

    Raises:
        TypeError: one of them was replaced by another module, does more when it is called, lacks
            its bias, or is sharded.
    """
    tensors: list[Tensor] = []
    for name in ("query", "key", "value", "output"):
        projection = block._modules[name]
        if not isinstance(projection, nn.Linear) or projection.bias is None:
            given = type(projection).__name__
            given += " without bias" if isinstance(projection, nn.Linear) else ""
            raise TypeError(f"{name} is a {given}, expected a torch.nn.Linear with bias: {_READ}")
        _check_plain(name, projection, nn.Linear)
        check_whole(f"{name}.weight", projection.weight)
        tensors += [projection.weight, projection.bias]
    return Projections(*tensors)


def _check_norm(norm: nn.Module, kind: type[nn.Module], size: object, channels: int) -> None:
    """One sentence if a norm is not as its kind, or not for so many channels."""
    _check_plain("norm", norm, kind)
    if size not in (channels, (channels,)):
        raise ValueError(f"norm is for {size} channels, expected {channels} as the block")


def _check_plain(name: str, module: nn.Module, kind: type[nn.Module]) -> None:
    """One sentence if a call of the module computes more than one of its kind does."""
    if type(module).forward is not kind.forward or "forward" in module.__dict__:
        raise TypeError(
            f"{name} is a {type(module).__name__} with a forward of its own, expected a torch.nn."
            f"{kind.__name__}: {_READ}"
        )
    if is_recomputed(module):
        raise TypeError(
            f"{name} has a hook that sets its parameters before each call, as those of "
            f"torch.nn.utils.prune, but {_READ}: make them permanent (prune.remove), or use "
            "torch.nn.utils.parametrizations"
        )
