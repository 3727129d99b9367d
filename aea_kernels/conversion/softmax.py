"""Blocks with a softmax over the keys, which becomes a division by their number: other results, so to be trained again.

Their norm and projections are where the training starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..modules import AugmentedAttention
from .families import no_dropout
from .processors import SANA, LinearAttentionProcessor
from .replacing import Become, Change, LeftAloneError, NewAttribute, OtherKindError, pointwise


class TokenAttention(AugmentedAttention):
    """`AugmentedAttention` without its residual, on tokens (N, positions, C): called as MONAI's `SABlock`."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Raises ValueError for a mask, for which there is no sum over the keys."""
        _no("attn_mask", attn_mask)
        return (super().forward(x.mT) - x.mT).mT


class HiddenStatesAttention(AugmentedAttention):
    """`AugmentedAttention` called as diffusers' `Attention`: on maps (N, C, H, W), or tokens (N, positions, C)."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """Raises ValueError for other keys than those of the input, or a mask."""
        _no("encoder_hidden_states", encoder_hidden_states)
        _no("attention_mask", attention_mask)
        if hidden_states.dim() == 4:
            return super().forward(hidden_states)
        return super().forward(hidden_states.mT).mT


def _no(name: str, argument: Tensor | None) -> None:
    if argument is not None:
        raise ValueError(f"{name} is given, but this attention sums over all positions of its input: leave it out")


# ---- recognised -----------------------------------------------------------------------------------------------------


def become_monai_block(module: Any) -> list[Change]:
    """MONAI's `SpatialAttentionBlock`: GroupNorm, `SABlock`, residual."""
    rows, heads = _of_sablock(module.attn)
    return [Become(module, _augmented(AugmentedAttention, module.norm, rows, heads))]


def become_sablock(module: Any) -> list[Change]:
    """MONAI's `SABlock` alone."""
    rows, heads = _of_sablock(module)
    return [Become(module, _augmented(TokenAttention, None, rows, heads))]


def _of_sablock(module: Any) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Weights and biases of queries, keys, values and the output, and the number of heads."""
    no_dropout("drop_weights", module.drop_weights)
    for name, wanted in {"causal": False, "save_attn": False, "rel_positional_embedding": None}.items():
        if getattr(module, name, wanted) not in (wanted, None):
            raise LeftAloneError(f"it has {name}, which needs the map of scores")
    no_dropout("drop_output", module.drop_output)
    if module.use_combined_linear:
        inner = _parted(*_rows(module.qkv), 3)
    else:
        inner = [_rows(part) for part in (module.to_q, module.to_k, module.to_v)]
    identity = torch.eye(len(inner[2][0]), dtype=inner[2][0].dtype, device=inner[2][0].device)
    output = (identity, identity.new_zeros(len(identity))) if not module.include_fc else _rows(module.out_proj)
    return [*inner, output], module.num_heads


def become_guided_block(module: Any) -> list[Change]:
    """guided-diffusion's `AttentionBlock`: GroupNorm, 1x1 convolutions, residual."""
    order = type(module.attention).__name__
    if hasattr(module, "encoder_kv"):
        raise LeftAloneError("it also attends to the keys of an encoder")
    heads = module.attention.n_heads
    weight, bias = _rows(pointwise("qkv", module.qkv))
    if order == "QKVAttentionLegacy":  # each head's queries, keys and values together
        weight = weight.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        bias = bias.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten()
    elif order != "QKVAttention":
        raise LeftAloneError(f"its attention is {order}")
    rows = [*_parted(weight, bias, 3), _rows(pointwise("proj_out", module.proj_out))]
    return [Become(module, _augmented(AugmentedAttention, module.norm, rows, heads))]


SOFTMAX = ("AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor", "SlicedAttnProcessor")


def become_diffusers_block(module: Any) -> list[Change]:
    """diffusers' `Attention` with its GroupNorm and residual, as in its U-Nets and autoencoders."""
    _check_diffusers(module)
    others = (module.spatial_norm, module.norm_q, module.norm_k)
    if module.group_norm is None or not module.residual_connection or module.rescale_output_factor != 1:
        raise OtherKindError("it has no GroupNorm and residual")
    if any(norm is not None for norm in others) or module.to_out[1].p > 0 or not module.scale_qk:
        raise OtherKindError("it has parts that AugmentedAttention has not")
    rows = [_rows(part) for part in (module.to_q, module.to_k, module.to_v, module.to_out[0])]
    return [Become(module, _augmented(HiddenStatesAttention, module.group_norm, rows, module.heads))]


def swap_softmax_processor(module: Any) -> list[Change]:
    """Every other self-attention of diffusers, as in its transformers."""
    _check_diffusers(module)
    return [NewAttribute(module, "processor", LinearAttentionProcessor(), module.processor)]


def _check_diffusers(module: Any) -> None:
    processor = type(module.processor).__name__
    if processor in SANA:
        raise OtherKindError("it has no softmax")
    if processor not in SOFTMAX:
        raise LeftAloneError(f"its processor {processor} is not known")
    if module.is_cross_attention:
        raise LeftAloneError("it attends to the keys of another input")
    if module.is_causal or module.added_kv_proj_dim is not None:
        raise LeftAloneError("it is causal, or has keys of another input besides its own")
    if module.to_k.out_features != module.to_q.out_features:
        raise LeftAloneError("several queries share a head of keys")


# ---- the new block --------------------------------------------------------------------------------------------------


def _rows(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out,) of a linear layer or 1x1 convolution."""
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise LeftAloneError(f"{type(layer).__name__} is not a projection")
    weight = layer.weight.detach().flatten(1)
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()


def _parted(weight: Tensor, bias: Tensor, parts: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(weight.chunk(parts), bias.chunk(parts), strict=True))


@torch.no_grad()
def _augmented(
    cls: type[AugmentedAttention], norm: Any, rows: Sequence[tuple[Tensor, Tensor]], heads: int
) -> AugmentedAttention:
    """Plain self-attention that starts from a GroupNorm (or None) and from the rows of the four projections."""
    if norm is not None and (not isinstance(norm, nn.GroupNorm) or norm.weight is None):
        raise LeftAloneError(f"its norm is {type(norm).__name__}, not a GroupNorm with weights")
    query, _, value, output = (weight for weight, _ in rows)
    channels = query.shape[1]
    if output.shape[0] != channels:
        raise LeftAloneError("its output has other channels than its input")
    block = cls(
        channels,
        heads=heads,
        references=0,
        batch_aware=False,
        key_channels=len(query),
        value_channels=len(value),
        norm=None if norm is None else "group",
        groups=1 if norm is None else norm.num_groups,
    ).to(query.device, query.dtype)
    for layer, (weight, bias) in zip((block.query, block.key, block.value, block.output), rows, strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    if isinstance(block.norm, nn.GroupNorm) and isinstance(norm, nn.GroupNorm):
        block.norm.weight.copy_(norm.weight)
        block.norm.bias.copy_(norm.bias)
        block.norm.eps = norm.eps
    return block
