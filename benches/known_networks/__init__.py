"""Whole networks that people use, each with the attention it comes with, for `test_networks.py`.

MONAI's are MONAI's own. The others are written from their papers, with the layers and the names
that `aea_kernels.convert` knows, and smaller where a CPU would need minutes for a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import aea_kernels as aea

from ..contenders import Unavailable


@dataclass(frozen=True)
class Case:
    """A network and how its attention is replaced."""

    name: str
    build: Callable[[], nn.Module]
    """A network for grey images (1, 1, H, W), sides divisible by 32, in evaluation mode."""
    retrain: bool = False
    """Its attention is softmax: replaced, it computes another function and must be trained again.
    """
    size: tuple[int, int] = (944, 1280)
    """Of the image: the whole one, or what the network reaches with its own attention."""
    step: tuple[int, int] = (512, 512)
    """Of the image of a forward and backward pass."""
    has_map: bool = False
    """Its own attention forms the map of positions by positions."""
    sides: tuple[int, ...] = (256, 512)
    """Of the square images from whose memory that of larger ones is extrapolated; with a map three
    of them.
    """


class Grey(nn.Module):
    """A network called with the image alone."""

    def __init__(self, network: nn.Module, **arguments: Any) -> None:
        super().__init__()
        self.network, self.arguments = network, arguments

    def forward(self, x: Tensor) -> Any:
        return self.network(x, **self.arguments)


class WithNonLocal(nn.Module):
    """A block, then a non-local block: how people put attention into a network that has none."""

    def __init__(self, block: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor) -> Any:
        return self.attention(self.block(x))


def _own(module: str, name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(import_module(f"{__name__}.{module}"), name)()


def foreign(module: str) -> Any:
    """A module of a library that need not be there: raises Unavailable."""
    try:
        return import_module(module)
    except ImportError as error:
        raise Unavailable(f"{module.partition('.')[0]} is not installed") from error


def basic_unet() -> nn.Module:
    """MONAI's BasicUNet, with a non-local block in mode dot_product at its bottom."""
    from .nonlocal_block import NONLocalBlock2D

    features = (32, 32, 64, 128, 256, 32)
    network = foreign("monai.networks.nets").BasicUNet(2, 1, 1, features=features)
    attention = NONLocalBlock2D(features[4], sub_sample=False, bn_layer=False)
    network.down_4 = WithNonLocal(network.down_4, attention)
    return network


def diffusion_model_unet() -> nn.Module:
    """MONAI's DiffusionModelUNet, softmax attention at its two lower levels."""
    network = foreign("monai.networks.nets").DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(32, 64, 64),
        attention_levels=(False, True, True),
        num_res_blocks=1,
        num_head_channels=32,
    )
    return Grey(network, timesteps=torch.zeros(1, dtype=torch.long))


CASES = (
    Case("MONAI BasicUNet + non-local", basic_unet, has_map=True, sides=(512, 1024, 1536)),
    Case(
        "MONAI DiffusionModelUNet",
        diffusion_model_unet,
        retrain=True,
        size=(256, 256),
        step=(256, 256),
        has_map=True,
        sides=(128, 192, 256),
    ),
    Case("denoising-diffusion U-Net", _own("diffusion", "DiffusionUNet")),
    Case("Restormer", _own("restormer", "Restormer"), step=(256, 256)),
    Case("EfficientViT segmentation", _own("efficientvit", "SegmentationNetwork")),
)


def build(case: Case, *, converted: bool) -> nn.Module:
    """The network with the same numbers at every call, with its own attention or this library's."""
    torch.manual_seed(0)
    network = case.build().eval()
    if converted:
        aea.convert(network, retrain=case.retrain)
    return network
