"""How floating-point numbers are multiplied."""

from __future__ import annotations

import torch

PRECISIONS = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}
"""`torch.get_float32_matmul_precision()` -> the `input_precision` of every product of float32
feature maps.
"""


def multiplication(dtype: torch.dtype) -> str:
    """How feature maps of `dtype` are multiplied: "ieee" on ordinary units, or on tensor cores."""
    if (
        dtype == torch.float32 and torch.version.hip is None
    ):  # for AMD, Triton knows not all of the others
        try:
            return PRECISIONS[torch.get_float32_matmul_precision()]
        except RuntimeError:  # it refuses to answer once the newer switch was used
            return "tf32" if tf32_allowed() else "ieee"
    return "16-bit" if dtype.itemsize == 2 else "ieee"


def tf32_allowed() -> bool:
    """Whether PyTorch multiplies matrices of float32 in TF32 on a GPU, by whichever of its switches
    it was told so.
    """
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# as `torch.compiler.assume_constant_result` does, which would import its compiler: it cannot trace
# this question, but compiles anew where the answer is another
tf32_allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]
