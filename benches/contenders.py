"""What a user would write or pick instead of the fused block, with the block's own weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import aea_kernels as aea


class PlainBlock(nn.Module):
    """The block in prediction as one writes it in eager PyTorch: product reordered, so no map, but nothing folded."""

    def __init__(self, block: aea.AugmentedAttention) -> None:
        super().__init__()
        self.block = block

    def _project(self, z: Tensor, projection: nn.Linear) -> Tensor:
        """(B, C, *spatial) -> (B, H, S, E)."""
        weight = projection.weight[(..., *[None] * (z.dim() - 2))]
        y = torch.nn.functional.conv2d(z, weight, projection.bias)
        return y.flatten(2).unflatten(1, (self.block.heads, -1)).mT

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        assert block.norm is not None
        z = torch.nn.functional.relu6(block.norm(x))
        q, k, v = (self._project(z, p) for p in (block.query, block.key, block.value))
        summary, count = k.mT @ v, k.shape[2]  # (B, H, E, D)
        if block.references is not None:
            raw = block.references.T[None, :, :, None]  # (1, C, R, 1)
            summary = summary + self._project(raw, block.key).mT @ self._project(raw, block.value)
            count += len(block.references)
        attended = (q @ summary * (block.scale / count)).mT.flatten(1, 2).unflatten(2, x.shape[2:])
        return x + torch.nn.functional.conv2d(attended, block.output.weight[..., None, None], block.output.bias)


class BareProducts(nn.Module):
    """The two matrix products that the folded block cannot do without: X X^T and M X, once for each image."""

    def __init__(self, block: aea.AugmentedAttention) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(block.channels, block.channels) / block.channels)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        flat @ flat.mT
        return (self.matrix @ flat).view_as(x)


def contenders(channels: int, references: int = 64) -> dict[str, nn.Module]:
    """By name, in prediction mode, all with the same weights."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(channels, references=references).eval()
    assert block.norm is not None
    nn.init.uniform_(block.norm.weight, 0.5, 2)
    nn.init.normal_(block.norm.bias)
    return {"aea": block, "plain eager": PlainBlock(block), "bare products": BareProducts(block)}
