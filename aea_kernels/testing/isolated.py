"""A layer's own error: the layer on the transformed version of its untransformed input.

The layers that it calls answer with their own transformed outputs, and are no part of its error;
what it asks them is: what it computes between them is seen in what it hands to them and in what it
returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from ..core.float64 import named_tensors, tensors_in
from .acts import Act, invariant
from .errors import Difference, UnmeasurableError, finite_maximum
from .interior import with_nan
from .layouts import Fibre, Frame, MapLayout, possible_layouts, strides_of
from .measure import outcomes_of, reach_in, with_round_trips
from .precision import one_line
from .results import NotMeasured, Outcome, better, fits
from .symmetry import Element, UndefinedActionError
from .tracing import OTHER_CALLS, Call, Change, called_with, computed


@dataclass
class Known:
    """What is known of a call's tensors before its own error is measured.

    Attributes:
        is_sure, fibre: whether it is known what the channels of its largest input do, and what.
        likely: the layout of that input which fits in runs on transformed images, if one does.
        given: the layout of that input, which an earlier measurement chose.
        said: how the tensors that it returns transform, by their places, where someone said so.
        chosen: the layouts of what it returns and of what it hands to its layers, which an earlier
            measurement chose.
    """

    is_sure: bool = False
    fibre: Fibre | None = None
    likely: MapLayout | None = None
    given: MapLayout | None = None
    said: dict[int, Act] = field(default_factory=dict)
    chosen: list[MapLayout | None] = field(default_factory=list)


@dataclass(frozen=True)
class _Trial:
    """A layout that the layer's largest input may have, and what follows from it.

    Attributes:
        layout: of that input.
        frame: the layer's own, of that input.
        network: the frame of the network's input.
        elements: of the groups, for the network's input.
        largest: the largest magnitude in the layer's inputs.
    """

    layout: MapLayout
    frame: Frame
    network: Frame
    elements: Sequence[Element]
    largest: float

    def local(self, element: Element) -> Element | None:
        """What acts on the layer's frame as the element acts on the network's; None where nothing
        does.
        """
        spatial = self.frame.spatial
        if element.moves != "positions" or all(n == 1 for n in spatial):
            return element
        return element.local(spatial, strides_of(self.network, spatial))

    def act(self, local: Element, t: Tensor, layout: MapLayout) -> Tensor:
        """What `local` does to a tensor of the layer."""
        return layout.act(t, local, self.frame).clone()


@dataclass
class _Handed:
    """A tensor that the layer returns or hands to a layer that it calls.

    Attributes:
        module: whose output or input it is.
        original: for the input itself.
        moved: for the transformed inputs, or why there is nothing, by element.
        marked: for the input with a NaN in the middle; None where no translation asks for it.
    """

    module: nn.Module
    original: Tensor
    moved: list[tuple[Element, Tensor | str]]
    marked: Tensor | None = None


def own_errors(
    seen: Call, elements: Sequence[Element], frame: Frame, acts: Sequence[Act], known: Known
) -> dict[str, list[Outcome]]:
    """The layer's own errors under the likeliest of the layouts that its tensors may have; sets the
    call's layouts, and what `known` knows.

    Args:
        seen: the call in a run on the untransformed image.
        elements: of the groups, for the network's input.
        frame: of the network's input.
        acts: how tensors may transform, the likeliest first.
        known: of this call.

    Returns:
        An outcome for each element: of the first tensor that it returns, by the name "", or of all
        that the network returns, by their places.
    """
    # without finite tensors around the layer, nothing of its own can be measured
    inputs, returned = tensors_in(seen.inputs), named_tensors(seen.output)
    largest = finite_maximum([t for child in seen.children for t in tensors_in(child.output)])
    missing = ""
    if not inputs or not returned:
        missing = "it takes or returns no tensor"
    elif not math.isfinite(seen.largest):
        missing = "its input is not finite"
    elif not math.isfinite(largest):
        missing = "the output of a layer within it is not finite"
    if missing:
        return {"": [NotMeasured(missing)] * len(elements)}

    # of the network every output counts, of a layer the first
    places = [*returned] if not seen.name else [""]
    shape = inputs[_largest(seen)].shape
    best: dict[str, list[Outcome]] = {}

    # under each layout the layer has a frame of its own, the sizes of its input
    for layout in _input_layouts(seen, frame, acts, known):
        images = 1 if layout.images is None else shape[layout.images]
        own = Frame(images, layout.spatial(shape))
        trial = _Trial(layout, own, frame, elements, max(seen.largest, largest))
        found = _tried(seen, trial, acts, known, places)
        if found is None:
            continue
        outcomes, layouts = found

        # where the elements do not act at all, nothing speaks for the layout
        acts_on_input = any(outcome != LOST for outcome in _flat(outcomes))
        if not best or (acts_on_input and better(_flat(outcomes), _flat(best), layout)):
            best, seen.layouts = outcomes, layouts[: len(returned)]
            chosen = layout, layouts
        if fits(_flat(best)):
            break

    # no layout fits its input or output, which is no fault of the layer
    if not best:
        reason = NotMeasured("its input or output is no feature map of the network's input")
        return {"": [reason] * len(elements)}

    # what the first precision chose, float64 where there is one, holds for the other
    known.given, known.chosen = chosen
    return best


def _flat(outcomes: dict[str, list[Outcome]]) -> list[Outcome]:
    return [outcome for several in outcomes.values() for outcome in several]


def _input_layouts(seen: Call, frame: Frame, acts: Sequence[Act], known: Known) -> list[MapLayout]:
    """The layouts that the largest input may have, the likeliest first."""
    if known.given is not None:
        return [known.given]
    place = _largest(seen)
    shape = tensors_in(seen.inputs)[place].shape
    usable = [layout for act in acts for layout in act.layouts(shape, frame, seen.module)]
    if known.is_sure:
        usable = [layout for layout in usable if layout.fibre == known.fibre]
    return _first(known.likely or seen.hints.get(place), usable)


def _first(hint: MapLayout | None, usable: list[MapLayout]) -> list[MapLayout]:
    """The layouts with the hint in front, where it is among them."""
    return sorted(usable, key=lambda layout: layout != hint)


def _largest(seen: Call) -> int:
    """The place of the largest tensor in the inputs."""
    inputs = tensors_in(seen.inputs)
    return max(range(len(inputs)), key=lambda place: inputs[place].numel())


def _tried(
    seen: Call, trial: _Trial, acts: Sequence[Act], known: Known, places: list[str]
) -> tuple[dict[str, list[Outcome]], list[MapLayout | None]] | None:
    """The outcomes by place, and the layouts of what the layer returns and hands on; None where
    what it returns is no feature map.
    """
    # first what the layer returns, then what it hands to the layers that it calls
    returned = len(tensors_in(seen.output))
    outcomes: dict[str, list[Outcome]] = {}
    layouts: list[MapLayout | None] = []
    for number, tensor in enumerate(_call_transformed(seen, trial)):
        # kept from an earlier measurement, else as said, else all that its shape allows
        if known.chosen:
            usable = [layout for layout in known.chosen[number : number + 1] if layout is not None]
        else:
            act = known.said.get(number) if number < returned else None
            whole = number < returned and not seen.name
            usable = _output_layouts(tensor, trial, [act] if act else acts, whole)
        found, layout = _best(tensor, trial, usable)
        if not number and not found:
            return None

        if number < len(places):
            outcomes[places[number]] = found or [NO_MAP] * len(trial.elements)
        elif number >= returned and found:
            # an error of what it hands on is its own
            pairs = zip(outcomes[places[0]], found, strict=True)
            outcomes[places[0]] = [max(pair, key=_rank) for pair in pairs]
        elif not fits(found):
            # what it returns beside the first tensor need not be a map
            layout = None
        layouts.append(layout)
    return outcomes, layouts


NO_MAP = NotMeasured("its output is no feature map of the network's input")


def _output_layouts(
    tensor: _Handed, trial: _Trial, acts: Sequence[Act], whole: bool
) -> list[MapLayout]:
    """The layouts that a tensor may have, the input's first where the shapes agree.

    `whole`: the network returns it, which may be of no positions at all.
    """
    shape, layout = tensor.original.shape, trial.layout
    usable = []
    for act in [*acts, *([invariant] if whole and len(acts) > 1 else [])]:
        for frame in (trial.frame, trial.network):
            usable += act.layouts(shape, frame, tensor.module) if frame.spatial else []
    if layout in usable and layout.spatial(shape) == trial.frame.spatial:
        usable = _first(layout, usable)
    return [*dict.fromkeys(usable)]


def _best(
    tensor: _Handed, trial: _Trial, usable: list[MapLayout]
) -> tuple[list[Outcome], MapLayout | None]:
    """The outcomes under the best of the layouts, and that layout; none without a layout."""
    # the likeliest layouts first, up to the first that fits
    best: list[Outcome] = []
    best_layout = None
    for candidate in usable:
        # how far the layer sees, by the NaN in its input
        reached = None
        if tensor.marked is not None and tensor.marked.shape == tensor.original.shape:
            reached = reach_in(tensor.marked, candidate, trial.frame)

        # an output of another shape is a misfit of this layout
        given = (tensor.original, candidate, trial.frame, reached, trial.largest)
        try:
            outcomes = outcomes_of(tensor.moved, *given)
        except UnmeasurableError as error:
            outcomes = [str(error)] * len(trial.elements)
        if not best or better(outcomes, best, candidate):
            best, best_layout = outcomes, candidate
        if fits(best):
            break
    return best, best_layout


def _rank(outcome: Outcome) -> float:
    """How bad it is: 0 for what is not measured, infinite for what cannot be compared."""
    if isinstance(outcome, NotMeasured):
        return 0.0
    rank = outcome.relative if isinstance(outcome, Difference) else math.inf
    return math.inf if math.isnan(rank) else rank


def _call_transformed(seen: Call, trial: _Trial) -> list[_Handed]:
    """What the layer returns for its transformed inputs, then what it hands to the layers that it
    calls.
    """
    # of other inputs: what an earlier call says, else the layout likeliest for their shape
    layouts: list[MapLayout | None] = []
    for place, t in enumerate(tensors_in(seen.inputs)):
        usable = _first(trial.layout, possible_layouts(t.shape, trial.frame))
        layouts.append(seen.hints.get(place) or next(iter(usable), None))
    layouts[_largest(seen)] = trial.layout

    # a layer of which one call has no layout cannot answer for its calls
    unknown = {child.module for child in seen.children if child.layout is None}
    known = [child for child in seen.children if child.module not in unknown]
    tensors = [_Handed(seen.module, t, []) for t in tensors_in(seen.output)]
    for child in known:
        handed = computed(child, tensors_in(child.inputs))
        tensors += [_Handed(child.module, t, []) for t in handed]

    def called(change: Change, answer: Change) -> list[Tensor]:
        results = called_with(seen, known, layouts, change, answer)
        if len(results) != len(tensors):
            raise RuntimeError(OTHER_CALLS)
        return results

    # where the element does not act nothing is wrong; where the layer fails, that is the outcome
    for element in with_round_trips(trial.elements):
        local = trial.local(element)
        results: Sequence[Tensor | str]
        try:
            if local is None:
                raise UndefinedActionError(LOST)
            move = partial(trial.act, local)
            results = called(move, move)
        except UndefinedActionError as error:
            results = [NotMeasured(error)] * len(tensors)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            failure = f"it fails on its transformed input: {one_line(error)}"
            results = [failure] * len(tensors)
        for tensor, result in zip(tensors, results, strict=True):
            tensor.moved.append((local or element, result))

    # elements that spill need the layer's reach; a layer that takes no NaN goes without
    if any(any(element.spill) for element in trial.elements):
        with suppress(RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            marks = called(_marked, lambda t, layout: t.clone())
            for tensor, marked in zip(tensors, marks, strict=True):
                tensor.marked = marked
    return tensors


def _marked(t: Tensor, layout: MapLayout) -> Tensor:
    return t.clone() if layout.grid is not None else with_nan(t, layout.positions)


LOST = "the symmetry is lost before it: the element does not act on its input"
