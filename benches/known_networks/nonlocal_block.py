"""The non-local block of Wang et al. (CVPR 2018, arXiv:1711.07971, Fig. 2), written from the paper;
the names of classes, parts and arguments are those of AlexHex7/Non-local_pytorch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.MaxPool1d(2), 2: nn.MaxPool2d((2, 2)), 3: nn.MaxPool3d((1, 2, 2))}


def attended(query: Tensor, key: Tensor, value: Tensor, mode: str) -> Tensor:
    """(N, E, *spatial) each -> (N, E, positions of the query): Eq. 1 of the paper with the map in
    memory.
    """
    scores = query.flatten(2).mT @ key.flatten(2)  # (N, positions, keys)
    if mode == "dot_product":
        scores = scores / scores.shape[-1]
    elif mode == "softmax":
        scores = (scores * query.shape[1] ** -0.5).softmax(-1)
    else:  # softmax over the other axis
        scores = scores.softmax(1)
    return (scores @ value.flatten(2).mT).mT


class _NonLocalBlockND(nn.Module):
    """``x + W(theta(x) . phi(x)^T g(x) / N)``: the map (N x N) is formed, as the published
    implementations do. There each mode is a file of its own with the same class names and parts.
    """

    mode = "dot_product"

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        dimension: int = 2,
        sub_sample: bool = True,
        bn_layer: bool = True,
        bias: bool = True,
    ) -> None:
        # keys and values may be pooled, queries never: the result has a value for each position
        super().__init__()
        self.in_channels = in_channels
        self.inter_channels = inter_channels or max(1, in_channels // 2)
        conv = CONV[dimension]
        self.g, self.theta, self.phi = (
            conv(in_channels, self.inter_channels, 1, bias=bias) for _ in range(3)
        )
        self.W = conv(self.inter_channels, in_channels, 1, bias=bias)
        if bn_layer:
            self.W = nn.Sequential(self.W, BATCH_NORM[dimension](in_channels))
        if sub_sample:
            self.g = nn.Sequential(self.g, POOL[dimension])
            self.phi = nn.Sequential(self.phi, POOL[dimension])

    def forward(self, x: Tensor, return_nl_map: bool = False) -> Any:
        y = attended(self.theta(x), self.phi(x), self.g(x), self.mode).unflatten(2, x.shape[2:])
        z = x + self.W(y)
        return (z, self.theta(x).flatten(2).mT @ self.phi(x).flatten(2)) if return_nl_map else z


class NONLocalBlock1D(_NonLocalBlockND):
    def __init__(self, in_channels: int, **options: Any) -> None:
        super().__init__(in_channels, dimension=1, **options)


class NONLocalBlock2D(_NonLocalBlockND):
    def __init__(self, in_channels: int, **options: Any) -> None:
        super().__init__(in_channels, dimension=2, **options)


class NONLocalBlock3D(_NonLocalBlockND):
    def __init__(self, in_channels: int, **options: Any) -> None:
        super().__init__(in_channels, dimension=3, **options)
