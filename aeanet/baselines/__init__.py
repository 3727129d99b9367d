"""The methods the paper compares with, to be trained, applied and scored like its own networks."""

from aeanet.baselines.convolutional import EDSR, RCAN, VDSR
from aeanet.baselines.examples import Library
from aeanet.baselines.nonlocalmeans import PairedNonLocalMeans
from aeanet.baselines.sparse import SparseCombination

__all__ = ["EDSR", "RCAN", "VDSR", "Library", "PairedNonLocalMeans", "SparseCombination"]
