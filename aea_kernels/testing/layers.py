"""The equivariance error layer by layer: each layer's own contribution, and what has accumulated up
to it.

Own: the layer is fed the transformed version of its untransformed input, ``layer(g x)`` against ``g
layer(x)``, without what the layers that it calls do; see `own`. Accumulated: the layer's output in
a run of the whole network on the transformed image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.float64 import everything_in_float64, tensors_in
from .causes import likely_cause
from .errors import UnmeasurableError, finite_maximum, rounding_error
from .interior import reach, with_nan
from .layouts import Frame, by_axes, layouts, strides_of
from .measure import (
    Errors,
    NotMeasured,
    Outcome,
    compare,
    element_error,
    input_layout,
    require_determinism,
)
from .own import own_error
from .precision import call, call_in_float64, copied
from .symmetry import Element, Group
from .tracing import Call, traced


@dataclass(frozen=True)
class Layer:
    """What a layer does to a symmetry.

    Attributes:
        name: of the module, with ``#2`` for its second call and so on; "" is the network.
        kind: the module's class.
        shape: of its output.
        own: its own contribution.
        accumulated: the error of its output in the whole network.
        cause: the likely cause of its own error, or "".
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    own: Errors
    accumulated: Errors
    cause: str

    @property
    def title(self) -> str:
        """Name and class, for a sentence."""
        return f"{self.name!r} ({self.kind})" if self.name else f"the network itself ({self.kind})"


@dataclass
class _Pass:
    """The outcomes in one precision: by the name of a call, for every element in its order."""

    calls: list[Call]
    own: dict[str, list[Outcome]]
    accumulated: dict[str, list[Outcome]]


def layer_errors(
    model: nn.Module, x: Tensor, groups: Sequence[Group], *, seed: int = 0
) -> list[list[Layer]]:
    """For each group, what every layer does, in the order in which the layers are called.

    Args:
        model: any network that maps x to a tensor, in the mode it is in; it is measured on copies.
        x: (N, C, *spatial), floating point.
        groups: see `groups`; of each, its `generators` are applied.
        seed: of the elements drawn at random.

    Raises:
        UnmeasurableError: the model is not deterministic, or fails.
        ValueError: x is no feature map, or a group has no element for its shape.
    """
    input_layout(x)
    frame = Frame(x.shape[0], tuple(x.shape[2:]))
    drawn = [group.generators(x.shape, torch.Generator().manual_seed(seed)) for group in groups]
    elements = [e for several in drawn for e in several]
    with (
        torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if x.is_cuda else []),
        torch.no_grad(),
    ):
        reached: dict[str, tuple[int, ...] | None] = {}
        double = None
        twin = copied(model, torch.float64)
        if call_in_float64(twin, x.double()) is not None:
            double = _measure(twin, x.double(), elements, frame, reached)
        working = (
            None
            if x.dtype == torch.float64
            else _measure(copied(model), x, elements, frame, reached)
        )
        if working is not None or double is None:
            require_determinism(copied(model), x)
    passes = [p for p in (working, double) if p is not None]
    if not passes:
        call(copied(model), x)
    eps = rounding_error(x)
    found, first = [], 0
    for group, several in zip(groups, drawn, strict=True):
        chosen = range(first, first + len(several))
        first += len(several)

        def errors(kind: str, name: str, group: Group = group, chosen: range = chosen) -> Errors:
            narrow, wide = (
                None if p is None else getattr(p, kind)[name] for p in (working, double)
            )
            rows = [
                element_error(
                    elements[i],
                    None if narrow is None else narrow[i],
                    None if wide is None else wide[i],
                    eps,
                )
                for i in chosen
            ]
            return Errors(group.name, x.dtype, eps, tuple(rows))

        layers = []
        for seen in passes[-1].calls:
            if seen.shape is None:
                continue
            own = errors("own", seen.name)
            failed = own.worst.verdict.fails
            cause = (
                likely_cause(
                    seen.module, own, next(e for e in several if e.name == own.worst.element)
                )
                if failed
                else ""
            )
            layers.append(
                Layer(
                    seen.name, seen.kind, seen.shape, own, errors("accumulated", seen.name), cause
                )
            )
        found.append(layers)
    return found


def first_fault(model: nn.Module, x: Tensor, group: Group) -> str:
    """The first layer that breaks the symmetry by itself and why, in words; "" where none does or
    none can be found.
    """
    try:
        layers = layer_errors(model, x, [group])[0]
    except (UnmeasurableError, ValueError):
        return ""
    fault = next((layer for layer in layers if layer.own.verdict.fails), None)
    return (
        "" if fault is None else f"{'the layer ' if fault.name else ''}{fault.title}: {fault.cause}"
    )


def _measure(
    model: nn.Module,
    x: Tensor,
    elements: list[Element],
    frame: Frame,
    reached: dict[str, tuple[int, ...] | None],
) -> _Pass:
    own: dict[str, list[Outcome]] = {}
    accumulated: dict[str, list[Outcome]] = {}
    in_float64 = x.dtype == torch.float64
    precision: Callable[[], Any] = everything_in_float64 if in_float64 else nullcontext

    def measure_own(seen: Call) -> None:
        seen.largest = finite_maximum(tensors_in(seen.inputs))
        own[seen.name] = [own_error(seen, element, frame) for element in elements]
        if seen.layout is None:
            output = seen.first_output()
            found = [] if output is None else layouts(output.shape, frame, seen.module)
            seen.layout = found[0] if found else None

    with precision(), traced(model, measure_own) as calls:
        call(model, x)
    by_name = {c.name: c for c in calls}

    if in_float64 and any(any(e.spill) for e in elements):

        def measure_reach(seen: Call) -> None:
            reached[seen.name] = _reached(seen, by_name.get(seen.name), frame)

        with precision(), traced(model, measure_reach, keep=False):
            call(model, with_nan(x, range(2, x.dim())))

    for element in elements:
        outcomes: dict[str, Outcome] = {}

        def measure_accumulated(
            seen: Call, element: Element = element, outcomes: dict[str, Outcome] = outcomes
        ) -> None:
            outcomes[seen.name] = _accumulated(
                seen, by_name.get(seen.name), element, frame, reached.get(seen.name)
            )

        moved = by_axes(x.dim(), range(2, x.dim())).act(x, element, frame)
        with precision(), traced(model, measure_accumulated, keep=False):
            call(model, moved)
        for name in by_name:
            outcome = outcomes.get(name, NotMeasured("it is not called for the transformed image"))
            accumulated.setdefault(name, []).append(outcome)
    for seen in calls:
        seen.output = None
    return _Pass(calls, own, accumulated)


def _accumulated(
    seen: Call,
    original: Call | None,
    element: Element,
    frame: Frame,
    reached: tuple[int, ...] | None,
) -> Outcome:
    before, after = None if original is None else original.first_output(), seen.first_output()
    if original is None or original.layout is None or before is None or after is None:
        return NotMeasured("its output is no feature map of the input")
    try:
        return compare(after, before, original.layout, element, frame, reached, original.largest)
    except UnmeasurableError as error:
        return str(error)


def _reached(marked: Call, original: Call | None, frame: Frame) -> tuple[int, ...] | None:
    output = marked.first_output()
    if original is None or original.layout is None or output is None:
        return None
    spatial = original.layout.spatial(output.shape)
    if len(spatial) != len(frame.spatial):
        return None
    return reach(original.layout.map(output)[0], frame.spatial, strides_of(frame, spatial))
