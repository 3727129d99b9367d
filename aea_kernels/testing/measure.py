"""The equivariance error of a function under each element of a group, in the working precision and
in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import (
    ONLY_FLOAT64,
    ONLY_WORKING,
    UnmeasurableError,
    difference,
    finite_maximum,
)
from .interior import interior, reach, with_nan
from .layouts import Frame, MapLayout, by_axes, input_layout, possible_layouts, strides_of
from .precision import Function, call, call_in_float64, copied, require_determinism
from .results import Errors, NotMeasured, Outcome, judged
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
        fn: a module or function that maps x to one tensor.
        x: a feature map (N, C, *spatial) of floating point, one to three spatial axes, or anything
            else with `positions` named.
        group: see `groups`.
        invariant: compare with fn(x) as it is.
        positions: the axes of positions, of x and of fn(x), negative where these differ in their
            number of axes; all from the third on by default.
        margin: how far from the border, in positions of x, a network with zero padding is not
            compared under translations; by default as far as its receptive field reaches, which is
            measured.
        seed: of the elements drawn at random.
        double: measure in float64 too.

    Raises:
        UnmeasurableError: fn is not deterministic, fails, returns something else than one tensor,
            gives the transformed input another shape, or has no positions that the group could act
            on. Or the symmetry holds and this shows nothing: no element changes x, or the output
            is empty or the same everywhere.
        ValueError: x is no feature map, or the group has no element but the identity for its shape.
    """
    given = input_layout(x, positions)
    image_map, _ = given.map(x)
    frame = Frame(image_map.shape[0], tuple(image_map.shape[2:]))
    elements = group.elements(image_map.shape, torch.Generator().manual_seed(seed))
    measured = _Measurement(given, frame, elements, invariant, positions, margin)

    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if x.is_cuda else []):
        if x.dtype == torch.float64:
            working, doubled = None, measured.run(copied(fn), x, call)
        else:
            working, doubled = measured.run(copied(fn), x, call), None
            if double:
                twin = copied(fn, torch.float64)
                doubled = measured.run(twin, x.to(torch.float64), call_in_float64)
        errors = judged(group, elements, x, working, doubled)
        if any(e.verdict.fails for e in errors.elements):
            require_determinism(copied(fn), x)
    if all(e.verdict.holds for e in errors.elements):
        require_change(given, x, elements, group)
        if not measured.output_varies:
            raise UnmeasurableError(
                "the output of fn is empty or the same everywhere, which shows no symmetry: take "
                "an x for which its values differ"
            )
    return errors


def require_change(layout: MapLayout, x: Tensor, elements: Sequence[Element], group: Group) -> None:
    """Raise UnmeasurableError where no element changes x: every function passes on such an x."""
    image_map, _ = layout.map(x)
    frame = Frame(image_map.shape[0], tuple(image_map.shape[2:]))
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
    output_varies: bool = False
    """Whether an output had more than one value, or a single element."""

    def run(
        self, fn: Function, x: Tensor, evaluate: Callable[[Function, Tensor], Tensor | None]
    ) -> list[Outcome] | None:
        """The outcome of every element in the dtype of x; None where `evaluate` says that fn does
        not take it.
        """
        original = evaluate(fn, x)
        if original is None:
            return None
        layout = None if self.invariant else self._output_layout(original, fn)
        if original.numel():
            same = original.amin() == original.amax()
            self.output_varies |= original.numel() == 1 or not bool(same)
        reached = None
        if self.margin is not None:
            reached = (self.margin,) * len(self.frame.spatial)
        elif layout is not None and any(any(e.spill) for e in self.elements):
            marked = evaluate(fn, with_nan(x, self.given.positions))
            reached = None if marked is None else reach_in(marked, layout, self.frame)

        largest = finite_maximum([x])
        outcomes: list[Outcome] = []
        for element in self.elements:
            moved = self.given.act(x.to(torch.float64), element, self.frame).to(x.dtype)
            got = evaluate(fn, moved)
            if got is None:
                return None
            outcomes.append(compare(got, original, layout, element, self.frame, reached, largest))
        return outcomes

    def _output_layout(self, output: Tensor, fn: Function) -> MapLayout:
        if self.positions is not None:
            return by_axes(output.dim(), self.positions)
        if output.dim() == 2 + len(self.frame.spatial):
            return by_axes(output.dim(), range(2, output.dim()))

        module = fn if isinstance(fn, nn.Module) else None
        found = possible_layouts(output.shape, self.frame, module)
        moves_positions = any(e.moves == "positions" for e in self.elements)
        if not found or (moves_positions and not found[0].positions):
            raise UnmeasurableError(
                f"the output of fn, of shape {tuple(output.shape)}, has no known axes of "
                "positions: ask whether fn is invariant, or name the axes"
            )
        return found[0]


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
    expected = original.to(torch.float64)
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

    got_map, expected_map = layout.map(got)[0], layout.map(expected)[0]
    index = interior(expected_map.shape, element, reached, strides_of(frame, spatial))
    if index is not None:
        return difference(got_map[index], expected_map[index], largest_input)
    whole = difference(got, expected, largest_input)
    bound = max(ONLY_FLOAT64, ONLY_WORKING * torch.finfo(got.dtype).eps)
    return whole if whole.relative <= bound else NO_INTERIOR
