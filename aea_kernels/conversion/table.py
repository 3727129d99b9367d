"""The blocks that are recognised, one entry each."""

from __future__ import annotations

from . import nonlocal_blocks
from .recognising import Recogniser

RECOGNISERS = (
    Recogniser(
        "mmcv",
        ("NonLocal1d", "NonLocal2d", "NonLocal3d"),
        ("g", "conv_out", "mode", "sub_sample"),
        nonlocal_blocks.swap_mmcv,
        nonlocal_blocks.probe,
        "linear attention",
    ),
    Recogniser(
        "AlexHex7/Non-local_pytorch",
        ("NONLocalBlock1D", "NONLocalBlock2D", "NONLocalBlock3D"),
        ("g", "W", "inter_channels"),
        nonlocal_blocks.swap_alexhex,
        nonlocal_blocks.probe,
        "linear attention",
    ),
    Recogniser(
        "SlowFast, pytorchvideo",
        ("Nonlocal", "NonLocal"),
        ("conv_theta", "conv_phi", "conv_g", "conv_out", "instantiation"),
        nonlocal_blocks.swap_slowfast,
        nonlocal_blocks.probe,
        "linear attention",
    ),
)
