"""A layer's own error: the layer on the transformed version of its untransformed input.

The layers that it calls answer with their own transformed outputs, and are no part of its error;
what it asks them is: what it computes between them is seen in what it hands to them and in what it
returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ..core.float64 import map_tensors, tensors_in
from .errors import Difference, UnmeasurableError, finite_maximum
from .interior import with_nan
from .layouts import Frame, MapLayout, possible_layouts, strides_of
from .measure import compare, reach_in
from .precision import one_line
from .results import NotMeasured, Outcome
from .symmetry import Element, UndefinedActionError
from .tracing import OTHER_CALLS, Call, answers

GOOD_ENOUGH = 1e-4
"""Of several layouts that a tensor may have, the first whose relative error is below this is taken
to be its layout.
"""


@dataclass(frozen=True)
class _Trial:
    """A layout that the layer's largest input may have, and what follows from it.

    Attributes:
        layout: of that input.
        frame: the layer's own, of that input.
        element: what acts on that frame as the group's element acts on the network's input.
        network: the frame of the network's input.
        largest: the largest magnitude in the layer's inputs.
    """

    layout: MapLayout
    frame: Frame
    element: Element
    network: Frame
    largest: float


@dataclass(frozen=True)
class _Handed:
    """A tensor that the layer returns or hands to a layer that it calls.

    Attributes:
        module: whose output or input it is.
        original: for the input itself.
        got: for the transformed input.
        marked: for the input with a NaN in the middle; None where no translation asks for it.
    """

    module: nn.Module
    original: Tensor
    got: Tensor
    marked: Tensor | None


def own_error(seen: Call, element: Element, frame: Frame) -> Outcome:
    """The layer's own error under the likeliest of the layouts its tensors may have; sets the
    call's layout.

    Args:
        seen: the call in a run on the untransformed image.
        element: of the group, for the network's input.
        frame: of the network's input.
    """
    inputs = tensors_in(seen.inputs)
    if not inputs or seen.first_output() is None:
        return NotMeasured("it takes or returns no tensor")
    if not math.isfinite(seen.largest):
        return NotMeasured("its input is not finite")
    largest = finite_maximum([t for child in seen.children for t in tensors_in(child.output)])
    if not math.isfinite(largest):
        return NotMeasured("the output of a layer within it is not finite")

    best: tuple[Outcome, MapLayout] | None = None
    failure: Outcome = NotMeasured("its input or output is no feature map of the network's input")
    place = max(range(len(inputs)), key=lambda i: inputs[i].numel())
    usable = possible_layouts(inputs[place].shape, frame, seen.module)
    for layout in _first(seen.hints.get(place), usable):
        local_frame, local = _local(layout, inputs[place], element, frame)
        if local is None:
            failure = NotMeasured(
                "the symmetry is lost before it: the element does not act on its input"
            )
            continue
        trial = _Trial(layout, local_frame, local, frame, max(seen.largest, largest))
        try:
            found = _tried(seen, trial)
        except UndefinedActionError as error:
            failure = NotMeasured(error)
            continue
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            failure = f"it fails on its transformed input: {one_line(error)}"
            continue
        if found is not None and (best is None or _rank(found[0]) < _rank(best[0])):
            best = found
        if best is not None and _rank(best[0]) < GOOD_ENOUGH:
            break
    if best is None:
        return failure
    outcome, output_layout = best
    seen.layout = seen.layout or output_layout
    return outcome


def _tried(seen: Call, trial: _Trial) -> tuple[Outcome, MapLayout] | None:
    """The worst outcome of what the layer returns and hands on, and the layout of what it returns;
    None where that is no feature map.
    """
    returned, *handed = _call_transformed(seen, trial)
    found = _best(returned, trial)
    if found is None:
        return None
    outcome, layout = found
    for tensor in handed:
        asked = _best(tensor, trial)
        if asked is not None and _rank(asked[0]) > _rank(outcome):
            outcome = asked[0]
    return outcome, layout


def _best(tensor: _Handed, trial: _Trial) -> tuple[Outcome, MapLayout] | None:
    """The smallest outcome over the layouts that the tensor may have; the input's first, where the
    shapes agree.
    """
    shape, layout = tensor.original.shape, trial.layout
    usable = []
    for frame in (trial.frame, trial.network):
        usable += possible_layouts(shape, frame, tensor.module) if frame.spatial else []
    if layout in usable and layout.spatial(shape) == trial.frame.spatial:
        usable = _first(layout, usable)

    best: tuple[Outcome, MapLayout] | None = None
    for candidate in dict.fromkeys(usable):
        reached = None
        if tensor.marked is not None and tensor.marked.shape == shape:
            reached = reach_in(tensor.marked, candidate, trial.frame)
        given = (candidate, trial.element, trial.frame, reached, trial.largest)
        try:
            outcome = compare(tensor.got, tensor.original, *given)
        except UnmeasurableError as error:
            outcome = str(error)
        if best is None or _rank(outcome) < _rank(best[0]):
            best = outcome, candidate
        if _rank(outcome) < GOOD_ENOUGH:
            break
    return best


def _rank(outcome: Outcome) -> float:
    """How bad it is: 0 for what is not measured, infinite for what cannot be compared."""
    if isinstance(outcome, NotMeasured):
        return 0.0
    rank = outcome.relative if isinstance(outcome, Difference) else math.inf
    return math.inf if math.isnan(rank) else rank


def _first(hint: MapLayout | None, usable: list[MapLayout]) -> list[MapLayout]:
    """The layouts with the hint in front, where it is among them."""
    return sorted(usable, key=lambda layout: layout != hint)


def _local(
    layout: MapLayout, t: Tensor, element: Element, frame: Frame
) -> tuple[Frame, Element | None]:
    """The layer's own input as the frame of its groups, and the element that acts on it."""
    spatial = layout.spatial(t.shape)
    local_frame = Frame(1 if layout.images is None else t.shape[layout.images], spatial)
    if element.moves != "positions" or all(n == 1 for n in spatial):
        return local_frame, element
    return local_frame, element.local(spatial, strides_of(frame, spatial))


def _call_transformed(seen: Call, trial: _Trial) -> list[_Handed]:
    """What the layer returns for its transformed inputs, then what it hands to the layers that it
    calls.
    """
    places = {id(t): place for place, t in enumerate(tensors_in(seen.inputs))}

    def layout_of(t: Tensor) -> MapLayout | None:
        if id(t) not in places:
            return None
        usable = _first(trial.layout, possible_layouts(t.shape, trial.frame))
        return next(iter(_first(seen.hints.get(places[id(t)]), usable)), None)

    def move(t: Tensor) -> Tensor:
        layout = layout_of(t)
        return t.clone() if layout is None else moved(t, layout)

    def moved(t: Tensor, layout: MapLayout) -> Tensor:
        return layout.act(t, trial.element, trial.frame).clone()

    def mark(t: Tensor) -> Tensor:
        layout = layout_of(t)
        if layout is None or layout.grid is not None:
            return t.clone()
        return with_nan(t, layout.positions)

    # a layer of which one call has no layout cannot answer for its calls
    unknown = {child.module for child in seen.children if child.layout is None}
    known = [child for child in seen.children if child.module not in unknown]

    output = seen.first_output()
    assert output is not None
    originals = [(seen.module, output)]
    for child in known:
        originals += [(child.module, t) for t in _computed(child, tensors_in(child.inputs))]
    results = _called(seen, known, move, moved)
    marked: list[Tensor | None] = [None] * len(originals)
    if len(results) != len(originals):
        raise RuntimeError(OTHER_CALLS)
    if any(trial.element.spill):
        marks = _called(seen, known, mark, lambda t, layout: t.clone())
        marked = [*marks] if len(marks) == len(originals) else marked
    return [
        _Handed(module, original, got, mark)
        for (module, original), got, mark in zip(originals, results, marked, strict=True)
    ]


def _called(
    seen: Call,
    known: list[Call],
    change: Callable[[Tensor], Tensor],
    answer: Callable[[Tensor, MapLayout], Tensor],
) -> list[Tensor]:
    """The layer called on changed inputs: what it returns, then what it hands to each of the calls
    `known`, which return their changed first tensors.
    """
    prepared = []
    for child in known:
        layout, first = child.layout, child.first_output()
        assert layout is not None

        def changed(t: Tensor, layout: MapLayout = layout, first: Tensor | None = first) -> Tensor:
            return answer(t, layout) if t is first else t.clone()

        prepared.append((child.module, map_tensors(changed, child.output)))
    args, kwargs = map_tensors(change, seen.inputs)
    with answers(prepared) as asked:
        found = tensors_in(seen.module(*args, **kwargs))[:1]
    for child, given in zip(known, asked, strict=False):
        found += _computed(child, tensors_in(given))
    return found


def _computed(child: Call, tensors: list[Tensor]) -> list[Tensor]:
    """Of the tensors that a call takes, those that no earlier call returned, as that was
    answered.
    """
    return [t for place, t in enumerate(tensors) if place not in child.hints]
