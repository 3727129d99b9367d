"""Two implementations of one function: do they agree, and is the faster one as exact as the plain
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import ONLY_WORKING, difference

Function = Callable[..., Tensor]
OUTPUT = "the output"


def assert_parity(
    fn: Function,
    reference: Function,
    *inputs: Tensor,
    gradients: bool = True,
    tolerance: float | None = None,
) -> None:
    """`fn` and `reference` agree on `inputs`, and so do the gradients of every input that requires
    one.

    The reference runs in float64; the output is weighted at random before it is summed and
    differentiated.

    Args:
        fn, reference: take the inputs and return one tensor.
        inputs: tensors of one dtype.
        gradients: compare those of the inputs that require one, too.
        tolerance: bounds the error relative to the largest value; by default 100 rounding errors of
            the inputs' dtype.

    Raises:
        AssertionError: they differ; the message names the tensor, the error and the bound.
    """
    got = _run(fn, inputs, gradients)
    expected = _run(reference, _in_float64(inputs), gradients)
    bound = ONLY_WORKING * torch.finfo(inputs[0].dtype).eps if tolerance is None else tolerance
    for name, a in got.items():
        b = expected[name]
        assert a.shape == b.shape, f"{name} has shape {tuple(a.shape)}, expected {tuple(b.shape)}"
        error = difference(a, b).relative
        assert error <= bound, (
            f"{name} differs from the reference: relative error {error:.3g} exceeds {bound:.3g}"
        )


def assert_within_error_budget(
    fn: Function,
    plain: Function,
    *inputs: Tensor,
    factor: float = 2.0,
    gradient_factor: float = 3.0,
) -> None:
    """`fn` is at most `factor` times as far from float64 as `plain` is in the inputs' dtype;
    gradients likewise.

    Errors are root mean squares relative to that of the exact result; one rounding error of the
    dtype is always within budget. Everything must be finite.

    Args:
        fn, plain: take the inputs and return one tensor; `plain` in float64 is the oracle.
        inputs: tensors of one dtype.
        factor: of the output's error.
        gradient_factor: of the gradients' errors.

    Raises:
        AssertionError: the budget is exceeded; the message names the tensor, the error and the
            budget.
    """
    exact = _run(plain, _in_float64(inputs), True)
    ours, theirs = _run(fn, inputs, True), _run(plain, inputs, True)
    eps = torch.finfo(inputs[0].dtype).eps
    for name, result in ours.items():
        assert torch.isfinite(result).all(), f"{name} is not finite"
        times = factor if name == OUTPUT else gradient_factor
        allowed = times * max(_rms_error(theirs[name], exact[name]), eps)
        error = _rms_error(result, exact[name])
        assert error <= allowed, (
            f"{name}: error {error:.3g} against float64 exceeds the budget of {allowed:.3g}"
        )


def _in_float64(inputs: Sequence[Any]) -> list[Any]:
    return [
        x.detach().double().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        for x in inputs
    ]


def _run(fn: Function, inputs: Sequence[Tensor], gradients: bool) -> dict[str, Tensor]:
    """The output, and with `gradients` those of the inputs that require one, by their names in
    messages.
    """
    output = fn(*inputs)
    found = {OUTPUT: output}
    wanted = {f"the gradient of input {i}": x for i, x in enumerate(inputs) if x.requires_grad}
    if gradients and wanted:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64, device="cpu")
        total = (output * drawn.to(output)).sum()
        grads = torch.autograd.grad(total, [*wanted.values()], materialize_grads=True)
        found |= dict(zip(wanted, grads, strict=True))
    return found


def _rms_error(got: Tensor, expected: Tensor) -> float:
    off = got.detach().double() - expected.detach()
    return float(off.norm() / expected.detach().norm().clamp(min=1e-300))
