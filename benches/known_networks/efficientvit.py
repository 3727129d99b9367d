"""EfficientViT for segmentation (Cai et al., ICCV 2023, arXiv:2205.14756), variant B0: ReLU linear
attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS, DEPTHS, HEAD_WIDTH, SCALES = (8, 16, 32, 64, 128), (1, 2, 2, 2, 2), 16, (5,)
CLASSES, HEAD_CHANNELS = 2, 32


class ConvLayer(nn.Module):
    """Convolution, BN and activation, the last two where asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        act: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias
        )
        self.norm = nn.BatchNorm2d(outputs) if norm else None
        self.act = nn.Hardswish() if act else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.act is None else self.act(x)


class MBConv(nn.Module):
    """Expansion by 4, depthwise convolution, projection; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 4) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.layers = nn.Sequential(
            ConvLayer(inputs, hidden),
            ConvLayer(hidden, hidden, 3, stride, groups=hidden),
            ConvLayer(hidden, outputs, act=False),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class LiteMLA(nn.Module):
    """Multi-scale ReLU linear attention (Eq. 2), values padded by a column of ones for the
    divisor. Arguments and names of its parts are those of the authors.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int | None = None,
        dim: int = HEAD_WIDTH,
        use_bias: bool = False,
        scales: tuple[int, ...] = SCALES,
        eps: float = 1e-15,
        kernel_func: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        heads = heads or in_channels // dim
        total = 3 * heads * dim
        self.dim, self.eps, self.kernel_func = dim, eps, kernel_func()
        self.qkv = ConvLayer(in_channels, total, norm=False, act=False, bias=use_bias)

        # each scale aggregates the queries, keys and values of a neighbourhood
        self.aggreg = nn.ModuleList()
        for scale in scales:
            depthwise = nn.Conv2d(
                total, total, scale, padding=scale // 2, groups=total, bias=use_bias
            )
            pointwise = nn.Conv2d(total, total, 1, groups=3 * heads, bias=use_bias)
            self.aggreg.append(nn.Sequential(depthwise, pointwise))

        attended = heads * dim * (1 + len(scales))
        self.proj = ConvLayer(attended, out_channels, act=False, bias=use_bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        scales = torch.cat([qkv, *(part(qkv) for part in self.aggreg)], 1).flatten(2)
        query, key, value = scales.unflatten(1, (-1, 3, self.dim)).unbind(2)  # (N, H, E, S)
        query, key = self.kernel_func(query).float(), self.kernel_func(key).float()
        sums = F.pad(value.float(), (0, 0, 0, 1), value=1.0) @ key.mT  # (N, H, E + 1, E)
        attended = sums @ query
        attended = (attended[:, :, :-1] / (attended[:, :, -1:] + self.eps)).to(x.dtype)
        output: Tensor = self.proj(attended.flatten(1, 2).unflatten(2, x.shape[2:]))
        return output


class AttentionStage(nn.Module):
    """Attention, then MBConv, each with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.context, self.local = LiteMLA(channels, channels), MBConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.local(x + self.context(x))
        return output


class SegmentationNetwork(nn.Module):
    """(N, 1, H, W) -> (N, classes, H / 8, W / 8); sides divisible by 32."""

    def __init__(self) -> None:
        # each level halves the sides; attention begins where the maps are small
        super().__init__()
        self.stem = nn.Sequential(
            ConvLayer(1, WIDTHS[0], 3, 2), MBConv(WIDTHS[0], WIDTHS[0], expansion=1)
        )
        self.stages = nn.ModuleList()
        for level in range(1, 5):
            inputs, outputs = WIDTHS[level - 1], WIDTHS[level]
            if level < 3:
                rest: list[nn.Module] = [MBConv(outputs, outputs) for _ in range(DEPTHS[level] - 1)]
            else:
                rest = [AttentionStage(outputs) for _ in range(DEPTHS[level])]
            self.stages.append(nn.Sequential(MBConv(inputs, outputs, stride=2), *rest))

        # the last three levels, brought to one width and size, are summed
        self.heads = nn.ModuleList(
            ConvLayer(width, HEAD_CHANNELS, act=False) for width in WIDTHS[2:]
        )
        self.head = nn.Sequential(
            MBConv(HEAD_CHANNELS, HEAD_CHANNELS), nn.Conv2d(HEAD_CHANNELS, CLASSES, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x, levels = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        parts = [head(level) for head, level in zip(self.heads, levels[1:], strict=True)]
        size = parts[0].shape[2:]
        merged = sum(F.interpolate(part, size, mode="bicubic") for part in parts)
        output: Tensor = self.head(merged)
        return output
