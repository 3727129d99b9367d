"""The non-local block of Wang et al. (CVPR 2018, arXiv:1711.07971, Fig. 2) in mode dot_product."""

from __future__ import annotations

from torch import Tensor, nn


class NONLocalBlock2D(nn.Module):
    """``x + W(theta(x) . phi(x)^T g(x) / N)``: the map (N x N) is formed, as the published
    implementations do.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inter_channels = channels // 2
        self.g, self.theta, self.phi = (
            nn.Conv2d(channels, self.inter_channels, 1) for _ in range(3)
        )
        self.W = nn.Conv2d(self.inter_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.theta, self.phi, self.g))
        scores = query.mT @ key / key.shape[2]
        attended = (scores @ value.mT).mT.unflatten(2, x.shape[2:])
        output: Tensor = self.W(attended)
        return x + output
