"""How far two tensors differ, and what an error in two precisions says: rounding, or a broken
symmetry.

Rounding falls by 8.7 digits from float32 to float64, the ratio of their rounding errors. A broken
symmetry does not fall. That decides; the size of the error alone cannot, because a deep network
amplifies rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from ..core.float64 import to_float64

EPS64 = torch.finfo(torch.float64).eps
TF32_EPS = 2.0**-10
DIGITS_OF_DOUBT = 1e3
"""Rounding may grow this many times more in one precision than in the other before it is called
something else.
"""

ONLY_FLOAT64 = 1e-9
"""The largest relative error that float64 alone, without a second precision, is taken to be
rounding.
"""

ONLY_WORKING = 100
"""Without float64: the largest relative error that is taken to be rounding, in rounding errors of
the dtype; more for a network that is deep or wide.
"""

SMALLEST_OUTPUT = 1e-6
"""Errors are relative to the largest output, but at least to this part of the largest input: behind
an exact cancellation the output is rounding alone, and the error of rounding relative to itself
says nothing."""


class UnmeasurableError(ValueError):
    """A function whose symmetry cannot be measured; the message is one sentence that says why, and
    what to do.
    """


class Verdict(StrEnum):
    """What an error is."""

    EXACT = "exact"
    ROUNDING = "rounding"
    INTERPOLATION = "interpolation"
    BROKEN = "broken"
    UNDEFINED = "no action"
    PRECISION = "broken by precision"
    OVERFLOW = "overflow"
    NOT_FINITE = "not finite"
    UNMEASURED = "not measured"

    @property
    def holds(self) -> bool:
        """Whether the symmetry holds as far as numbers can tell."""
        return self in (Verdict.EXACT, Verdict.ROUNDING, Verdict.INTERPOLATION)

    @property
    def fails(self) -> bool:
        """Whether something is wrong: neither does the symmetry hold nor is it merely not
        measured.
        """
        return not self.holds and self is not Verdict.UNMEASURED


@dataclass(frozen=True)
class Difference:
    """How far a tensor is from the expected one.

    Attributes:
        relative: the largest difference over the largest expected value (see `SMALLEST_OUTPUT`).
        decibels: root mean square of the expected over that of the difference, in dB: 20 dB are one
            digit.
        at_border: all of the difference is near the border of the map.
        floor: what interpolation adds, already taken off; None where nothing interpolates. Then
            both are root mean squares.
    """

    relative: float
    decibels: float
    at_border: bool = False
    floor: float | None = None

    @property
    def mean(self) -> float:
        """The root mean square of the difference over that of the expected."""
        return math.nan if math.isnan(self.decibels) else 10 ** (-self.decibels / 20)


def difference(
    got: Tensor,
    expected: Tensor,
    largest_input: float = 0.0,
    positions: Sequence[int] = (),
    *,
    contrast: bool = False,
) -> Difference:
    """Compare in float64. `relative` is not a number where `got` or `expected` is not finite.

    Args:
        got, expected: of one shape.
        largest_input: of the function whose output is compared.
        positions: the axes of positions, to say whether the difference is at the border.
        contrast: decibels of the expected map (N, C, *spatial) without the mean of each channel,
            which any smooth function of a smooth image shares with its neighbours.
    """
    # nothing to divide: no difference at all, or one that is not finite
    expected = to_float64(expected.detach())
    off = got.detach() - expected
    most = finite_maximum([off])
    if most == 0:
        return Difference(0.0, math.inf)
    if not math.isfinite(most):
        return Difference(math.nan, math.nan)

    # relative to the largest output, or where outputs cancel to a small part of the input
    largest = max(finite_maximum([expected]), SMALLEST_OUTPUT * largest_input)
    relative = most / largest if largest else math.inf
    if contrast:
        expected = expected - expected.mean(dim=tuple(range(2, expected.dim())), keepdim=True)
    norm = float(expected.norm())
    decibels = 20 * math.log10(norm / float(off.norm())) if norm else -math.inf
    return Difference(relative, decibels, _at_border(off, most, positions))


def _at_border(off: Tensor, most: float, positions: Sequence[int]) -> bool:
    """Whether nothing above a thousandth of the largest difference lies more than an eighth of the
    side inside.
    """
    inner = off
    for axis in positions:
        margin = max(1, off.shape[axis] // 8)
        if off.shape[axis] <= 2 * margin:
            return False
        inner = inner.narrow(axis, margin, off.shape[axis] - 2 * margin)
    return bool(positions) and finite_maximum([inner]) <= 1e-3 * most


def rounding_error(x: Tensor) -> float:
    """The relative rounding error of what is computed from x: of its dtype, or of TF32 where CUDA
    may use that.
    """
    convolutions: Any = torch.backends.cudnn
    precisions = convolutions.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    tf32 = x.dtype == torch.float32 and x.is_cuda and "tf32" in precisions
    return TF32_EPS if tf32 else torch.finfo(x.dtype).eps


def judge(
    working: float | None, double: float | None, eps: float, allowed: float = ONLY_WORKING
) -> Verdict:
    """What the relative errors in the working precision, whose rounding error is `eps`, and in
    float64 are.

    None stands for a precision that was not measured, not a number for a result that was not
    finite. `allowed` are the rounding errors that the working precision alone may have.
    """
    # not finite: a fault of the function, unless in float64 it is finite
    if double is not None and not math.isfinite(double):
        return Verdict.NOT_FINITE
    if working is not None and not math.isfinite(working):
        return Verdict.NOT_FINITE if double is None else Verdict.OVERFLOW

    if working is None and double is None:
        return Verdict.UNMEASURED
    if not working and not double:
        return Verdict.EXACT

    # one precision alone: the size of the error has to decide
    if double is None:
        return Verdict.ROUNDING if (working or 0) <= allowed * eps else Verdict.BROKEN
    if working is None:
        return Verdict.ROUNDING if double <= ONLY_FLOAT64 else Verdict.BROKEN

    # both, in rounding errors of their own
    in_double, in_working = double / EPS64, working / eps
    if in_double > DIGITS_OF_DOUBT * max(in_working, 1.0):
        return Verdict.BROKEN
    if in_working > DIGITS_OF_DOUBT * max(in_double, 1.0):
        return Verdict.PRECISION
    return Verdict.ROUNDING


def finite_maximum(tensors: Sequence[Tensor]) -> float:
    """The largest magnitude in the tensors; not a number where a value is not finite."""
    largest = 0.0
    for tensor in tensors:
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        if tensor.numel():
            # aminmax, and abs before amax, take ten times as long on channels-last maps
            lowest, highest = float(tensor.detach().amin()), float(tensor.detach().amax())
            if not (math.isfinite(lowest) and math.isfinite(highest)):
                return math.nan
            largest = max(largest, -lowest, highest)
    return largest


def dtype_name(dtype: torch.dtype) -> str:
    """Without the prefix of the module."""
    return str(dtype).removeprefix("torch.")
