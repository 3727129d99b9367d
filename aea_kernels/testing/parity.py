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
    `tolerance` bounds the error relative to the largest value, by default by 100 rounding errors of
    the inputs' dtype.
    """
    got = _run(fn, inputs, gradients)
    expected = _run(reference, [_as(i, torch.float64) for i in inputs], gradients)
    bound = ONLY_WORKING * torch.finfo(inputs[0].dtype).eps if tolerance is None else tolerance
    for name, a, b in zip(_names(inputs), got, expected, strict=False):
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
    """
    oracle = _run(plain, [_as(i, torch.float64) for i in inputs], True)
    ours, theirs = _run(fn, inputs, True), _run(plain, inputs, True)
    for i, (name, a, b, exact) in enumerate(
        zip(_names(inputs), ours, theirs, oracle, strict=False)
    ):
        assert torch.isfinite(a).all(), f"{name} is not finite"
        allowed = (factor if i == 0 else gradient_factor) * max(
            _rms_error(b, exact), torch.finfo(inputs[0].dtype).eps
        )
        error = _rms_error(a, exact)
        assert error <= allowed, (
            f"{name}: error {error:.3g} against float64 exceeds the budget of {allowed:.3g}"
        )


def _as(x: Any, dtype: torch.dtype) -> Any:
    return x.detach().to(dtype).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x


def _names(inputs: Sequence[Tensor]) -> list[str]:
    return [
        "the output",
        *(f"the gradient of input {i}" for i, x in enumerate(inputs) if x.requires_grad),
    ]


def _run(fn: Function, inputs: Sequence[Tensor], gradients: bool) -> list[Tensor]:
    """The output, and with `gradients` those of the inputs that require one."""
    output = fn(*inputs)
    wanted = [x for x in inputs if x.requires_grad]
    if not gradients or not wanted:
        return [output]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64, device="cpu").to(
        output
    )
    found = torch.autograd.grad((output * weights).sum(), wanted, allow_unused=True)
    return [
        output,
        *(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)),
    ]


def _rms_error(got: Tensor, expected: Tensor) -> float:
    return float(
        (got.detach().double() - expected.detach()).norm()
        / expected.detach().norm().clamp(min=1e-300)
    )
