"""The equivariance error of a function under each element of a group, in the working precision and
in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import (
    DIGITS_OF_DOUBT,
    EPS64,
    ONLY_FLOAT64,
    ONLY_WORKING,
    Difference,
    UnmeasurableError,
    Verdict,
    difference,
    finite_maximum,
    judge,
    rounding_error,
)
from .interior import interior, reach, with_nan
from .layouts import Frame, Layout, by_axes, layouts, strides_of
from .precision import Function, call, call_in_float64, copied, module_of
from .symmetry import Element, Group, UndefinedActionError

Outcome = Difference | str
"""A comparison, or why there is none."""


class NotMeasured(str):
    """Why an outcome is missing although nothing is wrong."""


@dataclass(frozen=True)
class ElementError:
    """What one element of the group does.

    Attributes:
        element: its name.
        working, double: the difference in the dtype of x and in float64; None where it was not
            measured.
        verdict: what the two say.
        reason: why there is nothing to compare, where that is so.
    """

    element: str
    working: Difference | None
    double: Difference | None
    verdict: Verdict
    reason: str = ""

    @property
    def error(self) -> float:
        """The relative error that decides: in float64 where it was measured; not a number without
        any.
        """
        decisive = self.double or self.working
        return math.nan if decisive is None else decisive.relative


@dataclass(frozen=True)
class Errors:
    """The errors of a function under every element of a group.

    Attributes:
        group: its name.
        dtype: of x, the working precision.
        eps: the rounding error of that precision.
        elements: one entry for each element.
    """

    group: str
    dtype: torch.dtype
    eps: float
    elements: tuple[ElementError, ...]

    @property
    def worst(self) -> ElementError:
        """The element whose verdict, then whose error, is the worst."""
        return max(
            self.elements, key=lambda e: (e.verdict.fails, not e.verdict.holds, _rank(e.error))
        )

    @property
    def error(self) -> float:
        """The relative error of the worst element."""
        return self.worst.error

    @property
    def verdict(self) -> Verdict:
        """What that error is."""
        return self.worst.verdict

    def bound(self, error: ElementError) -> float:
        """The largest decisive error of that element that counts as rounding."""
        if error.double is None:
            return ONLY_WORKING * self.eps
        if error.working is None:
            return ONLY_FLOAT64
        return DIGITS_OF_DOUBT * EPS64 * max(error.working.relative / self.eps, 1.0)

    def __str__(self) -> str:
        lines = [f"{self.group}: {self.verdict}"]
        for e in self.elements:
            numbers = [f"{show(e.working)} in {name(self.dtype)}"] if e.working else []
            numbers += (
                [f"{show(e.double)} in float64, {e.double.decibels:.0f} dB"] if e.double else []
            )
            lines.append(f"  {e.element}: {', '.join(numbers) or e.reason} ({e.verdict})")
        return "\n".join(lines)


def equivariance_error(
    fn: Function, x: Tensor, group: Group, *, invariant: bool = False, positions: Sequence[int] | None = None,
    margin: int | None = None, seed: int = 0, double: bool = True,
) -> Errors:  # fmt: skip
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
            on.
        ValueError: x is no feature map, or the group has no element but the identity for its shape.
    """
    given = input_layout(x, positions)
    image_map, _ = given.map(x)
    frame = Frame(image_map.shape[0], tuple(image_map.shape[2:]))
    elements = group.elements(image_map.shape, torch.Generator().manual_seed(seed))
    measured = _Measurement(given, frame, elements, invariant, positions, margin)
    in_float64 = x.dtype == torch.float64
    fork = list(range(torch.cuda.device_count())) if x.is_cuda else []
    with torch.random.fork_rng(devices=fork):
        working = None if in_float64 else measured.run(copied(fn), x, fails=True)
        doubled = None
        if double or in_float64:
            doubled = measured.run(copied(fn, torch.float64), x.to(torch.float64), fails=in_float64)
        found = tuple(
            element_error(
                e,
                None if working is None else working[i],
                None if doubled is None else doubled[i],
                rounding_error(x),
            )
            for i, e in enumerate(elements)
        )
        if any(e.verdict.fails for e in found):
            require_determinism(copied(fn), x)
    return Errors(group.name, x.dtype, rounding_error(x), found)


@dataclass
class _Measurement:
    given: Layout
    frame: Frame
    elements: list[Element]
    invariant: bool
    positions: Sequence[int] | None
    margin: int | None

    def run(self, fn: Function, x: Tensor, *, fails: bool) -> list[Outcome] | None:
        """The outcome of every element in the dtype of x; None where fn does not take it and that
        is no failure.
        """
        evaluate = call_in_float64 if x.dtype == torch.float64 and not fails else call
        original = evaluate(fn, x)
        if original is None:
            return None
        layout = None if self.invariant else self._output_layout(original, fn)
        reached = self._reached(fn, x, layout)
        largest = finite_maximum([x])
        outcomes: list[Outcome] = []
        for element in self.elements:
            moved = self.given.act(x.to(torch.float64), element, self.frame).to(x.dtype)
            got = evaluate(fn, moved)
            if got is None:
                return None
            outcomes.append(compare(got, original, layout, element, self.frame, reached, largest))
        return outcomes

    def _output_layout(self, output: Tensor, fn: Function) -> Layout:
        if self.positions is not None:
            return by_axes(output.dim(), self.positions)
        module = fn if isinstance(fn, nn.Module) else None
        found = layouts(output.shape, self.frame, module)
        if output.dim() == 2 + len(self.frame.spatial):
            found = [by_axes(output.dim(), range(2, output.dim()))]
        if not found or (
            not found[0].positions and any(e.moves == "positions" for e in self.elements)
        ):
            raise UnmeasurableError(
                f"the output of fn, of shape {tuple(output.shape)}, has no known axes of positions: ask whether fn is "
                "invariant, or name the axes"
            )
        return found[0]

    def _reached(self, fn: Function, x: Tensor, layout: Layout | None) -> tuple[int, ...] | None:
        if layout is None or not any(any(e.spill) for e in self.elements):
            return None
        if self.margin is not None:
            return (self.margin,) * len(self.frame.spatial)
        marked = with_nan(x, self.given.positions)
        output = call_in_float64(fn, marked) if x.dtype == torch.float64 else call(fn, marked)
        if output is None:
            return None
        spatial = layout.spatial(output.shape)
        return reach(layout.map(output)[0], self.frame.spatial, strides_of(self.frame, spatial))


def compare(
    got: Tensor, original: Tensor, layout: Layout | None, element: Element, frame: Frame,
    reached: tuple[int, ...] | None, largest_input: float,
) -> Outcome:  # fmt: skip
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
    try:
        expected = (
            original.to(torch.float64)
            if layout is None
            else layout.act(original.to(torch.float64), element, frame)
        )
    except UndefinedActionError as error:
        return f"{error}"
    if got.shape != expected.shape:
        raise UnmeasurableError(
            f"fn changes its shape: under the {element.name} its output has shape {tuple(got.shape)}, expected "
            f"{tuple(expected.shape)}"
        )
    if layout is None:
        return difference(got, expected, largest_input)
    got_map, expected_map = layout.map(got)[0], layout.map(expected)[0]
    spatial = tuple(expected_map.shape[2:])
    if not spatial or not any(element.spill):
        return difference(
            got, expected, largest_input, layout.positions if layout.grid is None else ()
        )
    strides = strides_of(frame, spatial)
    index = interior(expected_map.shape, element, reached, strides)
    if index is not None:
        return difference(got_map[index], expected_map[index], largest_input)
    whole = difference(got, expected, largest_input)
    if whole.relative <= max(ONLY_FLOAT64, ONLY_WORKING * torch.finfo(got.dtype).eps):
        return whole
    return NO_INTERIOR


NO_INTERIOR = NotMeasured(
    "the border reaches every position: take a larger image, or circular translations where padding is circular"
)


def element_error(
    element: Element, working: Outcome | None, double: Outcome | None, eps: float
) -> ElementError:
    """What the outcomes in both precisions say; None stands for a precision that was not
    measured.
    """
    a = working if isinstance(working, Difference) else None
    b = double if isinstance(double, Difference) else None
    if a is None and b is None:
        reason = next((o for o in (double, working) if isinstance(o, str)), "")
        verdict = Verdict.UNMEASURED if isinstance(reason, NotMeasured) else Verdict.UNDEFINED
        return ElementError(element.name, None, None, verdict, reason)
    verdict = judge(None if a is None else a.relative, None if b is None else b.relative, eps)
    return ElementError(element.name, a, b, verdict)


def input_layout(x: Tensor, positions: Sequence[int] | None = None) -> Layout:
    """The layout of an input. Raises ValueError where x is no feature map."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x is {got}, expected a floating-point tensor (N, C, *spatial)")
    if positions is None and not 3 <= x.dim() <= 5:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (N, C, *spatial) with 1, 2 or 3 spatial axes"
        )
    return by_axes(x.dim(), range(2, x.dim()) if positions is None else positions)


def require_determinism(fn: Function, x: Tensor) -> None:
    """Raise UnmeasurableError where two calls on the same input differ by more than rounding."""
    before = torch.get_rng_state() if not x.is_cuda else torch.cuda.get_rng_state(x.device)
    first = call(fn, x)
    after = torch.get_rng_state() if not x.is_cuda else torch.cuda.get_rng_state(x.device)
    second = call(fn, x)
    if first.shape != second.shape:
        raise UnmeasurableError(
            f"fn changes its shape from call to call on one input: {tuple(first.shape)}, then {tuple(second.shape)}"
        )
    apart = difference(second, first, finite_maximum([x])).relative
    if apart <= ONLY_WORKING * rounding_error(x) or math.isnan(apart):
        return
    if torch.equal(before, after):
        raise UnmeasurableError(
            f"fn is not deterministic: two calls on the same input differ by {apart:.2g}, and it draws no random "
            "numbers from torch, so it keeps a state between calls or draws them elsewhere"
        )
    module = module_of(fn)
    training = module is not None and module.training
    layers = [] if module is None else _random_layers(module)
    where = f" in {', '.join(layers)}" if layers else ""
    mode = (
        "it is in training mode, so call eval() first" if training else "fix their seed within fn"
    )
    raise UnmeasurableError(
        f"fn draws random numbers{where}: two calls on the same input differ by {apart:.2g}, which says nothing about "
        f"its symmetry; {mode}"
    )


def _random_layers(module: nn.Module) -> list[str]:
    """Names of the layers in training mode that look as if they dropped something at random."""
    return [
        f"{n or type(m).__name__!r}"
        for n, m in module.named_modules()
        if m.training and "drop" in type(m).__name__.lower()
    ]


def _rank(error: float) -> float:
    return math.inf if math.isnan(error) else error


def show(d: Difference | None) -> str:
    """A relative error, short."""
    return "" if d is None else f"{d.relative:.1e}" if d.relative else "0"


def name(dtype: torch.dtype) -> str:
    """Without the prefix."""
    return str(dtype).removeprefix("torch.")
