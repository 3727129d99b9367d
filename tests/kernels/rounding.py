"""Results of two programs, which may sum the same numbers in another order."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDINGS = 64
"""Of the largest number, as many as sums of some thousand terms may differ by."""


def assert_same_but_for_rounding(found: Tensor, expected: Tensor) -> None:
    """Sums in float32 or float64, whichever the dtype is accumulated in, and then one rounding to
    the dtype.
    """
    summed = torch.promote_types(expected.dtype, torch.float32)
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        found,
        expected,
        rtol=torch.finfo(expected.dtype).eps,
        atol=ROUNDINGS * torch.finfo(summed).eps * largest,
    )
