"""Blocks of the other families as other libraries have them, written a second time from their
papers: names of classes, parts and arguments are theirs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# ---- EfficientViT (Cai et al., ICCV 2023): ReLU linear attention on several scales ---------------


class ConvLayer(nn.Module):
    """A convolution, perhaps a norm after it."""

    def __init__(self, inputs: int, outputs: int, bias: bool, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=bias)
        self.norm = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)


class LiteMLA(nn.Module):
    """By its authors, with few positions as a map of scores; `timm` has eps=1e-5 and never forms
    the map.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        heads=None,
        dim=8,
        use_bias=False,
        scales=(5,),
        eps=1e-15,
        kernel_func=nn.ReLU,
    ):
        super().__init__()
        heads = heads or in_channels // dim
        total = heads * dim
        self.dim, self.eps = dim, eps
        self.qkv = ConvLayer(in_channels, 3 * total, use_bias, norm=False)
        self.aggreg = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    3 * total, 3 * total, scale, padding=scale // 2, groups=3 * total, bias=use_bias
                ),
                nn.Conv2d(3 * total, 3 * total, 1, groups=3 * heads, bias=use_bias),
            )
            for scale in scales
        )
        self.kernel_func = kernel_func()
        self.proj = ConvLayer(total * (1 + len(scales)), out_channels, use_bias, norm=True)

    def forward(self, x):
        qkv = self.qkv(x)
        scales = torch.cat([qkv, *(part(qkv) for part in self.aggreg)], 1).flatten(2)
        query, key, value = scales.unflatten(1, (-1, 3, self.dim)).unbind(
            2
        )  # (N, heads, dim, positions)
        query, key = self.kernel_func(query).float(), self.kernel_func(key).float()
        scores = query.mT @ key
        attended = scores / (scores.sum(-1, keepdim=True) + self.eps) @ value.mT.float()
        return self.proj(attended.to(x.dtype).mT.flatten(1, 2).unflatten(2, x.shape[2:]))


# ---- the linear attention of denoising-diffusion U-Nets ------------------------------------------


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) * self.g * self.scale


class LinearAttention(nn.Module):
    """denoising-diffusion-pytorch: softmax of k over positions and memory keys, of q over
    channels.
    """

    query_axis, key_axis = -1, -2

    def __init__(self, dim, heads=4, dim_head=32, num_mem_kv=4):
        super().__init__()
        self.scale, self.heads = dim_head**-0.5, heads
        self.norm = RMSNorm(dim)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, dim_head, num_mem_kv))
        self.to_qkv = nn.Conv2d(dim, 3 * heads * dim_head, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * dim_head, dim, 1), RMSNorm(dim))

    def forward(self, x):
        tokens = self.to_qkv(self.norm(x)).flatten(2).mT
        query, key, value = (
            t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in tokens.chunk(3, -1)
        )
        memory = self.mem_kv.mT[:, None].expand(-1, len(x), -1, -1, -1)
        key, value = (torch.cat([m, t], 2) for m, t in zip(memory, (key, value), strict=True))
        attended = (
            query.softmax(self.query_axis) * self.scale @ (key.softmax(self.key_axis).mT @ value)
        )
        return self.to_out(attended.transpose(1, 2).flatten(2).mT.unflatten(2, x.shape[2:]))


class OtherAxis(LinearAttention):
    """Softmax of q over positions, too."""

    query_axis = -2


class EarlierLinearAttention(LinearAttention):
    """Earlier versions: no memory, no norm before the projections, values divided by the number of
    positions or not.
    """

    def __init__(self, dim, heads=2, dim_head=4, divided=True):
        nn.Module.__init__(self)
        self.scale, self.heads, self.divided = dim_head**-0.5, heads, divided
        self.to_qkv = nn.Conv2d(dim, 3 * heads * dim_head, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x):
        maps = self.to_qkv(x).flatten(2)
        query, key, value = (t.unflatten(1, (self.heads, -1)) for t in maps.chunk(3, 1))
        value = value / maps.shape[2] if self.divided else value
        attended = (key.softmax(-1) @ value.mT).mT @ (query.softmax(-2) * self.scale)
        return self.to_out(attended.flatten(1, 2).unflatten(2, x.shape[2:]))


# ---- channels on channels ------------------------------------------------------------------------


def of_length_one(t: Tensor) -> Tensor:
    """Each channel over its positions, the last axis."""
    return t / t.norm(dim=-1, keepdim=True).clamp(min=1e-12)


class Attention(nn.Module):
    """Restormer's MDTA (Zamir et al., CVPR 2022)."""

    map_axis = -1

    def __init__(self, dim, num_heads, bias):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x):
        qkv = self.qkv_dwconv(self.qkv(x)).flatten(2)
        query, key, value = (t.unflatten(1, (self.num_heads, -1)) for t in qkv.chunk(3, 1))
        scores = of_length_one(query) @ of_length_one(key).mT * self.temperature
        attended = scores.softmax(self.map_axis) @ value
        return self.project_out(attended.flatten(1, 2).unflatten(2, x.shape[2:]))


class OtherMapAxis(Attention):
    map_axis = -2


class XCA(nn.Module):
    """XCiT's cross-covariance attention (El-Nouby et al., NeurIPS 2021), on tokens."""

    def __init__(self, dim, num_heads=8, qkv_bias=False, attn_drop=0.0, proj_drop=0.0):
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop, self.proj, self.proj_drop = (
            nn.Dropout(attn_drop),
            nn.Linear(dim, dim),
            nn.Dropout(proj_drop),
        )

    def forward(self, x, mask=None):
        query, key, value = (
            t.unflatten(2, (self.num_heads, -1)).permute(0, 2, 3, 1)
            for t in self.qkv(x).chunk(3, 2)
        )
        if mask is not None:
            key = key * mask
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * self.temperature
        attended = self.attn_drop(scores.softmax(-1)) @ value
        return self.proj_drop(self.proj(attended.flatten(1, 2).mT))
