"""`python -m benches.symmetries`: which symmetries blocks and networks have, and which layers break
them.

Writes `results/symmetries.json`, from which README's table is made. All weights are random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import aea_kernels as aea
from aea_kernels.testing import batch_order, d4, equivariance_report, permutations
from aeanet import build_model
from aeanet.io.text import write_json

from .known_networks.diffusion import LinearAttention
from .known_networks.efficientvit import LiteMLA
from .known_networks.restormer import Attention
from .record import RESULTS, commit

RECORD = RESULTS / "symmetries.json"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "`AugmentedAttention`": (lambda: aea.AugmentedAttention(64).eval(), 64),
    "the same in training": (lambda: aea.AugmentedAttention(64), 64),
    "linear attention of denoising-diffusion U-Nets": (lambda: LinearAttention(64).eval(), 64),
    "EfficientViT `LiteMLA`": (lambda: LiteMLA(64, 64).eval(), 64),
    "Restormer `Attention`": (lambda: Attention(48, 1, False).eval(), 48),
    "AEANet, a whole network": (lambda: build_model("aeanet").eval(), 1),
}
"""How each is built, and its channels."""


def measure(network: str) -> dict[str, dict[str, Any]]:
    """Symmetry -> error of the network, verdict, and the layers that break it by themselves."""
    build, channels = NETWORKS[network]
    torch.manual_seed(0)
    model, x = build(), torch.randn(4, channels, 32, 32)
    report = equivariance_report(model, x, [permutations, d4, batch_order])
    return {
        group: {
            "error": layers[0].accumulated.error,
            "verdict": str(layers[0].accumulated.verdict),
            "culprits": [layer.name for layer in report.culprits(group)],
        }
        for group, layers in report.layers.items()
    }


def main() -> None:
    networks = {network: measure(network) for network in NETWORKS}
    write_json(RECORD, {"commit": commit(), "torch": torch.__version__, "networks": networks}, 1)
    for network, found in networks.items():
        print(network, *(f"{group}: {result['verdict']}" for group, result in found.items()))


if __name__ == "__main__":
    main()
