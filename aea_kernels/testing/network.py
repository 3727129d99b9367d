"""A network under some groups: its runs on an image and on its transformed versions, and what they
say of each of its layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.float64 import everything_in_float64, named_tensors, tensors_in
from .acts import Act, act_of, to_try
from .causes import likely_cause
from .checks import require_places
from .errors import UnmeasurableError, Verdict, finite_maximum
from .interior import with_nan
from .isolated import NO_MAP, Known, own_errors
from .layouts import Frame, MapLayout, PairLayout, possible_layouts
from .measure import compare, outcomes_of, reach_in, require_change, with_round_trips
from .precision import call, call_in_float64, copied, narrower, require_determinism
from .results import (
    Errors,
    Layer,
    NotMeasured,
    Outcome,
    entry_name,
    fits,
    judged,
    named_outcomes,
    taken_off,
)
from .symmetry import Element, Group
from .tracing import Call, traced

Found = dict[tuple[str, str], dict[str, list[Outcome]]]
"""Outcomes in one precision, by their kind, "own" or "accumulated", and the name of a call; then by
the place of a tensor, for each element of all groups.
"""


@dataclass
class Network:
    """A network under some groups that see the same image.

    Attributes:
        model: it is measured on copies.
        x: the image.
        given, frame: the layout of x, and what the groups act on.
        named: acts that someone named, of the input or outputs; tried on the tensors within too.
        said: how outputs transform, by their places.
        groups: and the elements of each.
        known: of each call, by its name; what float64 finds holds for both precisions.
        reached: how far the first tensor of each call sees, or each that the network returns.
    """

    model: nn.Module
    x: Tensor
    given: MapLayout
    frame: Frame
    named: list[Act]
    said: dict[str, Act]
    groups: list[tuple[Group, list[Element]]]
    known: dict[str, Known] = field(default_factory=lambda: defaultdict(Known))
    reached: dict[tuple[str, str], tuple[int, ...] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.elements = [element for _, several in self.groups for element in several]
        self.acts = to_try([group for group, _ in self.groups], len(self.frame.spatial))
        self.acts += [a for a in self.named if a.fibre is not None and a not in self.acts]

    def layers(self) -> list[list[Layer]]:
        """For each group, what every layer does."""
        calls, *passes = self._passes()
        calls = [seen for seen in calls if seen.places]
        found, start = [], 0
        for group, elements in self.groups:
            here = slice(start, start + len(elements))
            start += len(elements)
            layers = [self._layer(seen, group, elements, here, passes) for seen in calls]
            if not any(layer.own.verdict.fails for layer in layers):
                require_change(self.given, self.frame, self.x, elements, group)
            found.append(layers)
        return found

    def _layer(
        self,
        seen: Call,
        group: Group,
        elements: list[Element],
        here: slice,
        passes: Sequence[Found],
    ) -> Layer:
        """What a layer does to the symmetry under a group, whose elements are those `here`."""
        # how each tensor that it returns was found to transform
        acts = {
            place: layout.name
            for place, layout in zip(seen.places, seen.layouts, strict=False)
            if layout is not None
        }

        def errors(kind: str, function: nn.Module) -> Errors:
            working, double = (_named(found, kind, seen.name, elements, here) for found in passes)
            return judged(group, function, self.x, working, double, acts)

        # the cause is sought for the element under which its own error is worst
        own, accumulated = errors("own", seen.module), errors("accumulated", self.model)
        cause = ""
        if own.worst.verdict.fails:
            # names of elements may end in one another, so whole names of entries are looked up
            places = {place for found in passes for place in found.get(("own", seen.name), {})}
            entries = {entry_name(place, e): e for place in places for e in elements}
            worst = entries[own.worst.element]
            cause = likely_cause(seen.module, own, worst, self.known[seen.name].given)
            if own.verdict is Verdict.PRECISION:
                cause = narrower(self.model, self.x) or cause
        return Layer(seen.name, seen.kind, seen.shape, own, accumulated, cause)

    def _passes(self) -> tuple[list[Call], Found, Found]:
        """The calls of the layers, and what is found in the dtype of x, nothing where that is
        float64, and in float64, nothing where the model does not take it.
        """
        calls: list[Call] = []
        working: Found = {}
        double: Found = {}
        twin = copied(self.model, torch.float64)
        if call_in_float64(twin, self.x.double()) is not None:
            calls, double = self._measure(twin, self.x.double())
        if self.x.dtype != torch.float64:
            narrow_calls, working = self._measure(copied(self.model), self.x)
            calls = calls or narrow_calls
        if self.x.dtype != torch.float64 or not double:
            require_determinism(copied(self.model), self.x)
        return calls, working, double

    def _measure(self, model: nn.Module, x: Tensor) -> tuple[list[Call], Found]:
        """Run the model on x and on the transformed images."""
        # the first of both precisions looks ahead, and what it finds holds for both
        if not self.known:
            self._look_ahead(model, x)
        found: Found = {}

        def measure_own(seen: Call) -> None:
            seen.largest = finite_maximum(tensors_in(seen.inputs))
            known = self.known[seen.name]
            found["own", seen.name] = own_errors(seen, self.elements, self.frame, self.acts, known)
            if seen.places and not seen.layouts:
                usable = possible_layouts(seen.shape, self.frame, seen.module)
                others = len(seen.places) - 1
                seen.layouts = [next(iter(usable), None), *[None] * others]

        # inputs are kept, since each layer is called again with their transformed versions
        calls = self._run(model, x, measure_own, keep=True)
        originals = {seen.name: seen for seen in calls}

        def measure_reach(seen: Call) -> None:
            layouts = originals[seen.name].layouts if seen.name in originals else []
            for (place, t), layout in zip(_compared(seen).items(), layouts, strict=False):
                if layout is not None:
                    self.reached[seen.name, place] = reach_in(t, layout, self.frame)

        # how far each layer sees, where something else comes in at the border
        if any(any(e.spill) for e in self.elements) and not self.reached:
            self._run(model, with_nan(x, self.given.positions), measure_reach)

        # a run for each element, against the outputs of the first, which are then freed
        accumulated = [self._accumulated(model, x, e, originals) for e in self.elements]
        for seen in calls:
            found["accumulated", seen.name] = {
                place: [several.get((seen.name, place), NOT_CALLED) for several in accumulated]
                for place in _compared(seen)
            }
            seen.output = None
        return calls, found

    def _run(
        self, model: nn.Module, x: Tensor, measure: Callable[[Call], None], *, keep: bool = False
    ) -> list[Call]:
        """The calls of the layers; what each returns goes to `measure`."""
        in_float64 = x.dtype == torch.float64
        precision = everything_in_float64() if in_float64 else nullcontext()
        with precision, traced(model, measure, keep=keep) as calls:
            call(model, x)
        return calls

    def _accumulated(
        self, model: nn.Module, x: Tensor, element: Element, originals: dict[str, Call]
    ) -> dict[tuple[str, str], Outcome]:
        """By call and place: the outputs in a run on the transformed image against those of the
        original calls, those of its round trip taken off.
        """
        outcomes = self._transformed(model, x, element, originals)
        if element.round_trip is None:
            return outcomes
        trip = self._transformed(model, x, element.round_trip, originals)
        return {key: taken_off(o, trip.get(key, NOT_CALLED)) for key, o in outcomes.items()}

    def _transformed(
        self, model: nn.Module, x: Tensor, element: Element, originals: dict[str, Call]
    ) -> dict[tuple[str, str], Outcome]:
        """As `_accumulated`, of one run."""
        outcomes: dict[tuple[str, str], Outcome] = {}

        def compared(seen: Call) -> None:
            # a call that the first run did not have compares with nothing
            if seen.name not in originals:
                return
            original = originals[seen.name]
            before, after = _compared(original), _compared(seen)

            # tensor by tensor, in the layouts that were found for the call
            for (place, t), layout in zip(before.items(), original.layouts, strict=False):
                outcome: Outcome = NO_MAP
                if layout is not None and place in after:
                    reached = self.reached.get((seen.name, place))
                    given = (layout, element, self.frame, reached, original.largest)
                    try:
                        outcome = compare(after[place], t, *given)
                    except UnmeasurableError as error:
                        outcome = str(error)
                outcomes[seen.name, place] = outcome

        self._run(model, self.given.act(x, element, self.frame), compared)
        return outcomes

    def _look_ahead(self, model: nn.Module, x: Tensor) -> None:
        """What is known before the layers are measured one by one.

        Channels that transform, and scores of attention, are told by what a layer is given in runs
        on transformed images: before the first fault, one layout fits. And what was said of the
        network's outputs holds for the calls that return them.
        """
        if self.said:
            self._look_at_outputs(model, x)
        turning = [e for e in self.elements if e.matrix(len(self.frame.spatial)) is not None]
        if len(self.acts) > 1 and turning:
            for name, layout in self._fitting(model, x, turning).items():
                self.known[name].fibre, self.known[name].is_sure = layout.fibre, True

        # a layer may also commute with the group where its scores are taken for a map
        moving = [e for e in self.elements if e.moves == "positions"]
        if moving and any(map(self._may_be_scores, self._inputs(model, x).values())):
            for name, layout in self._fitting(model, x, moving).items():
                self.known[name].likely = layout

    def _inputs(self, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """The largest input of every call."""
        found: dict[str, Tensor] = {}

        def keep_input(seen: Call) -> None:
            inputs = tensors_in(seen.inputs)
            if inputs:
                found[seen.name] = max(inputs, key=Tensor.numel)

        self._run(model, x, keep_input, keep=True)
        return found

    def _may_be_scores(self, t: Tensor) -> bool:
        layouts = possible_layouts(t.shape, self.frame)
        return any(isinstance(layout, PairLayout) for layout in layouts)

    def _fitting(
        self, model: nn.Module, x: Tensor, elements: Sequence[Element]
    ) -> dict[str, MapLayout]:
        """By call, the first layout of its largest input that fits in runs on transformed images;
        none where no layout does.
        """
        # what every call is given, for each transformed image
        elements = with_round_trips(elements)
        moved = [self._inputs(model, self.given.act(x, e, self.frame)) for e in elements]
        found: dict[str, MapLayout] = {}
        for name, original in self._inputs(model, x).items():
            if not all(name in inputs for inputs in moved):
                continue
            pairs = [(e, inputs[name]) for e, inputs in zip(elements, moved, strict=True)]

            # the likeliest layout that fits
            shape = original.shape
            usable = [layout for act in self.acts for layout in act.layouts(shape, self.frame)]
            for layout in usable:
                with suppress(UnmeasurableError):
                    if fits(outcomes_of(pairs, original, layout, self.frame, None, 1.0)):
                        found[name] = layout
                        break
        return found

    def _look_at_outputs(self, model: nn.Module, x: Tensor) -> None:
        returned: list[tuple[str, int, Tensor]] = []
        final: dict[str, Tensor] = {}

        def keep_output(seen: Call) -> None:
            returned.extend((seen.name, i, t) for i, t in enumerate(tensors_in(seen.output)))
            final.update({} if seen.name else named_tensors(seen.output))

        self._run(model, x, keep_output)
        require_places(self.said, final)
        for place, t in final.items():
            act = act_of(place, self.said)
            if act is None:
                continue
            for name, number, other in returned:
                if other is t:
                    self.known[name].said[number] = act


NOT_CALLED = NotMeasured("it is not called for the transformed image")


def _compared(seen: Call) -> dict[str, Tensor]:
    """The tensors whose errors accumulate: all that the network returns, the first of a layer."""
    tensors = named_tensors(seen.output)
    return tensors if not seen.name else dict(zip([""], tensors.values(), strict=False))


def _named(
    found: Found, kind: str, name: str, elements: Sequence[Element], here: slice
) -> dict[str, Outcome]:
    """The outcomes of one call for the elements of one group, by element and tensor."""
    named: dict[str, Outcome] = {}
    for place, outcomes in found.get((kind, name), {}).items():
        named |= named_outcomes(place, elements, outcomes[here])
    return named
