"""Channel attention: a softmax map of channels on channels. XCiT's XCA, Restormer's MDTA."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends import backend_name
from ..core.autograd import ApplyMatrix
from ..core.checks import (
    check,
    check_device,
    check_not_traced,
    check_positions,
    check_query,
    check_summary,
    check_type,
)
from ..summary import Summary
from .autograd import OuterSumAndSquares


@dataclass(frozen=True)
class ChannelSummary(Summary):
    """The queries and keys of `channel_attention`.

    Attributes:
        products: the sum over positions of q k^T, (B, H, E, E).
        query_squares, key_squares: the sums of q^2 and of k^2, (B, H, E).
    """

    products: Tensor
    query_squares: Tensor
    key_squares: Tensor


def channel_attention(
    query: Tensor, key: Tensor, value: Tensor, temperature: Tensor, *, eps: float = 1e-12
) -> Tensor:
    """``softmax(temperature * q^T k)`` over channels, applied to the channels of v; q and k of
    length 1 over positions.

    XCiT's cross-covariance attention (El-Nouby et al. 2021, Eq. 3) and Restormer's MDTA (Zamir et
    al. 2022, Eq. 1).

    Args:
        query, key, value: (B, H, N, E).
        temperature: (H,), of any dtype.
        eps: the least length that q and k are divided by, as in `torch.nn.functional.normalize`.

    Returns:
        (B, H, N, E) in the inputs' dtype.

    Raises:
        ValueError: shapes or devices that do not fit together.
        TypeError: not a tensor, a dtype other than float16, bfloat16, float32, float64, or mixed
            dtypes.
    """
    check_not_traced()
    check_positions("query", query, "(B, H, N, E)")
    check("key", key, tuple(query.shape), "(B, H, N, E)", like=query)
    check("value", value, tuple(query.shape), "(B, H, N, E)", like=query)
    _check_temperature(temperature, query)
    return attend_channels(value, summarize_channels(query, key), temperature, eps=eps)


def summarize_channels(query: Tensor, key: Tensor) -> ChannelSummary:
    """What `channel_attention` needs of its queries and keys, (B, H, N, E) both. Summaries add.

    Raises:
        ValueError, TypeError: as `channel_attention`.
    """
    check_not_traced()
    check_positions("query", query, "(B, H, N, E)")
    check("key", key, tuple(query.shape), "(B, H, N, E)", like=query)
    return ChannelSummary(*OuterSumAndSquares.apply(query, key, backend_name()))


def attend_channels(
    value: Tensor, summary: ChannelSummary, temperature: Tensor, *, eps: float = 1e-12
) -> Tensor:
    """The values (B, H, N, E) of any positions through the map of a summary. One of batch 1 serves
    every image.

    Raises:
        ValueError, TypeError: as `channel_attention`.
    """
    check_summary(summary, ChannelSummary)
    check_query(value, summary.products, "products", "(B, H, E, E)", name="value")
    _check_temperature(temperature, value)
    matrix = channel_map(summary, temperature, eps=eps).expand(value.shape[0], -1, -1, -1)
    return ApplyMatrix.apply(value, matrix, backend_name())


def channel_map(summary: ChannelSummary, temperature: Tensor, *, eps: float = 1e-12) -> Tensor:
    """The softmax map of channels on channels, (B, H, E, E), in the accumulation dtype; temperature
    (H,).
    """
    wide = summary.products.dtype
    query_lengths, key_lengths = (
        _length(s, eps) for s in (summary.query_squares, summary.key_squares)
    )
    rows = temperature.to(wide)[:, None] / query_lengths
    return (summary.products * rows[..., :, None] / key_lengths[..., None, :]).softmax(-1)


def _length(squares: Tensor, eps: float) -> Tensor:
    """``max(sqrt(squares), eps)``, the derivative 0 where eps is larger."""
    return squares.clamp(min=max(eps**2, torch.finfo(squares.dtype).tiny)).sqrt()


def _check_temperature(temperature: Tensor, like: Tensor) -> None:
    check_type("temperature", temperature)
    if tuple(temperature.shape) != (like.shape[1],):
        raise ValueError(
            f"temperature has shape {tuple(temperature.shape)}, expected (H,) = {(like.shape[1],)}"
        )
    check_device("temperature", temperature, like)
