"""guided-diffusion's attention block, written a second time: names of classes, parts and arguments
are its own.
"""

import torch
from torch import Tensor, nn


class QKVAttention(nn.Module):
    """Queries, keys and values one after another, then their heads."""

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads

    def parts(self, qkv: Tensor) -> Tensor:
        """(N, 3 * H * C, T) -> (3, N, H, C, T)."""
        return qkv.unflatten(1, (3, self.n_heads, -1)).transpose(0, 1)

    def forward(self, qkv: Tensor) -> Tensor:
        query, key, value = self.parts(qkv)
        scores = (query.mT @ key / query.shape[2] ** 0.5).softmax(-1)
        return (value @ scores.mT).flatten(1, 2)


class QKVAttentionLegacy(QKVAttention):
    """Heads first, then queries, keys and values of each."""

    def parts(self, qkv: Tensor) -> Tensor:
        return qkv.unflatten(1, (self.n_heads, 3, -1)).permute(2, 0, 1, 3, 4)


class GroupNorm32(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


class AttentionBlock(nn.Module):
    def __init__(self, channels, num_heads=1, use_new_attention_order=False, groups=32):
        super().__init__()
        self.channels, self.num_heads = channels, num_heads
        self.norm = GroupNorm32(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.attention = (QKVAttention if use_new_attention_order else QKVAttentionLegacy)(
            num_heads
        )
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        flat = x.flatten(2)
        return (flat + self.proj_out(self.attention(self.qkv(self.norm(flat))))).reshape(x.shape)


class EncoderAttentionBlock(AttentionBlock):
    def __init__(self, channels):
        super().__init__(channels, groups=2)
        self.encoder_kv = nn.Conv1d(4, 2 * channels, 1)


def divided(scores: Tensor, dim: int = -1, **_: object) -> Tensor:
    """What stands in for the softmax: a division by the number of keys."""
    return scores / scores.shape[dim]


def divided_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None, **_: object
) -> Tensor:
    """What stands in for `scaled_dot_product_attention`."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return divided(query @ key.mT * scale) @ value


class NoSoftmax(torch.overrides.TorchFunctionMode):
    """Softmax attention computes with scores divided by the number of keys; casts to float32 stay
    in float64.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.softmax, torch.Tensor.softmax, nn.functional.softmax):
            return divided(*args, **kwargs)
        if func is nn.functional.scaled_dot_product_attention:
            return divided_attention(*args, **kwargs)
        return args[0].double() if func is torch.Tensor.float else func(*args, **kwargs)
