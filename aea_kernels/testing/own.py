"""A layer's own error: the layer on the transformed version of its untransformed input.

The layers that it calls answer with their own transformed outputs, and are no part of its error;
what it asks them is: what it computes between them is seen in what it hands to them and in what it
returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..core.float64 import map_tensors, tensors_in
from .errors import Difference, UnmeasurableError, finite_maximum
from .interior import reach, with_nan
from .layouts import Frame, Layout, layouts, strides_of
from .measure import NotMeasured, Outcome, compare
from .precision import one_line
from .symmetry import Element, UndefinedActionError
from .tracing import Call, answers

GOOD_ENOUGH = 1e-4
"""Of several layouts that a tensor may have, the first whose relative error is below this is taken
to be its layout.
"""


@dataclass(frozen=True)
class _Handed:
    """A tensor that the layer returns or hands to a layer that it calls.

    Attributes:
        got: for the transformed input.
        original: for the input itself.
        marked: for the input with a NaN in the middle; None where no translation asks for it.
        module: whose output or input it is.
    """

    got: Tensor
    original: Tensor
    marked: Tensor | None
    module: nn.Module


def own_error(seen: Call, element: Element, frame: Frame) -> Outcome:
    """The layer's own error under the likeliest of the layouts its tensors may have; sets the
    call's layout.

    Args:
        seen: the call in a run on the untransformed image.
        element: of the group, for the network's input.
        frame: of the network's input.
    """
    inputs, output = tensors_in(seen.inputs), seen.first_output()
    if not inputs or output is None:
        return NotMeasured("it takes or returns no tensor")
    if not math.isfinite(seen.largest):
        return NotMeasured("its input is not finite")
    largest = max([seen.largest, *(finite_maximum(tensors_in(c.output)) for c in seen.children)])
    if not math.isfinite(largest):
        return NotMeasured("the output of a layer within it is not finite")
    best: tuple[float, Outcome, Layout | None] | None = None
    failure: Outcome = NotMeasured("its input or output is no feature map of the network's input")
    place = max(range(len(inputs)), key=lambda i: inputs[i].numel())
    widest = inputs[place]
    for layout in _first(seen.hints.get(place), layouts(widest.shape, frame, seen.module)):
        local_frame, local = _local(layout, widest, element, frame)
        if local is None:
            failure = NotMeasured(
                "the symmetry is lost before it: the element does not act on its input"
            )
            continue
        try:
            returned, handed = _call_transformed(seen, layout, local, local_frame)
        except UndefinedActionError as error:
            failure = NotMeasured(f"{error}")
            continue
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            failure = f"it fails on its transformed input: {one_line(error)}"
            continue
        found = _best(returned, layout, local, local_frame, frame, largest)
        if found is None:
            continue
        outcome, out = found
        for tensor in handed:
            asked = _best(tensor, layout, local, local_frame, frame, largest)
            if asked is not None and _rank(asked[0]) > _rank(outcome):
                outcome = asked[0]
        if best is None or _rank(outcome) < best[0]:
            best = _rank(outcome), outcome, out
        if best[0] < GOOD_ENOUGH:
            break
    if best is None:
        return failure
    seen.layout = seen.layout or best[2]
    return best[1]


def _rank(outcome: Outcome) -> float:
    if isinstance(outcome, NotMeasured):
        return 0.0
    rank = outcome.relative if isinstance(outcome, Difference) else math.inf
    return math.inf if math.isnan(rank) else rank


def _best(
    tensor: _Handed, layout: Layout, element: Element, local: Frame, frame: Frame, largest: float
) -> tuple[Outcome, Layout] | None:
    """The smallest outcome over the layouts that the tensor may have; the input's first, where the
    shapes agree.
    """
    shape = tensor.original.shape
    usable = [] if local.spatial == () else layouts(shape, local, tensor.module)
    usable += [other for other in layouts(shape, frame, tensor.module) if other not in usable]
    if layout in usable and layout.spatial(shape) == local.spatial:
        usable = _first(layout, usable)
    best: tuple[Outcome, Layout] | None = None
    for candidate in usable:
        spatial = candidate.spatial(shape)
        reached = None
        if (
            tensor.marked is not None
            and len(spatial) == len(local.spatial)
            and tensor.marked.shape == shape
        ):
            reached = reach(
                candidate.map(tensor.marked)[0], local.spatial, strides_of(local, spatial)
            )
        try:
            outcome = compare(
                tensor.got, tensor.original, candidate, element, local, reached, largest
            )
        except UnmeasurableError as error:
            outcome = str(error)
        if best is None or _rank(outcome) < _rank(best[0]):
            best = outcome, candidate
        if _rank(outcome) < GOOD_ENOUGH:
            break
    return best


def _first(hint: Layout | None, usable: list[Layout]) -> list[Layout]:
    return (
        [hint, *(layout for layout in usable if layout != hint)]
        if hint is not None and hint in usable
        else usable
    )


def _local(
    layout: Layout, t: Tensor, element: Element, frame: Frame
) -> tuple[Frame, Element | None]:
    """The layer's own input as the frame of its groups, and the element that acts on it."""
    spatial = layout.spatial(t.shape)
    local_frame = Frame(1 if layout.images is None else t.shape[layout.images], spatial)
    if element.moves != "positions" or all(n == 1 for n in spatial):
        return local_frame, element
    return local_frame, element.local(spatial, strides_of(frame, spatial))


def _call_transformed(
    seen: Call, layout: Layout, element: Element, frame: Frame
) -> tuple[_Handed, list[_Handed]]:
    """What the layer returns for its transformed inputs, and what it hands to the layers that it
    calls.
    """

    places = {id(t): place for place, t in enumerate(tensors_in(seen.inputs))}

    def act(t: Tensor) -> Tensor:
        where = layout_of(t)
        moved = t if where is None else where.act(t, element, frame)
        return moved.clone() if moved.data_ptr() == t.data_ptr() else moved

    def mark(t: Tensor) -> Tensor:
        where = layout_of(t)
        return (
            t.clone() if where is None or where.grid is not None else with_nan(t, where.positions)
        )

    def layout_of(t: Tensor) -> Layout | None:
        if not t.is_floating_point():
            return None
        usable = _first(seen.hints.get(places[id(t)]), _first(layout, layouts(t.shape, frame)))
        return next(iter(usable), None)

    known = [
        c
        for c in seen.children
        if not any(o.layout is None for o in seen.children if o.module is c.module)
    ]

    def computed(child: Call, tensors: list[Tensor]) -> list[Tensor]:
        """Without those that an earlier call returned: they are what was answered."""
        return [t for place, t in enumerate(tensors) if place not in child.hints]

    def call(
        change: Callable[[Tensor], Tensor], answer: Callable[[Tensor, Layout], Tensor]
    ) -> list[Tensor]:
        """What it returns, then what it hands to each of its known children in turn."""
        prepared: dict[nn.Module, list[Any]] = {}
        for child in known:
            prepared.setdefault(child.module, []).append(_change_first(child, answer))
        args, kwargs = map_tensors(change, seen.inputs)
        with answers(prepared) as asked:
            returned = next(iter(tensors_in(seen.module(*args, **kwargs))))
        handed = {module: iter(calls) for module, calls in asked.items()}
        given = [(child, tensors_in(next(handed[child.module], ()))) for child in known]
        return [returned, *(t for child, tensors in given for t in computed(child, tensors))]

    got = call(act, lambda t, child: child.act(t, element, frame).clone())
    output = seen.first_output()
    assert output is not None
    originals = [output, *(t for child in known for t in computed(child, tensors_in(child.inputs)))]
    whose = [
        seen.module,
        *(child.module for child in known for _ in computed(child, tensors_in(child.inputs))),
    ]
    if len(got) != len(originals):
        raise RuntimeError("it calls its layers otherwise")
    marked: list[Tensor | None] = [None] * len(got)
    if any(element.spill):
        marks = call(mark, lambda t, _: t.clone())
        marked = [*marks] if len(marks) == len(got) else marked
    found = [
        _Handed(a, b, c, module)
        for a, b, c, module in zip(got, originals, marked, whose, strict=True)
    ]
    return found[0], found[1:]


def _change_first(child: Call, change: Callable[[Tensor, Layout], Tensor]) -> Any:
    """What the child returned with its first tensor changed; the others stay."""
    layout, first = child.layout, child.first_output()
    assert layout is not None
    return map_tensors(lambda t: change(t, layout) if t is first else t.clone(), child.output)
