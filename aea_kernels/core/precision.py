"""How floating-point numbers are multiplied."""

from __future__ import annotations

import torch

PRECISIONS = {"highest": "bf16x6", "high": "bf16x3", "medium": "tf32"}
"""`torch.get_float32_matmul_precision()` -> how kernels multiply feature maps of float32."""

PARTS = {"bf16x6": 3, "bf16x3": 2}
"""How many numbers of bfloat16 add up to a factor in float32; the products of these that count are
six and three.

Three numbers have all 24 bits of float32, two about 16. Where float32 gives NaN, so does this.
Infinity times a number stays infinity up to 255; beyond, and where a product is too large for
float32, the result is infinity or NaN. With two numbers the largest float32 rounds to infinity. A
factor loses what lies below 2^-134, so bits of numbers below 2^-110, and the smallest are zero.
"""

PRODUCTS_OF_16_BITS = {"16-bit": 1, "tf32": 2, "bf16x3": 3, "bf16x6": 6}
"""How many products of 16 bits take tensor cores as long as one of a value of `PRECISIONS`."""

_ieee_products = False


def set_ieee_products(wanted: bool) -> None:
    """Say whether the kernels multiply float32 on the GPU's ordinary units, in the whole process.

    By default they use tensor cores where `torch.get_float32_matmul_precision()` is "highest":
    every factor is the sum of three numbers of bfloat16, and six products of these are added up.
    The result is as accurate, and a GPU from sm_80 on takes a fraction of the time. Other GPUs
    always use their ordinary units. With "high" and "medium" nothing changes.

    Args:
        wanted: True for ordinary units, where every product is rounded as IEEE 754 says; False for
            tensor cores.
    """
    global _ieee_products
    _ieee_products = wanted


def multiplication(dtype: torch.dtype, architecture: int = 90) -> str:
    """How feature maps of `dtype` are multiplied: "ieee" on ordinary units, else on tensor cores.

    Args:
        dtype: of the feature maps.
        architecture: 90 for sm_90, and so on.

    Returns:
        "16-bit", "ieee", or a value of `PRECISIONS`.
    """
    if dtype != torch.float32:
        return "16-bit" if dtype.itemsize == 2 else "ieee"
    # Triton has no tensor cores there for float32, or none for bfloat16
    if torch.version.hip is not None or architecture < 80:
        return "ieee"
    setting = float32_setting()
    return "ieee" if _ieee_products and setting == "highest" else PRECISIONS[setting]


def float32_setting() -> str:
    """ "highest", "high" or "medium", by whichever of PyTorch's switches it was told so."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it refuses to answer once the newer switch was used
        return "medium" if tf32_allowed() else "highest"


def tf32_allowed() -> bool:
    """Whether PyTorch multiplies matrices of float32 in TF32 on a GPU, by whichever of its switches
    it was told so.
    """
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# as `torch.compiler.assume_constant_result` does, which would import its compiler: it cannot trace
# these questions, but compiles anew where TF32 is allowed or no longer is
float32_setting._dynamo_marked_constant = True  # type: ignore[attr-defined]
tf32_allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]
