"""What a measurement says of one element of a group, and of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .errors import (
    DIGITS_OF_DOUBT,
    EPS64,
    ONLY_FLOAT64,
    Difference,
    Verdict,
    dtype_name,
    judge,
    rounding_error,
)
from .layouts import MapLayout
from .precision import Function, Size, size_of
from .symmetry import Element, Group

GOOD_ENOUGH = 1e-4
"""Of several layouts that a tensor may have, the first whose relative error is below this is taken
to be its layout.
"""

GOOD_ENOUGH_INTERPOLATED = 0.1
"""The same where the element interpolates."""

INTERPOLATED = 3
"""So many times what interpolation adds is still taken to be interpolation."""

WITHIN = 0.02
"""And so is an error below this."""

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
    def decisive(self) -> Difference | None:
        """The difference in float64 where it was measured, else in the dtype of x."""
        return self.double or self.working

    @property
    def error(self) -> float:
        """The relative error of the decisive difference; not a number without any."""
        return math.nan if self.decisive is None else self.decisive.relative


@dataclass(frozen=True)
class Errors:
    """The errors of a function under every element of a group.

    Attributes:
        group: its name.
        dtype: of x, the working precision.
        eps: the rounding error of that precision.
        elements: one entry for each element, and for each output where there are several.
        acts: how each output transforms, by its place.
        size: of the network, on which the bound depends where float64 is missing.
    """

    group: str
    dtype: torch.dtype
    eps: float
    elements: tuple[ElementError, ...]
    acts: dict[str, str] = field(default_factory=dict)
    size: Size = field(default_factory=Size)

    @property
    def worst(self) -> ElementError:
        """The element whose verdict, then whose error, is the worst."""

        def badness(e: ElementError) -> tuple[bool, bool, float]:
            error = math.inf if math.isnan(e.error) else e.error
            return e.verdict.fails, not e.verdict.holds, error

        return max(self.elements, key=badness)

    @property
    def error(self) -> float:
        """The relative error of the worst element."""
        return self.worst.error

    @property
    def verdict(self) -> Verdict:
        """What that error is."""
        return self.worst.verdict

    def bound(self, error: ElementError) -> float:
        """The largest decisive error of that element that counts as rounding, or as
        interpolation.
        """
        return self._bound(error)[0]

    def why(self, error: ElementError) -> str:
        """Where that bound comes from, in words."""
        return self._bound(error)[1]

    def _bound(self, error: ElementError) -> tuple[float, str]:
        # where the element interpolates, what that adds is the measure
        decisive, dtype = error.decisive, dtype_name(self.dtype)
        if decisive is not None and decisive.floor is not None:
            bound = max(INTERPOLATED * decisive.floor, WITHIN)
            return bound, f"interpolation adds {decisive.floor:.1%}"

        # one precision alone: a fixed size decides what is rounding
        if error.double is None:
            number = self.size.roundings
            return number * self.eps, (
                f"{number:,.0f} rounding errors of {dtype}, without a result in float64{self.size}"
            )
        if error.working is None:
            return ONLY_FLOAT64, "x is float64, so no second precision tells what rounding is"

        # both: in rounding errors of each, the two are alike where it is rounding
        seen = max(error.working.relative / self.eps, 1.0)
        return DIGITS_OF_DOUBT * EPS64 * seen, (
            f"{dtype} is off by {seen:,.0f} of its rounding errors, so float64 may be by "
            f"{DIGITS_OF_DOUBT:,.0f} times as many of its own"
        )

    def __str__(self) -> str:
        lines = [f"{self.group}: {self.verdict}"]
        for e in self.elements:
            parts = []
            if e.working:
                parts.append(f"{show(e.working)} in {dtype_name(self.dtype)}")
            if e.double:
                parts.append(f"{show(e.double)} in float64, {e.double.decibels:.0f} dB")
            if e.decisive and e.decisive.floor is not None:
                parts.append(f"beside {e.decisive.floor:.1e} of interpolation")
            lines.append(f"  {e.element}: {', '.join(parts) or e.reason} ({e.verdict})")
        return "\n".join(lines)


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


def judged(
    group: Group,
    fn: Function,
    x: Tensor,
    working: Mapping[str, Outcome],
    double: Mapping[str, Outcome],
    acts: dict[str, str],
) -> Errors:
    """The errors of a group from the outcomes of its elements.

    Args:
        fn, x: the function and its input.
        working, double: an outcome for each element, and each output, in the dtype of x and in
            float64; empty for a precision that was not measured.
        acts: see `Errors`.
    """
    eps = rounding_error(x)
    size = size_of(fn)
    rows = tuple(
        _element_error(name, working.get(name), double.get(name), eps, size)
        for name in dict.fromkeys([*double, *working])
    )
    return Errors(group.name, x.dtype, eps, rows, acts, size)


def named_outcomes(
    place: str, elements: Sequence[Element], outcomes: Sequence[Outcome]
) -> dict[str, Outcome]:
    """The outcomes of one output by the names of the elements, after its place where it has one."""
    pairs = zip(elements, outcomes, strict=True)
    return {entry_name(place, element): outcome for element, outcome in pairs}


def entry_name(place: str, element: Element) -> str:
    """Of one output under one element."""
    return f"{place}: {element.name}" if place else element.name


def _element_error(
    name: str, working: Outcome | None, double: Outcome | None, eps: float, size: Size
) -> ElementError:
    # without a number in either precision the reason is all there is
    a = working if isinstance(working, Difference) else None
    b = double if isinstance(double, Difference) else None
    decisive = b or a
    if decisive is None:
        reason = double or working or ""
        verdict = Verdict.UNMEASURED if isinstance(reason, NotMeasured) else Verdict.UNDEFINED
        return ElementError(name, None, None, verdict, str(reason))

    # interpolation falls in no precision, so what it adds decides in place of the two
    narrow, wide = (None if d is None else d.relative for d in (a, b))
    verdict = judge(narrow, wide, eps, size.roundings)
    if decisive.floor is not None:
        allowed = max(INTERPOLATED * decisive.floor, WITHIN)
        within = decisive.relative <= allowed
        verdict = Verdict.INTERPOLATION if within else Verdict.BROKEN
    return ElementError(name, a, b, verdict)


# ---- which of several layouts a tensor has -------------------------------------------------------


def fits(outcomes: Sequence[Outcome]) -> bool:
    """Whether every element was measured and none gives more than rounding or interpolation."""
    return _misfit(outcomes)[:2] == (0, 0)


def better(outcomes: Sequence[Outcome], best: Sequence[Outcome], layout: MapLayout | None) -> bool:
    """Whether this layout explains the outcomes better than the best one before it.

    Channels that transform, and pairs of tokens, count only where more elements fit by them: an
    error that is merely smaller says nothing, nor does one that cannot be measured.
    """
    new, old = _misfit(outcomes), _misfit(best)
    if layout is None or not layout.label:
        return new < old
    more_fit = sum(new[:2]) < sum(old[:2])
    return more_fit and new[:2] < old[:2]


def _misfit(outcomes: Sequence[Outcome]) -> tuple[int, int, float]:
    """How many elements do not fit, how many are not measured, and the largest error."""
    misfits, missing, worst = 0, 0, 0.0
    for outcome in outcomes:
        if isinstance(outcome, NotMeasured):
            missing += 1
            continue
        error, enough = math.inf, GOOD_ENOUGH
        if isinstance(outcome, Difference) and not math.isnan(outcome.relative):
            error = outcome.relative
            enough = GOOD_ENOUGH if outcome.floor is None else GOOD_ENOUGH_INTERPOLATED
        misfits += error > enough
        worst = max(worst, error)
    return misfits, missing, worst


def taken_off(outcome: Outcome, back: Outcome) -> Outcome:
    """The outcome of an element that interpolates, without half the error of its round trip."""
    if not (isinstance(outcome, Difference) and isinstance(back, Difference)):
        return outcome
    floor = back.mean / 2
    error = math.sqrt(max(0.0, outcome.mean**2 - floor**2))
    return replace(outcome, relative=error, floor=floor)


def show(d: Difference | None) -> str:
    """A relative error, short."""
    if d is None:
        return ""
    return f"{d.relative:.1e}" if d.relative else "0"
