"""The equivariance error of a function under each element of a group, in the working precision and
in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.float64 import to_float64
from .acts import Act, Said, act_of, image, input_frame, invariant, said, to_try
from .checks import require_group, require_places
from .errors import ONLY_FLOAT64, ONLY_WORKING, UnmeasurableError, difference, finite_maximum
from .interior import interior, reach, with_nan
from .layouts import Frame, MapLayout, PairLayout, by_axes, strides_of
from .precision import Function, call, call_in_float64, copied, require_determinism
from .results import Errors, NotMeasured, Outcome, better, fits, judged, named_outcomes, taken_off
from .symmetry import Element, Group, UndefinedActionError

NO_INTERIOR = NotMeasured(
    "the border reaches every position: take a larger image, or circular translations where "
    "padding is circular"
)


def equivariance_error(
    fn: Function,
    x: Tensor,
    group: Group,
    *,
    acts: Said = None,
    invariant: bool = False,
    positions: Sequence[int] | None = None,
    margin: int | None = None,
    seed: int = 0,
    double: bool = True,
) -> Errors:
    """``fn(g x)`` against ``g fn(x)`` for the elements g of the group, or with `invariant` against
    ``fn(x)``.

    A module is measured on copies: as it is in the dtype of x, and converted to float64. It stays
    in the mode it is in, training or evaluation. Any other function is called with x in both
    dtypes; where it does not take float64, the working precision decides alone. Tensors are
    transformed and compared in float64.

    Args:
        fn: a module or function that maps x to a tensor, or to a tuple, list, dictionary or
            dataclass of tensors, of which each is compared by itself. Numbers may be complex.
        x: a feature map (N, C, *spatial) of floating point, one to three spatial axes, or anything
            else with `positions` or `acts`.
        group: see `groups`.
        acts: how the output transforms, or a pair, how input and output do: `image`, `invariant`,
            `vector()`, `points()`, `regular(group)`, `channels(order)`, a function of tensor and
            element, or a nest of these as the output is one. Where it is not said, the input is an
            image, and of the output the acts `image`, `regular` and `vector` are tried, or, where
            it has no positions, `invariant`.
        invariant: compare with fn(x) as it is.
        positions: the axes of positions, of x and of fn(x), negative where these differ in their
            number of axes; all from the third on by default.
        margin: how far from the border, in positions of x, a network with zero padding is not
            compared under translations; by default as far as its receptive field reaches, which is
            measured.
        seed: of the elements drawn at random.
        double: measure in float64 too.

    Raises:
        UnmeasurableError: fn is not deterministic, fails, returns no tensor, gives the transformed
            input another shape, or has no positions that the group could act on and is not
            invariant, and `acts` does not say how it transforms. Or the symmetry holds and this
            shows nothing: no element changes x, or the output is empty or the same everywhere.
        ValueError: x or an output has not the shape that its act needs, `acts` names what is no
            output, or the group is none, or has no element but the identity for the shape of x.
    """
    # elements are drawn for x as a map, (N, C, *spatial), whatever its own axes are
    require_group(group)
    inputs, outputs = said(acts)
    given, frame = input_frame(x, inputs.get(""), positions)
    shape = (*given.map(x)[0].shape[:2], *frame.spatial)
    elements = group.elements(shape, torch.Generator().manual_seed(seed))
    x = group.prepared(x)
    tried = to_try([group], len(frame.spatial))
    measured = _Measurement(given, frame, elements, invariant, positions, margin, outputs, tried)

    working: dict[str, Outcome] = {}
    doubled: dict[str, Outcome] = {}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if x.is_cuda else []):
        # float64 first: there a layout fits or does not
        if double or x.dtype == torch.float64:
            exact = call if x.dtype == torch.float64 else call_in_float64
            doubled = measured.run(copied(fn, torch.float64), x.to(torch.float64), exact)
        if x.dtype != torch.float64:
            working = measured.run(copied(fn), x, call)
        errors = judged(group, fn, x, working, doubled, measured.acts)
        if any(e.verdict.fails for e in errors.elements):
            require_determinism(copied(fn), x)

    # what holds shows nothing where every function would pass
    if all(e.verdict.holds for e in errors.elements):
        require_change(given, frame, x, elements, group)
        if not measured.output_varies:
            raise UnmeasurableError(
                "the output of fn is empty or the same everywhere, which shows no symmetry: take "
                "an x for which its values differ"
            )
    return errors


def require_change(
    layout: MapLayout, frame: Frame, x: Tensor, elements: Sequence[Element], group: Group
) -> None:
    """Raise UnmeasurableError where no element changes x: every function passes on such an x."""
    if all(torch.equal(layout.act(x, element, frame), x) for element in elements):
        raise UnmeasurableError(
            f"no element of the group {group.name!r} changes x, of shape {tuple(x.shape)}, so "
            "every function would pass: take an x of more positions, whose values differ"
        )


@dataclass
class _Measurement:
    given: MapLayout
    frame: Frame
    elements: list[Element]
    invariant: bool
    positions: Sequence[int] | None
    margin: int | None
    said: dict[str, Act]
    tried: list[Act]
    output_varies: bool = False
    """Whether an output had more than one value, or a single element."""
    layouts: dict[str, MapLayout | None] = field(default_factory=dict)
    """Of each output, once known; None: it is compared as it is."""

    @property
    def acts(self) -> dict[str, str]:
        """How each output transforms."""
        return {
            place: "invariant" if layout is None else layout.name
            for place, layout in self.layouts.items()
        }

    def run(
        self, fn: Function, x: Tensor, evaluate: Callable[[Function, Tensor], Outputs | None]
    ) -> dict[str, Outcome]:
        """The outcome of every element and output in the dtype of x, by their names; none where
        `evaluate` says that fn does not take it.
        """
        # an output that is the same everywhere is symmetric whatever fn does
        originals = evaluate(fn, x)
        if originals is None:
            return {}
        require_places(self.said, originals)
        for t in originals.values():
            values = t.flatten()
            self.output_varies |= len(values) == 1 or bool((values[1:] != values[:-1]).any())

        # fn runs once for each element; all layouts are compared on the same outputs
        marked = None
        if self.margin is None and any(any(e.spill) for e in self.elements):
            marked = evaluate(fn, with_nan(x, self.given.positions))
        moved: list[tuple[Element, Outputs]] = []
        for element in with_round_trips(self.elements):
            image = self.given.act(x.to(torch.float64), element, self.frame).to(x.dtype)
            got = evaluate(fn, image)
            if got is None:
                return {}
            moved.append((element, got))

        # of each output the layout that explains it best, chosen once for both precisions
        found: dict[str, Outcome] = {}
        largest = finite_maximum([x])
        for place, original in originals.items():
            new = place not in self.layouts
            choices = self._choices(place, original, fn) if new else [self.layouts[place]]
            # what has no positions may stay as it is: that is not taken for granted
            by_trial = new and not choices
            if by_trial:
                choices = invariant.layouts(original.shape, self.frame)
            best: list[Outcome] = []
            for layout in choices:
                reached = self._reached(layout, None if marked is None else marked.get(place))
                given = (original, layout, self.frame, reached, largest)
                pairs = [(e, got.get(place, "fn does not return it")) for e, got in moved]
                outcomes = outcomes_of(pairs, *given)
                if not best or better(outcomes, best, layout):
                    best, self.layouts[place] = outcomes, layout
                if fits(best):
                    break
            if by_trial and not fits(best):
                raise UnmeasurableError(
                    f"{_named(place)}, of shape {tuple(original.shape)}, has no known axes of "
                    "positions, and fn is not invariant: name the axes, or say how it transforms, "
                    "as acts=points()"
                )
            found |= named_outcomes(place, self.elements, best)
        return found

    def _reached(self, layout: MapLayout | None, marked: Tensor | None) -> tuple[int, ...] | None:
        """How far fn reaches, see `interior.reach`."""
        if self.margin is not None:
            return (self.margin,) * len(self.frame.spatial)
        if layout is None or marked is None:
            return None
        return reach_in(marked, layout, self.frame)

    def _choices(self, place: str, t: Tensor, fn: Function) -> Sequence[MapLayout | None]:
        """The layouts that an output may have, the likeliest first; none where it has no known
        positions, and nothing is said.
        """
        # what the caller says leaves nothing to try
        if self.invariant:
            return [None]
        act = act_of(place, self.said)
        module = fn if isinstance(fn, nn.Module) else None
        if act is not None:
            found = act.layouts(t.shape, self.frame, module)
            if not found:
                raise ValueError(
                    f"{_named(place)}, of shape {tuple(t.shape)}, cannot be {act.name}"
                )
            return found[:1]
        if self.positions is not None:
            return [by_axes(t.dim(), self.positions)]

        # as an image first, then by the other acts; without positions only where none are moved
        found = image.layouts(t.shape, self.frame, module)[:1]
        if t.dim() == 2 + len(self.frame.spatial):
            found = [by_axes(t.dim(), range(2, t.dim()))]
        for act in self.tried[1:]:
            found += act.layouts(t.shape, self.frame, module)[:1]
        moves_positions = any(e.moves == "positions" for e in self.elements)
        return [layout for layout in found if layout.positions or not moves_positions]


def _named(place: str) -> str:
    """An output, in a message."""
    return f"the output {place!r} of fn" if place else "the output of fn"


Outputs = dict[str, Tensor]


def with_round_trips(elements: Sequence[Element]) -> list[Element]:
    """The elements, and behind each that interpolates the round trip that shows by how much."""
    pairs = [(element, element.round_trip) for element in elements]
    return [each for pair in pairs for each in pair if each is not None]


def outcomes_of(
    moved: Sequence[tuple[Element, Tensor | str]],
    original: Tensor,
    layout: MapLayout | None,
    frame: Frame,
    reached: tuple[int, ...] | None,
    largest_input: float,
) -> list[Outcome]:
    """The outcome of each element; that of its round trip, which comes behind it, is taken off.

    Args:
        moved: each element, and what became of the input that it transformed, or why there is
            nothing.
        original, layout, frame, reached, largest_input: see `compare`.

    Raises:
        UnmeasurableError: as `compare`.
    """
    # a round trip has no outcome of its own: it says how much of the one before is interpolation
    found: list[Outcome] = []
    last: Element | None = None
    for element, got in moved:
        outcome = (
            compare(got, original, layout, element, frame, reached, largest_input)
            if isinstance(got, Tensor)
            else got
        )
        if last is not None and last.round_trip == element:
            found[-1] = taken_off(found[-1], outcome)
        else:
            found.append(outcome)
        last = element
    return found


def reach_in(marked: Tensor, layout: MapLayout, frame: Frame) -> tuple[int, ...] | None:
    """`interior.reach` for an output in this layout; None where it has not the input's axes."""
    spatial = layout.spatial(marked.shape)
    if len(spatial) != len(frame.spatial):
        return None
    return reach(layout.map(marked)[0], frame.spatial, strides_of(frame, spatial))


def compare(
    got: Tensor,
    original: Tensor,
    layout: MapLayout | None,
    element: Element,
    frame: Frame,
    reached: tuple[int, ...] | None,
    largest_input: float,
) -> Outcome:
    """What became of the transformed input against the transformed output, in the interior where
    the element spills.

    Args:
        got, original: the outputs for the transformed input and for the input.
        layout: of `original`; None compares with `original` as it is.
        frame: of the input.
        reached: how far the function reaches, see `interior.reach`.
        largest_input: of the function's input.

    Raises:
        UnmeasurableError: the two differ in shape.
    """
    # acted on in float64, so that the action adds no rounding of its own
    expected = to_float64(original)
    try:
        expected = expected if layout is None else layout.act(expected, element, frame)
    except UndefinedActionError as error:
        return str(error)
    if got.shape != expected.shape:
        raise UnmeasurableError(
            f"fn changes its shape: under the {element.name} its output has shape "
            f"{tuple(got.shape)}, expected {tuple(expected.shape)}"
        )
    if layout is None:
        return difference(got, expected, largest_input)

    # everywhere, unless something else than the moved image comes in at the border
    spatial = layout.spatial(expected.shape)
    if not spatial or not any(element.spill):
        positions = layout.positions if layout.grid is None else ()
        return difference(got, expected, largest_input, positions)

    if element.interpolates:
        # what the border adds is part of the error: smooth inputs have faded there
        reached = reached or (0,) * len(spatial)
    got_map, expected_map = layout.map(got)[0], layout.map(expected)[0]
    if isinstance(layout, PairLayout):
        return NO_INTERIOR
    index = interior(expected_map.shape, element, reached, strides_of(frame, spatial))
    if index is not None:
        contrast = element.interpolates
        return difference(got_map[index], expected_map[index], largest_input, contrast=contrast)
    # nothing inside the border: what agrees up to the border itself still counts
    whole = difference(got, expected, largest_input)
    bound = max(ONLY_FLOAT64, ONLY_WORKING * torch.finfo(got.dtype).eps)
    return whole if whole.relative <= bound else NO_INTERIOR
