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

from ..block.function import attention_block
from ..block.spec import Norm, Projections
from ..core.dtypes import acc_dtype, without_autocast
from ..functional import attend, summarize
from ..nn import AugmentedAttention
from ..summary import KeySummary
from .replacing import ClassSwap, Converted, LeftAloneError, as_map, pointwise, positions

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
MAX_POOL = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Parts(NamedTuple):
    """The parts of a non-local block, whatever its library calls them.

    Attributes:
        query: a 1x1 convolution, as `key_conv`, `value_conv` and `output`.
        key, value: of the (pooled) map, with a pool after it where the keys are pooled there.
        norm: after the output, or None.
        pool: what pools the keys, before or after their projection, or None.
    """

    query: Any
    key: Any
    value: Any
    key_conv: Any
    value_conv: Any
    output: Any
    norm: Any
    pool: Any


class NonLocal(Converted):
    """A non-local block in mode `dot_product`: x (N, C, *spatial) -> the same shape, without the (N
    x L) map. A block defines `parts()`, its `Parts`.
    """

    reach = 0

    def pooled(self, x: Tensor) -> Tensor:
        """The map of which keys and values are projected."""
        return x

    def compute(self, x: Tensor) -> Tensor:
        # a norm folds where it is a factor and a constant of each channel, as BN in prediction
        parts = self.parts()
        summary = self.given_keys(x)
        folded = parts.norm is None or folds(parts.norm)

        # keys of the input itself: the block is linear in its moments
        if folded and parts.pool is None and summary is None:
            return attention_block(x, Norm(), projections_of(parts), None, heads=1, scale=1.0)[0]

        # a norm that does not fold reads the output as a map: attention first, then the layers
        summary = self.summarize(x) if summary is None else summary
        if not folded:
            attended = as_map(attend(positions(parts.query(x)), summary), x)
            return x + parts.norm(parts.output(attended))

        # the projections of the query and of the output become part of the summary
        weight, bias = folded_output(parts.output, parts.norm)
        query, query_bias = _weight_and_bias(parts.query)
        with without_autocast(x.device):
            wide = [t.to(summary.state.dtype) for t in (weight, bias, query, query_bias)]
            weight, bias, query, query_bias = wide
            applied = weight @ summary.state[:, 0]  # (B, C, E)
            constant = (applied @ query_bias) / summary.count.clamp(min=1)[:, None] + bias  # (B, C)
            whole = KeySummary((applied @ query)[:, None], summary.count)

        # (B, C), the same at every position
        shift = constant.to(x.dtype).reshape(*constant.shape, *[1] * (x.dim() - 2))
        return x + as_map(attend(positions(x), whole), x) + shift

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
        return summarize(positions(key), positions(value))

    @property
    def step(self) -> int:
        """How many positions in each direction are pooled to one key; 0 where the windows overlap
        or differ.
        """
        pool = self.parts().pool
        if pool is None:
            return 1
        if pool.ceil_mode or _last_two(pool.padding) != (0, 0):
            return 0
        rows, columns = _last_two(pool.kernel_size)
        return rows if rows == columns and _last_two(pool.stride) == (rows, rows) else 0


class NonLocalOfMMCV(NonLocal):
    """`g`, `theta`, `phi` and `conv_out`, each a ConvModule; pools after `g` and `phi` (mmcv)."""

    def parts(self) -> Parts:
        key, value, pool = _without_pools(self.phi, self.g)
        output = self.conv_out
        norm = output.norm if output.with_norm else None
        convs = key.conv, value.conv, output.conv
        return Parts(self.theta.conv, self.phi, self.g, *convs, norm, pool)


class NonLocalOfAlexHex(NonLocal):
    """`g`, `theta`, `phi` and `W`, pools after `g` and `phi` (AlexHex7/Non-local_pytorch and its
    many copies).
    """

    def parts(self) -> Parts:
        key, value, pool = _without_pools(self.phi, self.g)
        output, norm = self.W if isinstance(self.W, nn.Sequential) else (self.W, None)
        return Parts(self.theta, self.phi, self.g, key, value, output, norm, pool)


class NonLocalOfSlowFast(NonLocal):
    """`conv_theta`, `conv_phi`, `conv_g`, `conv_out`, a pool before keys and values (SlowFast,
    pytorchvideo).
    """

    def parts(self) -> Parts:
        key, value = self.conv_phi, self.conv_g
        norm = getattr(self, "norm", None) or getattr(self, "bn", None)
        pool = getattr(self, "pool", None)
        return Parts(self.conv_theta, key, value, key, value, self.conv_out, norm, pool)

    def pooled(self, x: Tensor) -> Tensor:
        pool = getattr(self, "pool", None)
        return x if pool is None else pool(x)


def _without_pools(key: Any, value: Any) -> tuple[Any, Any, Any]:
    """The projections of keys and values without the pools after them, and the keys' pool or
    None.
    """
    return (key[0], value[0], key[1]) if isinstance(key, nn.Sequential) else (key, value, None)


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


def _swap(module: Any, replacement: Any) -> list[ClassSwap]:
    parts = replacement.parts(module)
    for name in ("query", "key_conv", "value_conv", "output"):
        pointwise(name.removesuffix("_conv"), getattr(parts, name))
    if parts.pool is not None and not isinstance(parts.pool, MAX_POOL):
        raise LeftAloneError(
            f"its keys are subsampled by {type(parts.pool).__name__}, not by a max pool"
        )
    return [ClassSwap(module, replacement)]


def _other_mode(mode: str) -> str:
    return (
        f"mode {mode}: its scores are no products divided by the number of keys, so there is no "
        "sum over the keys"
    )


# ---- weights -------------------------------------------------------------------------------------


def projections_of(parts: Parts) -> Projections:
    """The four projections of the block, the norm after the output folded into the last."""
    inner = (parts.query, parts.key_conv, parts.value_conv)
    query, key, value = (_weight_and_bias(conv) for conv in inner)
    return Projections(*query, *key, *value, *folded_output(parts.output, parts.norm))


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
def as_augmented_attention(module: nn.Module, parts: Parts) -> AugmentedAttention:
    """See `aea.from_nonlocal`.

    Raises:
        LeftAloneError: the block does what `AugmentedAttention` does not.
    """
    # what the block cannot do: pooled keys, and a norm of the output that is no fixed factor
    if parts.pool is not None:
        raise LeftAloneError("its keys are subsampled, which AugmentedAttention does not do")
    norm = parts.norm
    if norm is not None and (not isinstance(norm, BATCH_NORM) or norm.running_mean is None):
        raise LeftAloneError(
            f"its output goes through {type(norm).__name__}, which is no fixed factor"
        )

    # one head, no references and no norm: what is left of the block is the same formula
    projections = projections_of(parts)
    block = AugmentedAttention(
        projections.query_weight.shape[1],
        heads=1,
        references=0,
        batch_aware=False,
        key_channels=len(projections.query_weight),
        value_channels=len(projections.value_weight),
        norm=None,
    ).to(projections.query_weight.device, projections.query_weight.dtype)

    # by copies, so that the two share no parameters
    for layer in ("query", "key", "value", "output"):
        linear = getattr(block, layer)
        linear.weight.copy_(getattr(projections, f"{layer}_weight"))
        linear.bias.copy_(getattr(projections, f"{layer}_bias"))

    # the block multiplies its scores by E ** -0.5, non-local blocks do not
    block.query.weight.div_(block.scale)
    block.query.bias.div_(block.scale)
    return block.train(module.training)
