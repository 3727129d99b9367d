"""Equations 1 to 5 of Xie, Ding & Ji word for word, attention map and all, and three other
families: the oracle.

Everything here materialises the map and is written to be read next to the papers. It imports
nothing of this
package, uses nothing but elementary tensor operations, and is differentiable by plain autograd, in
any dtype.

Layout: query (B, H, N, E), key (B, H, L, E), value (B, H, L, D); feature maps x (B, C, *spatial).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def linear_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0) -> Tensor:
    """Self-attention ``A_s`` with the normalisation of Eq. 2: ``scale * (Q K^T / L) V`` (Eq. 1) ->
    (B, H, N, D).
    """
    keys = max(key.shape[-2], 1)
    attention_map = scale * query @ key.transpose(-2, -1) / keys  # (B, H, N, L)
    return attention_map @ value


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    *,
    scale: float = 1.0,
) -> Tensor:
    """``A_R`` (Eq. 4): references (H, R, E), (H, R, D) are prepended to every image's keys and
    values.
    """
    batch = key.shape[0]
    key = torch.cat([reference_key.expand(batch, *reference_key.shape), key], dim=-2)
    value = torch.cat([reference_value.expand(batch, *reference_value.shape), value], dim=-2)
    return linear_attention(query, key, value, scale=scale)


def batch_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0) -> Tensor:
    """``A_batch`` (Eq. 5): the keys and values of the whole batch, one image after the other, for
    every query.
    """
    key = key.transpose(0, 1).flatten(1, 2)  # (H, B * L, E)
    value = value.transpose(0, 1).flatten(1, 2)
    return linear_attention(query, key, value, scale=scale)


def learned_query_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float = 1.0
) -> Tensor:
    """``A_Q`` (Eq. 3): a query (H, M, E) that does not depend on the input -> (B, H, M, D)."""
    return linear_attention(query, key, value, scale=scale)


def relu_linear_attention(
    query: Tensor, key: Tensor, value: Tensor, *, eps: float = 1e-15
) -> Tensor:
    """EfficientViT's ReLU linear attention (Cai et al. 2023, Eq. 2): scores divided by their sum
    over the keys.
    """
    scores = torch.relu(query) @ torch.relu(key).transpose(-2, -1)  # (B, H, N, L)
    return scores @ value / (scores.sum(-1, keepdim=True) + eps)


def efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    memory_key: Tensor | None = None,
    memory_value: Tensor | None = None,
    *,
    scale: float = 1.0,
) -> Tensor:
    """Efficient attention (Shen et al. 2021, Eq. 2), softmax of q over channels and of k over
    positions.

    Memory keys (H, R, E) and values (H, R, D) are prepended to those of every image.
    """
    if memory_key is not None and memory_value is not None:
        key = torch.cat([memory_key.expand(key.shape[0], *memory_key.shape), key], dim=-2)
        value = torch.cat([memory_value.expand(value.shape[0], *memory_value.shape), value], dim=-2)
    attention_map = scale * query.softmax(-1) @ key.softmax(-2).transpose(-2, -1)  # (B, H, N, L)
    return attention_map @ value


def channel_attention(
    query: Tensor, key: Tensor, value: Tensor, temperature: Tensor, *, eps: float = 1e-12
) -> Tensor:
    """Cross-covariance attention (El-Nouby et al. 2021, Eq. 3): a map of channels on channels, (B,
    H, E, E).
    """
    query = torch.nn.functional.normalize(query, dim=-2, eps=eps)
    key = torch.nn.functional.normalize(key, dim=-2, eps=eps)
    attention_map = (temperature[:, None, None] * (query.transpose(-2, -1) @ key)).softmax(-1)
    return value @ attention_map.transpose(-2, -1)


def _heads(features: Tensor, heads: int) -> Tensor:
    """(B, N, heads * E) -> (B, heads, N, E)."""
    return features.unflatten(-1, (heads, -1)).transpose(1, 2)


def attention_block(
    x: Tensor,
    norm: tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]
    | Callable[[Tensor], Tensor]
    | None,
    projections: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    references: Tensor | None,
    *,
    heads: int,
    scale: float,
    reference_images: int | None = None,
) -> Tensor:
    """The block of Fig. 3: ``x + output(attention(q(z), k(z), v(z)))`` with ``z = ReLU6(BN(x))``.

    Args:
        x: feature map (B, C, *spatial).
        norm: weight, bias, mean and variance of BN, (C,) each, and its eps; mean and variance None:
            they come from x.
            A function of x takes the place of BN and ReLU6: ``z = norm(x)``. None leaves them out.
        projections: weight (out, in) and bias (out,) of query, key, value and output.
        references: (R, C) or None, projected by key and value as they are.
        reference_images: how many images, from the first, take the reference branch ``A_R``; the
            others take ``A_batch`` among themselves (Section 5.1). None: all of them, as in
            prediction.
    """
    batch, channels = x.shape[:2]
    reference_images = batch if reference_images is None else reference_images
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = projections

    # z, positions before channels: of BN and ReLU6, of another norm, or x itself
    z = (norm(x) if callable(norm) else x).flatten(2).transpose(1, 2)  # (B, S, C)
    if norm is not None and not callable(norm):
        weight, bias, mean, variance, eps = norm
        if mean is None or variance is None:
            mean = z.mean((0, 1))
            variance = ((z - mean) ** 2).mean((0, 1))
        z = torch.nn.functional.relu6((z - mean) / (variance + eps).sqrt() * weight + bias)

    def project(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return _heads(features @ weight.T + bias, heads)

    # (B, H, S, E) and for values (B, H, S, D)
    q, k, v = (
        project(z, query, query_bias),
        project(z, key, key_bias),
        project(z, value, value_bias),
    )

    # references pass the projections and no norm; without any they are a matrix of 0 rows
    raw = x.new_zeros(1, 0, channels) if references is None else references[None]
    reference_key, reference_value = (
        project(raw, key, key_bias)[0],
        project(raw, value, value_bias)[0],
    )

    # each of the first images attends to itself and the references, the others to each other
    with_references = reference_attention(
        q[:reference_images],
        k[:reference_images],
        v[:reference_images],
        reference_key,
        reference_value,
        scale=scale,
    )
    with_batch = batch_attention(
        q[reference_images:], k[reference_images:], v[reference_images:], scale=scale
    )

    # heads side by side, then output projection and residual
    attended = (
        torch.cat([with_references, with_batch]).transpose(1, 2).flatten(2)
    )  # (B, S, heads * D)
    return x + (attended @ output.T + output_bias).transpose(1, 2).reshape(x.shape)
