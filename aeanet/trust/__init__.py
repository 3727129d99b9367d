"""How far to trust a restored image: its noise, its distance from the training images, and what was
taken away.
"""

from aeanet.trust.noise import Noise, estimate_noise
from aeanet.trust.reference import Reference
from aeanet.trust.report import TrustReport, assess, assess_pair, write_residual

__all__ = [
    "Noise",
    "Reference",
    "TrustReport",
    "assess",
    "assess_pair",
    "estimate_noise",
    "write_residual",
]
