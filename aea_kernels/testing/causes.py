"""Why a layer breaks a symmetry, as far as its class, its weights and the place of its error
tell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import Verdict
from .groups import AxisElement, Translation
from .measure import Errors
from .symmetry import Element

POOLINGS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._LPPoolNd,
)
Convolution = nn.modules.conv._ConvNd


def likely_cause(module: nn.Module, own: Errors, element: Element) -> str:
    """One clause on the layer's worst own error; `element` is the one that gives it."""
    worst = own.worst
    if worst.reason:
        return worst.reason
    if worst.verdict is Verdict.OVERFLOW:
        return f"its output is beyond the range of {own.dtype}".replace("torch.", "")
    if worst.verdict is Verdict.NOT_FINITE:
        return "its output is not finite"
    if worst.verdict is Verdict.PRECISION:
        return "it computes in less than the working precision, or rounding decides a choice in it, such as a threshold"
    decisive = worst.double or worst.working
    at_border = decisive is not None and decisive.at_border
    if isinstance(module, Convolution) and isinstance(element, AxisElement):
        asymmetry = _asymmetry(module, element)
        if asymmetry > 1e-6:
            return f"its kernel is not symmetric under the {element.name} (relative difference {asymmetry:.2g})"
        return f"its stride {module.stride} or its padding treats the two ends of an axis differently at this size"
    if isinstance(module, POOLINGS) and isinstance(element, AxisElement):
        return f"its stride {module.stride} treats the two ends of an axis differently at this size"
    if isinstance(module, Convolution | nn.modules.pooling._MaxPoolNd) and isinstance(
        element, Translation
    ):
        return "its padding" if at_border else "its stride, of which the shift is no multiple"
    if isinstance(module, Convolution):
        return "it mixes a position with its neighbours"
    where = "between the layers that it calls, " if any(True for _ in module.children()) else ""
    if at_border:
        return f"{where}padding, a crop or the stride: the differences are at the border"
    return f"{where}a computation that depends on where a value stands: the differences are all over the map"


def _asymmetry(module: nn.Module, element: AxisElement) -> float:
    """How much the element changes the convolution's kernel, relative to its largest weight."""
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    moved = element.act(weight, ())
    if moved.shape != weight.shape:
        return 1.0
    return float(
        (moved - weight).abs().max() / weight.abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
    )
