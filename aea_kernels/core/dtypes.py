"""The dtype of sums and the layout of results, the same for every backend and for what
torch.compile is told.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Names of `torch.cpu.get_capabilities`: instructions of Intel and AMD, and of Arm.
_BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
_LEAST_GPU = (8, 0)  # compute capability


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a processor or GPU has instructions for products of bfloat16. Others compute them by
    way of float32, which is slower than float32 alone.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _LEAST_GPU
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(has.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)


def acc_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of sums, summaries and C x C matrices: float64 for float64, float32 for everything
    narrower.
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def empty_features(x: Tensor, channels: int) -> Tensor:
    """An empty (B, channels, *spatial) for x (B, C, *spatial), in x's memory format where the
    channels are as many.
    """
    return (
        torch.empty_like(x)
        if channels == x.shape[1]
        else x.new_empty(x.shape[0], channels, *x.shape[2:])
    )


def empty_positions(a: Tensor, channels: int) -> Tensor:
    """An empty (B, H, N, channels) that keeps which of a's last two axes is the inner one, and
    whether heads lie inside positions, as in tokens (B, N, H * channels).
    """
    batch, heads, positions, _ = a.shape
    if a.stride(2) == 1 and a.stride(3) != 1:
        plane = channels * positions
        # not a view of an empty tensor: forward mode gives no tangent of another layout to a view
        return a.new_empty_strided(
            (batch, heads, positions, channels), (heads * plane, plane, 1, positions)
        )
    if a.stride(1) < a.stride(2) and a.stride(3) == 1:
        inner = heads * channels
        return a.new_empty_strided(
            (batch, heads, positions, channels), (positions * inner, channels, inner, 1)
        )
    return a.new_empty(batch, heads, positions, channels)


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Autocast off; where it is off already, entering another context would take longer than a
    small product.
    """
    if device.type != "meta" and torch.is_autocast_enabled(
        device.type
    ):  # tensors that hold nothing have none
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
