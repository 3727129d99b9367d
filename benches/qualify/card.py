"""What the card can do: the rates against which everything else is held."""

from __future__ import annotations

from functools import partial

import torch

from ..cases import arithmetic
from .clock import median_seconds
from .visit import Visit

PRODUCTS = [
    ("bfloat16", torch.bfloat16, "float32"),
    ("float16", torch.float16, "float32"),
    ("tf32", torch.float32, "tf32"),
    ("float32", torch.float32, "float32"),
]
"""Names of the rates, dtype of the factors, and how float32 is multiplied."""


def measure(visit: Visit) -> None:
    """Bytes a second of a copy, read and written, and operations a second of a product of random
    matrices.
    """
    elements = 2**12 if visit.tiny else 2**30
    source = torch.randn(elements, device=visit.device)
    target = torch.empty_like(source)
    seconds = median_seconds(partial(target.copy_, source), visit.device)
    visit.put("card", "copy", 2 * source.nbytes / seconds)

    side = 64 if visit.tiny else 8192
    for name, dtype, how in visit.in_time(PRODUCTS):
        a, b = (torch.randn(side, side, device=visit.device).to(dtype) for _ in range(2))
        with arithmetic(how, visit.device):
            seconds = median_seconds(partial(torch.matmul, a, b), visit.device)
        visit.put("card", name, 2 * side**3 / seconds)
