"""Attention processors for diffusers: what `Attention.set_processor` takes, without importing
diffusers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..families import relu_linear_attention
from ..functional import linear_attention
from .replacing import LeftAloneError, NewAttribute, OtherKindError


class ReluAttentionProcessor:
    """SANA's linear attention (Xie et al., ICLR 2025) by `aea.relu_linear_attention`: the results
    of diffusers' own.

    ``attention.set_processor(aea.ReluAttentionProcessor())`` replaces `SanaLinearAttnProcessor2_0`;
    with `parts=2` `PAGIdentitySanaLinearAttnProcessor2_0`, with `parts=3`
    `PAGCFGSanaLinearAttnProcessor2_0`, in which the last of so many equal parts of the batch passes
    through the values alone (perturbed attention guidance).
    """

    def __init__(self, parts: int = 1) -> None:
        self.parts = parts

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """hidden_states (N, positions, C) -> (N, positions, out); the mask is not read, as in
        diffusers.
        """
        # guidance: the last part of the batch does not attend, the others attend to themselves
        perturbed = None
        if self.parts > 1:
            *attending, perturbed = hidden_states.chunk(self.parts)
            hidden_states = torch.cat(attending)
            encoder_hidden_states = None

        # only the processor without guidance has norms of queries and keys, as in diffusers
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(keys), attn.to_v(keys)
        if perturbed is None:
            query = query if attn.norm_q is None else attn.norm_q(query)
            key = key if attn.norm_k is None else attn.norm_k(key)
        attended = relu_linear_attention(*(_heads(t, attn.heads) for t in (query, key, value)))

        # tokens (N, positions, H * E) again; the perturbed part goes through the values alone
        y = _output(attn, attended.transpose(1, 2).flatten(2).to(hidden_states.dtype))
        if perturbed is not None:
            y = torch.cat([y, _output(attn, attn.to_v(perturbed))])

        # the largest number of float16, as in diffusers: beyond it stands an infinity
        return y.clip(-65504, 65504) if y.dtype == torch.float16 else y


class LinearAttentionProcessor:
    """`aea.linear_attention` in place of a softmax, scores divided by the number of keys: to be
    trained (again).

    ``attention.set_processor(aea.LinearAttentionProcessor())`` on diffusers' `Attention`, self- or
    cross-attention, on tokens (N, positions, C) or maps (N, C, H, W), with its norms, projections
    and residual.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """As diffusers' `AttnProcessor2_0`.

        Raises:
            ValueError: a mask is given, for which there is no sum over the keys.
        """
        if attention_mask is not None:
            raise ValueError(
                "attention_mask is given, but linear attention sums over all keys: leave it out"
            )

        # diffusers' order: the spatial norm on the map, then tokens, GroupNorm over their channels
        residual = hidden_states
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        if residual.dim() == 4:
            hidden_states = hidden_states.flatten(2).mT
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.mT).mT

        # keys of another input have a norm of their own
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            keys = attn.norm_encoder_hidden_states(keys)

        # by heads, (N, H, positions, E); the norms may change the dtype, which the values follow
        projected = attn.to_q(hidden_states), attn.to_k(keys), attn.to_v(keys)
        query, key, value = (_heads(tokens, attn.heads) for tokens in projected)
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        attended = linear_attention(query, key, value.to(query.dtype), scale=attn.scale)

        # tokens (N, positions, H * E), and a map again where a map came in
        y = _output(attn, attended.transpose(1, 2).flatten(2))
        if residual.dim() == 4:
            y = y.mT.reshape(residual.shape)
        return (y + residual if attn.residual_connection else y) / attn.rescale_output_factor


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """(N, positions, H * E) -> (N, H, positions, E)."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def _output(attn: Any, tokens: Tensor) -> Tensor:
    return attn.to_out[1](attn.to_out[0](tokens))


SANA = {
    "SanaLinearAttnProcessor2_0": 1,
    "PAGIdentitySanaLinearAttnProcessor2_0": 2,
    "PAGCFGSanaLinearAttnProcessor2_0": 3,
}


def swap_sana(module: Any) -> list[NewAttribute]:
    """Of diffusers' `Attention` with one of SANA's processors."""
    before = module.processor
    parts = SANA.get(type(before).__name__)
    if parts is None:
        raise OtherKindError(
            f"its processor {type(before).__name__} is none of SANA's linear attention"
        )
    if isinstance(before, nn.Module):
        raise LeftAloneError("its processor has weights of its own")
    return [NewAttribute(module, "processor", ReluAttentionProcessor(parts), before)]
