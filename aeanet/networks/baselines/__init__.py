"""The methods the paper compares with, to be trained, applied and scored like its own networks."""

from aeanet.networks.baselines.convolutional import EDSR, RCAN, VDSR
from aeanet.networks.baselines.examples import Library, PairedNonLocalMeans, SparseCombination

__all__ = ["EDSR", "RCAN", "VDSR", "Library", "PairedNonLocalMeans", "SparseCombination"]
