"""Blocks with a softmax over the keys, which becomes a division by their number: other results, so
to be trained again.

Their norm and projections are where the training starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..core.dtypes import acc_dtype
from ..nn import AugmentedAttention
from .checkpoints import Rows, Sources, origin_of
from .processors import SANA, LinearAttentionProcessor
from .replacing import (
    Become,
    Change,
    LeftAloneError,
    NewAttribute,
    OtherKindError,
    no_dropout,
    pointwise,
)


class TokenAttention(AugmentedAttention):
    """`AugmentedAttention` without its residual, on tokens (N, positions, C): called as MONAI's
    `SABlock`.
    """

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Raises ValueError for a mask, for which there is no sum over the keys."""
        _no("attn_mask", attn_mask)
        # in x's dtype, what is subtracted again would leave its rounding error behind
        wide = x.mT.to(acc_dtype(x.dtype)) if x.is_floating_point() else x.mT
        return (super().forward(wide) - wide).mT.to(x.dtype)


class HiddenStatesAttention(AugmentedAttention):
    """`AugmentedAttention` called as diffusers' `Attention`: on maps (N, C, H, W), or tokens (N,
    positions, C).
    """

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
        raise ValueError(
            f"{name} is given, but this attention sums over all positions of its input: leave it "
            "out"
        )


# ---- recognised ----------------------------------------------------------------------------------


def become_monai_block(module: Any) -> list[Change]:
    """MONAI's `SpatialAttentionBlock`: GroupNorm, `SABlock`, residual."""
    sources = {"norm": Rows("norm"), **_of_sablock(module.attn, "attn.")}
    return [Become(module, _augmented(AugmentedAttention, module, sources, module.attn.num_heads))]


def become_sablock(module: Any) -> list[Change]:
    """MONAI's `SABlock` alone."""
    sources = _of_sablock(module, "")
    return [Become(module, _augmented(TokenAttention, module, sources, module.num_heads))]


def _of_sablock(module: Any, prefix: str) -> Sources:
    no_dropout("drop_weights", module.drop_weights)
    for name in ("causal", "save_attn", "rel_positional_embedding"):
        if getattr(module, name, None) not in (None, False):
            raise LeftAloneError(f"it has {name}, which needs the map of scores")
    no_dropout("drop_output", module.drop_output)
    output = Rows(f"{prefix}out_proj") if module.include_fc else None
    if module.use_combined_linear:
        return {**_parted(f"{prefix}qkv"), "output": output}
    names = {"query": "to_q", "key": "to_k", "value": "to_v"}
    return {**{layer: Rows(prefix + name) for layer, name in names.items()}, "output": output}


def become_guided_block(module: Any) -> list[Change]:
    """guided-diffusion's `AttentionBlock`: GroupNorm, 1x1 convolutions, residual."""
    order = type(module.attention).__name__
    if hasattr(module, "encoder_kv"):
        raise LeftAloneError("it also attends to the keys of an encoder")
    heads = module.attention.n_heads
    if order not in ("QKVAttention", "QKVAttentionLegacy"):
        raise LeftAloneError(f"its attention is {order}")
    for name in ("qkv", "proj_out"):
        pointwise(name, getattr(module, name))
    inner = _parted("qkv", heads if order == "QKVAttentionLegacy" else 1)
    sources = {"norm": Rows("norm"), **inner, "output": Rows("proj_out")}
    return [Become(module, _augmented(AugmentedAttention, module, sources, heads))]


SOFTMAX = ("AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor", "SlicedAttnProcessor")


def become_diffusers_block(module: Any) -> list[Change]:
    """diffusers' `Attention` with its GroupNorm and residual, as in its U-Nets and autoencoders."""
    # what AugmentedAttention cannot be is left to `swap_softmax_processor`
    _check_diffusers(module)
    residual = module.residual_connection and module.rescale_output_factor == 1
    if module.group_norm is None or not residual:
        raise OtherKindError("it has no GroupNorm and residual")
    norms = (module.spatial_norm, module.norm_q, module.norm_k)
    if any(norm is not None for norm in norms) or module.to_out[1].p > 0 or not module.scale_qk:
        raise OtherKindError("it has parts that AugmentedAttention has not")

    # diffusers' names; `to_out` is a projection and its dropout
    names = {
        "norm": "group_norm",
        "query": "to_q",
        "key": "to_k",
        "value": "to_v",
        "output": "to_out.0",
    }
    sources: Sources = {layer: Rows(name) for layer, name in names.items()}
    return [Become(module, _augmented(HiddenStatesAttention, module, sources, module.heads))]


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


# ---- the new block -------------------------------------------------------------------------------


def _parted(layer: str, groups: int = 1) -> Sources:
    """Queries, keys and values of one layer: one after another, or so in each of its heads,
    `groups` of them.
    """
    names = ("query", "key", "value")
    return {name: Rows(layer, part, 3, groups) for part, name in enumerate(names)}


def _augmented(
    cls: type[AugmentedAttention], module: Any, sources: Sources, heads: int
) -> AugmentedAttention:
    """Plain self-attention that starts from the original's GroupNorm, if it has one, and its
    projections.

    It loads checkpoints of the original too.
    """
    # a norm before the projections has to be a GroupNorm, whose weights the block takes over
    source = sources.get("norm")
    norm: Any = None if source is None else getattr(module, source.layer)
    if source is not None and (not isinstance(norm, nn.GroupNorm) or norm.weight is None):
        raise LeftAloneError(f"its norm is {type(norm).__name__}, not a GroupNorm with weights")

    # the block's widths are those of the weights that it takes over
    origin, parameters = origin_of(module, sources)
    start = origin.translated(parameters)
    query, value, output = (start[f"{name}.weight"] for name in ("query", "value", "output"))
    channels = query.shape[1]
    if output.shape[0] != channels:
        raise LeftAloneError("its output has other channels than its input")

    # every image attends to itself: no references, no other images of the batch
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

    # beside the weights: which of them are frozen, and the norm's eps
    block.load_state_dict(start)
    _freeze_as(module, block, sources)
    if isinstance(block.norm, nn.GroupNorm):
        block.norm.eps = norm.eps

    # with the layers, and without the block as its first argument, since another object takes the
    # block's parts over (`Become`)
    block._register_load_state_dict_pre_hook(replace(origin, layers=block._modules))
    return block


def _freeze_as(module: nn.Module, block: nn.Module, sources: Sources) -> None:
    """Parameters of the block are trained where those that they replace are.

    A bias that the original has not follows the weight; an output projection that it has not
    follows that of the values.
    """
    for name, rows in sources.items():
        taken: Any = rows or sources["value"]
        original: Any = module.get_submodule(taken.layer)
        layer: Any = getattr(block, name)
        layer.requires_grad_(original.weight.requires_grad)
        if original.bias is not None:
            layer.bias.requires_grad_(original.bias.requires_grad)
