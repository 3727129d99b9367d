"""The blocks that are recognised, one entry each, and inputs on which they are tried."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import channel_blocks, efficient_blocks, nonlocal_blocks, processors, relu_blocks, softmax
from .recognising import Recogniser

SIDES = {1: (7,), 2: (5, 6), 3: (2, 3, 4)}
"""Of the maps on which blocks are tried, by their number of axes."""
LARGE_SIDES = {1: (1400,), 2: (40, 35), 3: (9, 10, 11)}
"""Of those on which windows and grids of usual sizes show."""


def probe_map(module: Any, large: bool) -> Tensor:
    """A feature map for the first convolution or linear layer of the module."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
    first = next(part for part in module.modules() if isinstance(part, kinds))
    images, sides = (1, LARGE_SIDES) if large else (2, SIDES)
    if isinstance(first, nn.Linear):
        return torch.randn(images, first.in_features, *sides[2], dtype=torch.float64)
    side = sides[len(first.kernel_size)]
    return torch.randn(images, first.in_channels, *side, dtype=torch.float64)


def probe_tokens(module: Any, large: bool) -> Tensor:
    """Tokens (N, positions, C), of a batch that guided SANA can split in two or three.

    The large batch is the smallest of these, as their projections are wide.
    """
    first = module.to_q if hasattr(module, "to_q") else module.qkv
    images, positions = (3, 70) if large else (6, 7)
    return torch.randn(images, positions, first.in_features, dtype=torch.float64)


DIFFUSERS_PARTS = ("processor", "to_q", "to_k", "to_v", "to_out", "rescale_output_factor")
RECOGNISERS = (
    Recogniser(
        "mmcv",
        ("NonLocal1d", "NonLocal2d", "NonLocal3d"),
        ("g", "conv_out", "mode", "sub_sample"),
        nonlocal_blocks.swap_mmcv,
        "linear_attention",
        probe_map,
        only="in mode `dot_product`",
    ),
    Recogniser(
        "AlexHex7/Non-local_pytorch",
        ("NONLocalBlock1D", "NONLocalBlock2D", "NONLocalBlock3D"),
        ("g", "W", "inter_channels"),
        nonlocal_blocks.swap_alexhex,
        "linear_attention",
        probe_map,
        only="in mode `dot_product`",
    ),
    Recogniser(
        "SlowFast, pytorchvideo",
        ("Nonlocal", "NonLocal"),
        ("conv_theta", "conv_phi", "conv_g", "conv_out", "instantiation"),
        nonlocal_blocks.swap_slowfast,
        "linear_attention",
        probe_map,
        only="in mode `dot_product`",
    ),
    Recogniser(
        "EfficientViT, timm",
        ("LiteMLA",),
        ("qkv", "aggreg", "kernel_func", "proj", "dim", "eps"),
        relu_blocks.swap_lite_mla,
        "relu_linear_attention",
        probe_map,
    ),
    Recogniser(
        "diffusers",
        ("SanaMultiscaleLinearAttention",),
        ("to_qkv_multiscale", "nonlinearity", "processor"),
        relu_blocks.swap_sana_multiscale,
        "relu_linear_attention",
        probe_map,
    ),
    Recogniser(
        "diffusers",
        ("Attention",),
        DIFFUSERS_PARTS,
        processors.swap_sana,
        "relu_linear_attention",
        probe_tokens,
        only="with SANA's processors",
    ),
    Recogniser(
        "denoising-diffusion-pytorch",
        ("LinearAttention",),
        ("to_qkv", "to_out", "heads", "scale"),
        efficient_blocks.swap_efficient,
        "efficient_attention",
        probe_map,
    ),
    Recogniser(
        "Restormer",
        ("Attention", "MDTA"),
        ("qkv", "qkv_dwconv", "temperature", "project_out", "num_heads"),
        channel_blocks.swap_transposed,
        "channel_attention",
        probe_map,
    ),
    Recogniser(
        "XCiT, timm",
        ("XCA",),
        ("qkv", "temperature", "proj", "num_heads"),
        channel_blocks.swap_cross_covariance,
        "channel_attention",
        probe_tokens,
    ),
    Recogniser(
        "MONAI",
        ("SpatialAttentionBlock",),
        ("norm", "attn"),
        softmax.become_monai_block,
        "AugmentedAttention",
    ),
    Recogniser(
        "MONAI",
        ("SABlock",),
        ("num_heads", "out_proj", "drop_weights", "use_combined_linear"),
        softmax.become_sablock,
        "AugmentedAttention",
    ),
    Recogniser(
        "diffusers",
        ("Attention",),
        DIFFUSERS_PARTS,
        softmax.become_diffusers_block,
        "AugmentedAttention",
        only="with GroupNorm and residual",
    ),
    Recogniser(
        "diffusers",
        ("Attention",),
        DIFFUSERS_PARTS,
        softmax.swap_softmax_processor,
        "linear_attention",
        only="of other self-attention",
    ),
    Recogniser(
        "guided-diffusion",
        ("AttentionBlock",),
        ("norm", "qkv", "attention", "proj_out"),
        softmax.become_guided_block,
        "AugmentedAttention",
    ),
)
