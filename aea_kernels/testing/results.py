"""What a measurement says of one element of a group, and of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import (
    DIGITS_OF_DOUBT,
    EPS64,
    ONLY_FLOAT64,
    ONLY_WORKING,
    Difference,
    Verdict,
    judge,
    rounding_error,
)
from .symmetry import Element, Group

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
        elements: one entry for each element.
    """

    group: str
    dtype: torch.dtype
    eps: float
    elements: tuple[ElementError, ...]

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
        """The largest decisive error of that element that counts as rounding."""
        if error.double is None:
            return ONLY_WORKING * self.eps
        if error.working is None:
            return ONLY_FLOAT64
        return DIGITS_OF_DOUBT * EPS64 * max(error.working.relative / self.eps, 1.0)

    def __str__(self) -> str:
        lines = [f"{self.group}: {self.verdict}"]
        for e in self.elements:
            parts = []
            if e.working:
                parts.append(f"{show(e.working)} in {dtype_name(self.dtype)}")
            if e.double:
                parts.append(f"{show(e.double)} in float64, {e.double.decibels:.0f} dB")
            lines.append(f"  {e.element}: {', '.join(parts) or e.reason} ({e.verdict})")
        return "\n".join(lines)


def judged(
    group: Group,
    elements: Sequence[Element],
    x: Tensor,
    working: Sequence[Outcome] | None,
    double: Sequence[Outcome] | None,
) -> Errors:
    """The errors of a group from the outcomes of its elements.

    Args:
        x: the input.
        working, double: an outcome for each element in the dtype of x and in float64; None for a
            precision that was not measured.
    """
    eps = rounding_error(x)
    missing = [None] * len(elements)
    outcomes = zip(elements, working or missing, double or missing, strict=True)
    rows = tuple(_element_error(element, a, b, eps) for element, a, b in outcomes)
    return Errors(group.name, x.dtype, eps, rows)


def _element_error(
    element: Element, working: Outcome | None, double: Outcome | None, eps: float
) -> ElementError:
    a = working if isinstance(working, Difference) else None
    b = double if isinstance(double, Difference) else None
    if a is None and b is None:
        reason = double or working or ""
        verdict = Verdict.UNMEASURED if isinstance(reason, NotMeasured) else Verdict.UNDEFINED
        return ElementError(element.name, None, None, verdict, str(reason))
    narrow, wide = (None if d is None else d.relative for d in (a, b))
    verdict = judge(narrow, wide, eps)
    return ElementError(element.name, a, b, verdict)


def show(d: Difference | None) -> str:
    """A relative error, short."""
    if d is None:
        return ""
    return f"{d.relative:.1e}" if d.relative else "0"


def dtype_name(dtype: torch.dtype) -> str:
    """Without the prefix of the module."""
    return str(dtype).removeprefix("torch.")
