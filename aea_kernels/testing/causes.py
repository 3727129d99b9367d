"""Why a symmetry is broken, as far as the class and weights of a layer and the place of its error
tell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .axis_groups import AxisElement
from .errors import Verdict, dtype_name
from .groups import Translation
from .layouts import MapLayout
from .results import ElementError, Errors
from .symmetry import Element

Convolution = nn.modules.conv._ConvNd
POOLINGS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._LPPoolNd,
)


def likely_cause(
    module: nn.Module, errors: Errors, element: Element, given: MapLayout | None
) -> str:
    """One clause on the layer's own errors.

    Args:
        module: the layer.
        errors: its own.
        element: the one that gives the worst.
        given: the layout of its input, where it is known.
    """
    cause = ""
    if errors.verdict is Verdict.BROKEN and given is not None and given.fibre is not None:
        cause = f"it does not take along how its input transforms, as {given.name}"
    elif errors.verdict is Verdict.BROKEN:
        cause = _cause_in_geometry(module, element, at_border(errors.worst))
    has_layers = any(True for _ in module.children())
    between = "between the layers that it calls, " if has_layers else ""
    return cause or cause_of(errors.worst, errors.dtype, between)


def cause_of(error: ElementError, dtype: torch.dtype, where: str = "") -> str:
    """One clause on an error of anything; `where` stands before a place in the computation."""
    # a reason or the verdict explains it, wherever on the map it is
    if error.reason:
        return error.reason
    if error.verdict is Verdict.OVERFLOW:
        return f"values beyond the range of {dtype_name(dtype)}"
    if error.verdict is Verdict.NOT_FINITE:
        return "its output is not finite: a division by zero, or a function outside its domain"
    if error.verdict is Verdict.PRECISION:
        return (
            f"a computation in less than {dtype_name(dtype)}, or a choice that rounding decides, "
            "such as a threshold"
        )

    # the result is finite and its error no rounding: its place is all that is known
    if at_border(error):
        return f"{where}padding, a crop or the stride: the differences are at the border"
    return (
        f"{where}a computation that depends on where a value stands: the differences are all over "
        "the map"
    )


def at_border(error: ElementError) -> bool:
    """Whether all differences are near the border of the map."""
    return error.decisive is not None and error.decisive.at_border


def _cause_in_geometry(module: nn.Module, element: Element, border: bool) -> str:
    """What convolutions and poolings do to positions; "" for other layers and elements."""
    # a kernel that is not symmetric explains it, whatever stride and padding are
    convolves = isinstance(module, Convolution)
    if isinstance(element, AxisElement) and convolves:
        asymmetry = _asymmetry(module, element)
        if asymmetry > 1e-6:
            return (
                f"its kernel is not symmetric under the {element.name} "
                f"(relative difference {asymmetry:.2g})"
            )
        return (
            f"its stride {module.stride} or its padding treats the two ends of an axis differently "
            "at this size"
        )

    # a pooling has no weights, so its geometry is to blame
    if isinstance(element, AxisElement) and isinstance(module, POOLINGS):
        return f"its stride {module.stride} treats the two ends of an axis differently at this size"
    if isinstance(element, Translation) and (convolves or isinstance(module, POOLINGS[0])):
        return "its padding" if border else "its stride, of which the shift is no multiple"
    return "it mixes a position with its neighbours" if convolves else ""


def _asymmetry(module: nn.Module, element: AxisElement) -> float:
    """How much the element changes the convolution's kernel, relative to its largest weight."""
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    moved = element.act(weight, ())
    if moved.shape != weight.shape:
        return 1.0
    largest = weight.abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
    return float((moved - weight).abs().max() / largest)
