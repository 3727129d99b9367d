"""The equivariance error layer by layer: each layer's own contribution, and what has accumulated up
to it.

Own: the layer is fed the transformed version of its untransformed input, ``layer(g x)`` against
``g layer(x)``, without what the layers that it calls do; see `isolated`. Accumulated: the layer's
output in a run of the whole network on the transformed image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.float64 import everything_in_float64, tensors_in
from .causes import likely_cause
from .errors import UnmeasurableError, finite_maximum
from .interior import with_nan
from .isolated import own_error
from .layouts import Frame, input_layout, possible_layouts
from .measure import compare, reach_in, require_change
from .precision import call, call_in_float64, copied, require_determinism
from .results import Errors, NotMeasured, Outcome, judged
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


Found = dict[tuple[str, str, int], Outcome]
"""Outcomes in one precision, by their kind, "own" or "accumulated", the name of a call and the `id`
of an element.
"""


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
        UnmeasurableError: the model is not deterministic, or fails; or no layer breaks a symmetry
            and no element changes x, which shows nothing.
        ValueError: x is no feature map, or a group has no element for its shape.
    """
    input_layout(x)
    drawn = [group.generators(x.shape, torch.Generator().manual_seed(seed)) for group in groups]
    elements = [element for several in drawn for element in several]
    devices = range(torch.cuda.device_count()) if x.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        calls, *passes = _passes(model, x, elements)

    found = []
    for group, several in zip(groups, drawn, strict=True):
        layers = []
        for seen in calls:
            if seen.shape is None:
                continue
            own, accumulated = (
                judged(group, several, x, *_chosen(passes, kind, seen.name, several))
                for kind in ("own", "accumulated")
            )
            cause = ""
            if own.worst.verdict.fails:
                worst = next(e for e in several if e.name == own.worst.element)
                cause = likely_cause(seen.module, own, worst)
            layers.append(Layer(seen.name, seen.kind, seen.shape, own, accumulated, cause))
        if not any(layer.own.verdict.fails for layer in layers):
            require_change(input_layout(x), x, several, group)
        found.append(layers)
    return found


def _chosen(
    passes: Sequence[Found | None], kind: str, name: str, elements: Sequence[Element]
) -> list[list[Outcome] | None]:
    """The outcomes of one call for the elements of one group, in each precision."""
    return [
        None if found is None else [found[kind, name, id(element)] for element in elements]
        for found in passes
    ]


def first_fault(model: nn.Module, x: Tensor, group: Group) -> str:
    """The first layer that breaks the symmetry by itself and why, in words; "" where none does or
    none can be found.
    """
    try:
        layers = layer_errors(model, x, [group])[0]
    except (UnmeasurableError, ValueError):
        return ""
    for layer in layers:
        if layer.own.verdict.fails:
            return f"{'the layer ' if layer.name else ''}{layer.title}: {layer.cause}"
    return ""


def _passes(
    model: nn.Module, x: Tensor, elements: list[Element]
) -> tuple[list[Call], Found | None, Found | None]:
    """The calls of the layers, and what is found in the dtype of x, None where that is float64, and
    in float64, None where the model does not take it.
    """
    reached: dict[str, tuple[int, ...] | None] = {}
    calls: list[Call] = []
    working, double = None, None
    twin = copied(model, torch.float64)
    if call_in_float64(twin, x.double()) is not None:
        calls, double = _measure(twin, x.double(), elements, reached)
    if x.dtype != torch.float64:
        narrow_calls, working = _measure(copied(model), x, elements, reached)
        calls = calls or narrow_calls
    if x.dtype != torch.float64 or double is None:
        require_determinism(copied(model), x)
    return calls, working, double


def _measure(
    model: nn.Module,
    x: Tensor,
    elements: list[Element],
    reached: dict[str, tuple[int, ...] | None],
) -> tuple[list[Call], Found]:
    """Run the model on x and on the transformed images.

    `reached` is how far each call sees, by its name: the pass in float64 finds it for both.
    """
    frame = Frame(x.shape[0], tuple(x.shape[2:]))
    in_float64 = x.dtype == torch.float64
    found: Found = {}

    def run(image: Tensor, measure: Callable[[Call], None], *, keep: bool = False) -> list[Call]:
        precision = everything_in_float64() if in_float64 else nullcontext()
        with precision, traced(model, measure, keep=keep) as calls:
            call(model, image)
        return calls

    def measure_own(seen: Call) -> None:
        seen.largest = finite_maximum(tensors_in(seen.inputs))
        for element in elements:
            found["own", seen.name, id(element)] = own_error(seen, element, frame)
        if seen.layout is None and seen.shape is not None:
            seen.layout = next(iter(possible_layouts(seen.shape, frame, seen.module)), None)

    calls = run(x, measure_own, keep=True)
    originals = {seen.name: seen for seen in calls}

    def measure_reach(seen: Call) -> None:
        original, output = originals.get(seen.name), seen.first_output()
        if original is not None and original.layout is not None and output is not None:
            reached[seen.name] = reach_in(output, original.layout, frame)

    if in_float64 and any(any(element.spill) for element in elements):
        run(with_nan(x, range(2, x.dim())), measure_reach)

    for element in elements:

        def measure_accumulated(seen: Call, element: Element = element) -> None:
            if seen.name in originals:
                original, far = originals[seen.name], reached.get(seen.name)
                outcome = _accumulated(seen, original, element, frame, far)
                found["accumulated", seen.name, id(element)] = outcome

        for seen in calls:
            missing = NotMeasured("it is not called for the transformed image")
            found["accumulated", seen.name, id(element)] = missing
        run(input_layout(x).act(x, element, frame), measure_accumulated)
    for seen in calls:
        seen.output = None
    return calls, found


def _accumulated(
    seen: Call,
    original: Call,
    element: Element,
    frame: Frame,
    reached: tuple[int, ...] | None,
) -> Outcome:
    """The output of a call in a run on the transformed image against that of the original call."""
    before, after = original.first_output(), seen.first_output()
    if original.layout is None or before is None or after is None:
        return NotMeasured("its output is no feature map of the input")
    try:
        return compare(after, before, original.layout, element, frame, reached, original.largest)
    except UnmeasurableError as error:
        return str(error)
