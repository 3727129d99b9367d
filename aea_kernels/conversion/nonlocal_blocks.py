"""Non-local blocks (Wang et al., CVPR 2018, arXiv:1711.07971) in mode `dot_product`: scores divided
by the number of keys, ``y = x + norm(out(theta(x) . phi(x)^T g(x) / L))``.

Without a norm, and in prediction with BN after the output, which is then a factor and a constant of
each channel, the whole block is ``x + M zh``: see `folding.py`. Pooled keys have a summary of their
own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..block.spec import Projections
from ..core.dtypes import acc_dtype, without_autocast
from ..functional import attend, attention_block, summarize
from ..nn import AugmentedAttention
from ..summary import KeySummary
from .replacing import ClassSwap, Converted, LeftAloneError, as_map, pointwise, positions

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Parts(NamedTuple):
    """The parts of a non-local block, whatever its library calls them."""

    query: Any
    """1x1 convolutions, as `key_conv`, `value_conv` and `output`."""
    key: Any
    """Of the (pooled) map, with a pool after it where the keys are pooled there."""
    value: Any
    key_conv: Any
    value_conv: Any
    output: Any
    norm: Any
    """After the output, or None."""
    pool: Any
    """What pools the keys, before or after their projection, or None."""


class NonLocal(Converted):
    """A non-local block in mode `dot_product`: x (N, C, *spatial) -> the same shape, without the (N
    x L) map.
    """

    reach = 0

    def parts(self) -> Parts:
        raise NotImplementedError

    def pooled(self, x: Tensor) -> Tensor:
        """The map of which keys and values are projected."""
        return x

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Other arguments, which ask for the map, go to the original's forward."""
        if args or kwargs:
            return super().forward(x, *args, **kwargs)
        parts = self.parts()
        elsewhere = self._attends_elsewhere()
        if parts.norm is not None and not folds(parts.norm):
            summary = self.cast_keys(x) if elsewhere else self.summarize(x)
            attended = as_map(attend(positions(parts.query(x), 1), summary), x)
            return x + parts.norm(parts.output(attended))
        weight, bias = folded_output(parts.output, parts.norm)
        inner = (parts.query, parts.key_conv, parts.value_conv)
        (query, query_bias), key, value = (_weight_and_bias(conv) for conv in inner)
        if parts.pool is None and not elsewhere:
            projections = Projections(query, query_bias, *key, *value, weight, bias)
            return attention_block(x, None, projections, None, heads=1, scale=1.0)[0]
        summary = self.cast_keys(x) if elsewhere else self.summarize(x)
        with without_autocast(x.device):
            wide = [t.to(summary.state.dtype) for t in (weight, bias, query, query_bias)]
            weight, bias, query, query_bias = wide
            applied = weight @ summary.state[:, 0]  # (B, C, E)
            constant = (applied @ query_bias) / summary.count.clamp(min=1)[:, None] + bias  # (B, C)
            whole = KeySummary((applied @ query)[:, None], summary.count)
        shift = constant.to(x.dtype).reshape(*constant.shape, *[1] * (x.dim() - 2))
        return x + as_map(attend(positions(x, 1), whole), x) + shift

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> KeySummary:
        """The keys of x (N, C, *spatial), or of the rows and columns `core` of it: what adds over
        tiles.
        """
        parts, pooling = self.parts(), self.step
        source = self.pooled(x)
        key, value = parts.key(source), parts.value(source)
        if core is not None:
            rows, columns = (slice(part.start // pooling, part.stop // pooling) for part in core)
            key, value = key[..., rows, columns], value[..., rows, columns]
        return summarize(positions(key, 1), positions(value, 1))

    @property
    def step(self) -> int:
        """How many positions in each direction are pooled to one key; 0 where the windows overlap
        or differ.
        """
        pool = self.parts().pool
        if pool is None:
            return 1
        kernel, stride, padding = (
            _last_two(getattr(pool, name)) for name in ("kernel_size", "stride", "padding")
        )
        plain = (
            kernel == stride and len(set(kernel)) == 1 and padding == (0, 0) and not pool.ceil_mode
        )
        return kernel[0] if plain else 0


class NonLocalOfMMCV(NonLocal):
    """`g`, `theta`, `phi` and `conv_out`, each a ConvModule; pools after `g` and `phi` (mmcv)."""

    def parts(self) -> Parts:
        this: Any = self
        pool = this.phi[1] if this.sub_sample else None
        key, value = (this.phi[0], this.g[0]) if this.sub_sample else (this.phi, this.g)
        norm = this.conv_out.norm if this.conv_out.with_norm else None
        return Parts(
            this.theta.conv, this.phi, this.g, key.conv, value.conv, this.conv_out.conv, norm, pool
        )


class NonLocalOfAlexHex(NonLocal):
    """`g`, `theta`, `phi` and `W`, pools after `g` and `phi` (AlexHex7/Non-local_pytorch and its
    many copies).
    """

    def parts(self) -> Parts:
        this: Any = self
        pool = this.phi[1] if isinstance(this.phi, nn.Sequential) else None
        key, value = (this.phi[0], this.g[0]) if pool is not None else (this.phi, this.g)
        output, norm = this.W if isinstance(this.W, nn.Sequential) else (this.W, None)
        return Parts(this.theta, this.phi, this.g, key, value, output, norm, pool)


class NonLocalOfSlowFast(NonLocal):
    """`conv_theta`, `conv_phi`, `conv_g`, `conv_out`, a pool before keys and values (SlowFast,
    pytorchvideo).
    """

    def parts(self) -> Parts:
        this: Any = self
        key, value = this.conv_phi, this.conv_g
        norm = getattr(this, "norm", None) or getattr(this, "bn", None)
        pool = getattr(this, "pool", None)
        return Parts(this.conv_theta, key, value, key, value, this.conv_out, norm, pool)

    def pooled(self, x: Tensor) -> Tensor:
        pool = self.parts().pool
        return x if pool is None else pool(x)


# ---- recognised ----------------------------------------------------------------------------------


def swap_mmcv(module: Any) -> list[ClassSwap]:
    if module.mode != "dot_product":
        raise LeftAloneError(_other_mode(module.mode))
    for name in ("g", "theta", "phi", "conv_out"):
        part = getattr(module, name)
        if isinstance(part, nn.Sequential):
            part = part[0]
        if not hasattr(part, "conv") or part.with_activation or part.with_explicit_padding:
            raise LeftAloneError(f"{name} is not a convolution alone")
        if part.with_norm and name != "conv_out":
            raise LeftAloneError(f"{name} has a norm")
    return _swap(module, NonLocalOfMMCV)


def swap_alexhex(module: Any) -> list[ClassSwap]:
    for name in ("theta", "phi"):
        if not hasattr(module, name):
            raise LeftAloneError(_other_mode("gaussian"))
    if hasattr(module, "concat_project"):
        raise LeftAloneError(_other_mode("concatenation"))
    if isinstance(module.W, nn.Sequential) and len(module.W) != 2:
        raise LeftAloneError("W is not a convolution and a norm")
    return _swap(module, NonLocalOfAlexHex)


def swap_slowfast(module: Any) -> list[ClassSwap]:
    if module.instantiation != "dot_product":
        raise LeftAloneError(_other_mode(module.instantiation))
    return _swap(module, NonLocalOfSlowFast)


SWAPS = (swap_mmcv, swap_alexhex, swap_slowfast)


def _swap(module: Any, replacement: type[NonLocal]) -> list[ClassSwap]:
    parts = replacement.parts(module)
    for name in ("query", "key_conv", "value_conv", "output"):
        pointwise(name.removesuffix("_conv"), getattr(parts, name))
    if parts.pool is not None and not isinstance(parts.pool, MAX_POOL):
        raise LeftAloneError(
            f"its keys are subsampled by {type(parts.pool).__name__}, not by a max pool"
        )
    return [ClassSwap(module, replacement)]


def _other_mode(mode: str) -> str:
    return f"mode {mode}: its scores are no products divided by the number of keys, so there is no sum over the keys"


# ---- weights -------------------------------------------------------------------------------------


def _weight_and_bias(conv: Any) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution as (out, in) and (out,)."""
    weight = conv.weight.flatten(1)
    return weight, weight.new_zeros(len(weight)) if conv.bias is None else conv.bias


def folds(norm: Any) -> bool:
    """Whether the norm is a factor and a constant of each channel: BN with its running
    statistics.
    """
    return isinstance(norm, BATCH_NORM) and not norm.training and norm.running_mean is not None


def folded_output(conv: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Output projection and the BN after it as one projection, in the accumulation dtype; without
    BN as it is.
    """
    weight, bias = _weight_and_bias(conv)
    if norm is None:
        return weight, bias
    wide = acc_dtype(weight.dtype)
    factor = (norm.running_var.to(wide) + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight
    shift = (bias.to(wide) - norm.running_mean) * factor
    return weight.to(wide) * factor[:, None], shift if norm.bias is None else shift + norm.bias


def _last_two(value: Any) -> tuple[int, int]:
    """A pool's number for rows and columns."""
    return (value, value) if isinstance(value, int) else tuple(value[-2:])


@torch.no_grad()
def as_augmented_attention(module: Any, replacement: type[NonLocal]) -> AugmentedAttention:
    """See `aea.from_nonlocal`."""
    parts = replacement.parts(module)
    if parts.pool is not None:
        raise LeftAloneError("its keys are subsampled, which AugmentedAttention does not do")
    if parts.norm is not None and (
        not isinstance(parts.norm, BATCH_NORM) or parts.norm.running_mean is None
    ):
        raise LeftAloneError(
            f"its output goes through {type(parts.norm).__name__}, which is no fixed factor"
        )
    query, query_bias = _weight_and_bias(parts.query)
    block = AugmentedAttention(
        query.shape[1],
        heads=1,
        references=0,
        batch_aware=False,
        key_channels=len(query),
        value_channels=parts.value_conv.out_channels,
        norm=None,
    )
    # the block multiplies its scores by E ** -0.5, non-local blocks do not
    inner = [(query / block.scale, query_bias / block.scale)]
    inner += [_weight_and_bias(parts.key_conv), _weight_and_bias(parts.value_conv)]
    inner.append(folded_output(parts.output, parts.norm))
    linear = (block.query, block.key, block.value, block.output)
    block.to(query.device, query.dtype)
    for layer, (weight, bias) in zip(linear, inner, strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return block.train(module.training)
