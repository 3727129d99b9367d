"""Two implementations of one function: do they agree, and is the faster one as exact as the plain
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.float64 import leaves, map_tensors, named_tensors, tensors_in, to_float64
from .checks import require_tolerance
from .errors import ONLY_WORKING, UnmeasurableError, difference
from .precision import copied, one_line

Function = Callable[..., Any]
GRADIENT = "the gradient of input"


def assert_parity(
    fn: Function,
    reference: Function,
    *inputs: Any,
    gradients: bool = True,
    tolerance: float | None = None,
) -> None:
    """`fn` and `reference` agree on `inputs`, and so do the gradients of the inputs.

    The reference runs in float64, as a converted copy where it is a module; outputs are weighted at
    random before they are summed and differentiated. Both work on copies of the inputs.

    Args:
        fn, reference: take the inputs and return a tensor, or a tuple, list, dictionary or
            dataclass of tensors, of which each is compared by itself.
        inputs: floating-point tensors of one dtype, and whatever else the functions take.
        gradients: compare those of the inputs that require one, or where none does, of all
            floating-point inputs.
        tolerance: bounds the error relative to the largest value; by default 100 rounding errors of
            the inputs' dtype.

    Raises:
        AssertionError: they differ; the message names the tensor, the error and the bound. Or one
            of them alone has gradients.
        UnmeasurableError: the reference does not take float64, or one of them returns no tensor.
        ValueError: the tolerance is no number of at least 0.
    """
    # fn in the dtype of the inputs against the reference in float64, on the same numbers
    require_tolerance(tolerance)
    given = _differentiated(inputs) if gradients else list(inputs)
    got = _run(fn, given, gradients)
    expected = _in_float64(reference, given, gradients)
    _require_comparable(got, expected, inputs, gradients)

    # each output and each gradient by itself, relative to its own largest value
    bound = ONLY_WORKING * _eps(inputs, got) if tolerance is None else tolerance
    for name, a in got.items():
        error = difference(to_float64(a), expected[name]).relative
        assert error <= bound, (
            f"{name} differs from the reference: relative error {error:.3g} exceeds {bound:.3g}"
        )


def assert_within_error_budget(
    fn: Function,
    plain: Function,
    *inputs: Any,
    factor: float = 2.0,
    gradient_factor: float = 3.0,
    gradients: bool = True,
) -> None:
    """`fn` is at most `factor` times as far from float64 as `plain` is in the inputs' dtype;
    gradients likewise.

    Errors are root mean squares relative to that of the exact result; one rounding error of the
    dtype is always within budget. Everything must be finite.

    Args:
        fn, plain, inputs, gradients: see `assert_parity`; `plain` in float64 is the oracle.
        factor: of the output's error.
        gradient_factor: of the gradients' errors.

    Raises:
        AssertionError: the budget is exceeded; the message names the tensor, the error and the
            budget.
        UnmeasurableError: as `assert_parity`.
    """
    # both implementations against the plain one in float64
    given = _differentiated(inputs) if gradients else list(inputs)
    exact = _in_float64(plain, given, gradients)
    ours, theirs = _run(fn, given, gradients), _run(plain, given, gradients)
    _require_comparable(ours, exact, inputs, gradients)

    # where the plain one happens to be exact, a rounding error is still allowed
    eps = _eps(inputs, ours)
    for name, result in ours.items():
        assert torch.isfinite(result).all(), f"{name} is not finite"
        times = gradient_factor if name.startswith(GRADIENT) else factor
        allowed = times * max(_rms_error(theirs[name], exact[name]), eps)
        error = _rms_error(result, exact[name])
        assert error <= allowed, (
            f"{name}: error {error:.3g} against float64 exceeds the budget of {allowed:.3g}"
        )


def _differentiated(inputs: Sequence[Any]) -> list[Any]:
    """The inputs, of which all of floating point require a gradient where none did."""
    differentiable = tensors_in(inputs)
    if any(x.requires_grad for x in differentiable):
        return list(inputs)
    chosen = set(map(id, differentiable))

    def differentiated(x: Tensor) -> Tensor:
        return x.detach().requires_grad_() if id(x) in chosen else x

    return [*map_tensors(differentiated, inputs)]


def _in_float64(fn: Function, inputs: Sequence[Any], gradients: bool) -> dict[str, Tensor]:
    """As `_run`, of a function in float64; modules are converted.

    Raises:
        UnmeasurableError: it does not take float64, or returns no tensor.
    """
    narrow = set(map(id, tensors_in(inputs)))

    def widened(x: Tensor) -> Tensor:
        if id(x) not in narrow:
            return x  # a mask, or indices
        return to_float64(x.detach()).requires_grad_(x.requires_grad)

    try:
        return _run(copied(fn, torch.float64), map_tensors(widened, inputs), gradients)
    except (RuntimeError, TypeError) as error:
        raise UnmeasurableError(
            f"the reference fails in float64, which it has to take: {one_line(error)}"
        ) from error


def _run(fn: Function, inputs: Sequence[Any], gradients: bool) -> dict[str, Tensor]:
    """The outputs, and with `gradients` those of the inputs that require one, by their names in
    messages; no gradients where no output depends on the inputs by autograd.
    """
    # on copies, in which fn may work in place; gradients go through them to the inputs
    output = fn(*map_tensors(_copy, inputs))
    tensors = {place: t for place, t in leaves(output).items() if isinstance(t, Tensor)}
    if not tensors:
        raise UnmeasurableError(
            f"a function returns {type(output).__name__}, expected a tensor, or a tuple, "
            "dictionary or dataclass of them"
        )
    found = {f"the output {place!r}" if place else "the output": t for place, t in tensors.items()}

    # weighted at random: errors of a plain sum could cancel, as those of a softmax do
    wanted = {
        f"{GRADIENT} {place}": x for place, x in named_tensors(inputs).items() if x.requires_grad
    }
    sources = [t for t in tensors.values() if t.requires_grad]
    if gradients and wanted and sources:
        generator = torch.Generator().manual_seed(0)
        totals = [_weighted_sum(t, generator) for t in sources]
        grads = torch.autograd.grad(totals, [*wanted.values()], materialize_grads=True)
        found |= dict(zip(wanted, grads, strict=True))
    return found


def _weighted_sum(t: Tensor, generator: torch.Generator) -> Tensor:
    values = torch.view_as_real(t) if t.is_complex() else t
    drawn = torch.randn(values.shape, generator=generator, dtype=torch.float64, device="cpu")
    return (values * drawn.to(values)).sum()


def _copy(x: Tensor) -> Tensor:
    """A copy with the strides of x, in which a function may work in place."""
    if x.layout is not torch.strided:
        return x.clone()
    if any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True)):
        return x  # expanded: PyTorch refuses to change it in place
    return x.new_empty_strided(x.shape, x.stride()).copy_(x)


def _require_comparable(
    got: dict[str, Tensor], expected: dict[str, Tensor], inputs: Sequence[Any], gradients: bool
) -> None:
    """Raise AssertionError where one has outputs or gradients that the other has not, or of another
    shape, UnmeasurableError where an input asks for gradients and there are none.
    """
    # a detached result has no gradient, which no comparison of numbers would show
    if got.keys() != expected.keys():
        name = next(name for name in [*got, *expected] if name not in got or name not in expected)
        has, lacks = ("fn", "the reference") if name in got else ("the reference", "fn")
        if name.startswith(GRADIENT):
            raise AssertionError(
                f"{has} has gradients and {lacks} has none, because its result is detached: "
                "gradients=False compares outputs alone"
            )
        raise AssertionError(f"{has} returns {name}, and {lacks} does not")

    # shapes that differ may broadcast, and then numbers agree that do not belong together
    for name, a in got.items():
        b = expected[name]
        assert a.shape == b.shape, f"{name} has shape {tuple(a.shape)}, expected {tuple(b.shape)}"

    # a comparison that was asked for and cannot be made must not pass
    asked = gradients and any(x.requires_grad for x in tensors_in(inputs))
    if asked and not any(name.startswith(GRADIENT) for name in got):
        raise UnmeasurableError(
            "an input requires a gradient and no result has one: gradients=False compares outputs "
            "alone"
        )


def _eps(inputs: Sequence[Any], outputs: dict[str, Tensor]) -> float:
    """The rounding error of the dtype of the inputs, or where none is floating point, of the
    outputs; 0 where nothing is.
    """
    tensors = tensors_in([*inputs, *outputs.values()])
    return torch.finfo(tensors[0].dtype).eps if tensors else 0.0


def _rms_error(got: Tensor, expected: Tensor) -> float:
    expected = to_float64(expected.detach())
    off = to_float64(got.detach()) - expected
    return float(off.norm() / expected.norm().clamp(min=1e-300))
