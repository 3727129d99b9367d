"""The blocks that are recognised, one entry each."""

from __future__ import annotations

from . import families, nonlocal_blocks, processors
from .recognising import Recogniser

RECOGNISERS = (
    Recogniser(
        "mmcv",
        ("NonLocal1d", "NonLocal2d", "NonLocal3d"),
        ("g", "conv_out", "mode", "sub_sample"),
        nonlocal_blocks.swap_mmcv,
        families.probe_map,
        "linear_attention",
    ),
    Recogniser(
        "AlexHex7/Non-local_pytorch",
        ("NONLocalBlock1D", "NONLocalBlock2D", "NONLocalBlock3D"),
        ("g", "W", "inter_channels"),
        nonlocal_blocks.swap_alexhex,
        families.probe_map,
        "linear_attention",
    ),
    Recogniser(
        "SlowFast, pytorchvideo",
        ("Nonlocal", "NonLocal"),
        ("conv_theta", "conv_phi", "conv_g", "conv_out", "instantiation"),
        nonlocal_blocks.swap_slowfast,
        families.probe_map,
        "linear_attention",
    ),
    Recogniser(
        "EfficientViT, timm",
        ("LiteMLA",),
        ("qkv", "aggreg", "kernel_func", "proj", "dim", "eps"),
        families.swap_lite_mla,
        families.probe_map,
        "relu_linear_attention",
    ),
    Recogniser(
        "diffusers",
        ("SanaMultiscaleLinearAttention",),
        ("to_qkv_multiscale", "nonlinearity", "processor"),
        families.swap_sana_multiscale,
        families.probe_map,
        "relu_linear_attention",
    ),
    Recogniser(
        "diffusers",
        ("Attention",),
        ("processor", "to_q", "to_k", "to_v", "to_out", "rescale_output_factor"),
        processors.swap_sana,
        processors.probe_tokens,
        "relu_linear_attention",
    ),
    Recogniser(
        "denoising-diffusion-pytorch",
        ("LinearAttention",),
        ("to_qkv", "to_out", "heads", "scale"),
        families.swap_efficient,
        families.probe_map,
        "efficient_attention",
    ),
    Recogniser(
        "Restormer",
        ("Attention", "MDTA"),
        ("qkv", "qkv_dwconv", "temperature", "project_out", "num_heads"),
        families.swap_transposed,
        families.probe_map,
        "channel_attention",
    ),
    Recogniser(
        "XCiT, timm",
        ("XCA",),
        ("qkv", "temperature", "proj", "num_heads"),
        families.swap_cross_covariance,
        families.probe_tokens,
        "channel_attention",
    ),
)
