"""Assertions that a function has a symmetry. They raise AssertionError with what broke it, by how
much, and why.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .acts import Said
from .causes import cause_of
from .checks import require_tolerance
from .errors import UnmeasurableError, Verdict, dtype_name
from .groups import Permutations
from .layers import first_fault
from .measure import equivariance_error
from .precision import Function, narrower
from .results import ElementError, Errors, show
from .symmetry import Group


def assert_equivariant(
    fn: Function,
    x: Tensor,
    group: Group,
    *,
    acts: Said = None,
    tolerance: float | None = None,
    positions: Sequence[int] | None = None,
    margin: int | None = None,
    seed: int = 0,
) -> Errors:
    """``fn(g x) == g fn(x)`` for every element g of the group.

    Args:
        fn, x, group, acts, positions, margin, seed: see `equivariance_error`.
        tolerance: the largest relative error in float64 (in the dtype of x, where fn does not take
            float64) that passes; by default whatever is rounding: what falls from the dtype of x to
            float64 as rounding does. Where the group interpolates, by default what interpolation
            explains, or 0.02.

    Returns:
        The measured errors.

    Raises:
        AssertionError: the symmetry is broken; the message names the element, the error, the bound,
            the likely cause.
        UnmeasurableError, ValueError: as `equivariance_error`.
        ValueError: the tolerance is no number of at least 0.
    """
    require_tolerance(tolerance)
    options = {"acts": acts, "positions": positions, "margin": margin, "seed": seed}
    errors = equivariance_error(fn, x, group, **options)  # type: ignore[arg-type]
    require(errors, fn, x, group, "equivariant", tolerance, acts)
    return errors


def assert_invariant(
    fn: Function,
    x: Tensor,
    group: Group,
    *,
    tolerance: float | None = None,
    positions: Sequence[int] | None = None,
    seed: int = 0,
) -> Errors:
    """``fn(g x) == fn(x)`` for every element g of the group; everything else as
    `assert_equivariant`.
    """
    require_tolerance(tolerance)
    errors = equivariance_error(fn, x, group, invariant=True, positions=positions, seed=seed)
    require(errors, fn, x, group, "invariant", tolerance)
    return errors


def assert_permutation_equivariant(
    fn: Function,
    x: Tensor,
    *,
    positions: Sequence[int] | None = None,
    trials: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """`assert_equivariant` for `trials` random permutations of the positions (Definition 2,
    Theorems 1 and 2).
    """
    group = Permutations(trials=trials)
    assert_equivariant(fn, x, group, tolerance=tolerance, positions=positions, seed=seed)


def assert_permutation_invariant(
    fn: Function,
    x: Tensor,
    *,
    positions: Sequence[int] | None = None,
    trials: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """`assert_invariant` for `trials` random permutations of the positions."""
    group = Permutations(trials=trials)
    assert_invariant(fn, x, group, tolerance=tolerance, positions=positions, seed=seed)


def passes(error: ElementError, tolerance: float | None) -> bool:
    """Whether the element's error is within the tolerance, or without one, whether it is
    rounding.
    """
    no_number = error.verdict in (Verdict.UNDEFINED, Verdict.OVERFLOW, Verdict.NOT_FINITE)
    if tolerance is None or no_number:
        return error.verdict.holds
    return error.error <= tolerance


def require(
    errors: Errors,
    fn: Function,
    x: Tensor,
    group: Group,
    symmetry: str,
    tolerance: float | None,
    acts: Said = None,
) -> None:
    """Raise AssertionError where the errors of fn exceed the tolerance, UnmeasurableError where
    there are none.
    """
    # what could not be measured must not pass
    for error in errors.elements:
        if error.verdict is Verdict.UNMEASURED:
            raise UnmeasurableError(
                f"whether fn is {symmetry} to {errors.group} cannot be measured: {error.reason}"
            )
    broken = [e for e in errors.elements if not passes(e, tolerance)]
    if not broken:
        return

    # NaN is worse than every number, which a comparison alone would not say
    worst = max(broken, key=lambda e: (e.error != e.error, e.error))

    # the cause: a narrower dtype within fn, its first layer at fault, or what the error shows
    rough = worst.verdict is Verdict.PRECISION or worst.double is None
    cause = narrower(fn, x) if rough else ""
    if not cause and isinstance(fn, nn.Module) and not worst.reason:
        cause = first_fault(fn, x, group, acts)
    raise AssertionError(
        f"not {symmetry} to {errors.group}: {_what_happened(worst, errors, tolerance)}. "
        f"Likely cause: {cause or cause_of(worst, errors.dtype)}."
    )


def _what_happened(worst: ElementError, errors: Errors, tolerance: float | None) -> str:
    # no number to name: the element has no counterpart, or values are not finite
    dtype = dtype_name(errors.dtype)
    if worst.reason:
        return f"nothing at the output corresponds to {worst.element} of the input"
    if worst.verdict is Verdict.OVERFLOW:
        return (
            f"under the {worst.element} the output is not finite in {dtype}, and finite in float64"
        )
    if worst.verdict is Verdict.NOT_FINITE:
        return f"under the {worst.element} the output is not finite"

    # float64 decides where it was measured; the working precision stands beside it
    in_both = worst.working and worst.double
    against = f" (in {dtype} {show(worst.working)})" if in_both else ""
    where = "float64" if worst.double else dtype
    text = f"{worst.element} gives a relative error of {worst.error:.2g} in {where}{against}"
    if worst.verdict is Verdict.PRECISION:
        return f"{text}, more than rounding makes of it"
    if tolerance is not None:
        return f"{text}, which exceeds the bound of {tolerance:.2g}"
    bound, why = errors.bound(worst), errors.why(worst)
    return f"{text}, which exceeds the bound of {bound:.2g} ({why})"
