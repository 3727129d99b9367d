"""Assertions for your own CI: equivariance, invariance, parity with a reference, error budget.

    from aea_kernels import testing
    testing.assert_permutation_equivariant(my_block.eval(), torch.randn(2, 32, 16, 16))

They raise AssertionError with the measured error and the bound it broke.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


def assert_permutation_equivariant(
    fn: Function, x: Tensor, *, positions: Sequence[int] | None = None, trials: int = 3, seed: int = 0,
    tolerance: float | None = None,
) -> None:  # fmt: skip
    """``fn(P x) == P fn(x)`` for random permutations P of the positions (Definition 2, Theorems 1 and 2).

    Args:
        fn: maps x to a tensor whose `positions` axes match those of x.
        x: a feature map (N, C, *spatial), or anything else with `positions` named.
        positions: the axes that P permutes together as one, negative where x and fn(x) differ in their number of axes;
            all from the third on by default.
        tolerance: largest error relative to the largest output; 100 rounding errors of x's dtype by default.
    """
    axes = tuple(range(2, x.dim())) if positions is None else tuple(positions)
    expected = fn(x)
    for permutation in _permutations(x, axes, trials, seed):
        _close(
            fn(_permute(x, axes, permutation)),
            _permute(expected, axes, permutation),
            _tolerance(x, tolerance),
            "not equivariant to permutations of the positions",
        )


def assert_permutation_invariant(
    fn: Function, x: Tensor, *, positions: Sequence[int] | None = None, trials: int = 3, seed: int = 0,
    tolerance: float | None = None,
) -> None:  # fmt: skip
    """``fn(P x) == fn(x)`` for random permutations P of the positions; arguments as above."""
    axes = tuple(range(2, x.dim())) if positions is None else tuple(positions)
    expected = fn(x)
    for permutation in _permutations(x, axes, trials, seed):
        _close(
            fn(_permute(x, axes, permutation)),
            expected,
            _tolerance(x, tolerance),
            "not invariant to permutations of the positions",
        )


def assert_parity(
    fn: Function, reference: Function, *inputs: Tensor, gradients: bool = True, tolerance: float | None = None
) -> None:
    """`fn` and `reference` agree on `inputs`, and so do the gradients of every input that requires one.

    The reference runs in float64; the output is weighted at random before it is summed and differentiated.
    """
    got = _run(fn, inputs, gradients)
    expected = _run(reference, [_as(i, torch.float64) for i in inputs], gradients)
    for name, a, b in zip(_names(inputs), got, expected, strict=False):
        _close(a, b, _tolerance(inputs[0], tolerance), f"{name} differs from the reference")


def assert_within_error_budget(
    fn: Function, plain: Function, *inputs: Tensor, factor: float = 2.0, gradient_factor: float = 3.0
) -> None:
    """`fn` is at most `factor` times as far from float64 as `plain` is in the inputs' dtype; gradients likewise.

    Errors are root mean squares relative to that of the exact result; one rounding error of the dtype is always within
    budget. Everything must be finite.
    """
    oracle = _run(plain, [_as(i, torch.float64) for i in inputs], True)
    ours, theirs = _run(fn, inputs, True), _run(plain, inputs, True)
    for i, (name, a, b, exact) in enumerate(zip(_names(inputs), ours, theirs, oracle, strict=False)):
        assert torch.isfinite(a).all(), f"{name} is not finite"
        allowed = (factor if i == 0 else gradient_factor) * max(_rms_error(b, exact), torch.finfo(inputs[0].dtype).eps)
        error = _rms_error(a, exact)
        assert error <= allowed, f"{name}: error {error:.3g} against float64 exceeds the budget of {allowed:.3g}"


def _permutations(x: Tensor, axes: tuple[int, ...], trials: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    number = 1
    for axis in axes:
        number *= x.shape[axis]
    return [torch.randperm(number, generator=generator, device="cpu").to(x.device) for _ in range(trials)]


def _permute(x: Tensor, axes: tuple[int, ...], permutation: Tensor) -> Tensor:
    moved = x.movedim(axes, list(range(len(axes))))
    return moved.flatten(0, len(axes) - 1)[permutation].reshape(moved.shape).movedim(list(range(len(axes))), axes)


def _tolerance(x: Tensor, tolerance: float | None) -> float:
    return 100 * torch.finfo(x.dtype).eps if tolerance is None else tolerance


def _as(x: Any, dtype: torch.dtype) -> Any:
    return x.detach().to(dtype).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x


def _names(inputs: Sequence[Tensor]) -> list[str]:
    return ["the output", *(f"the gradient of input {i}" for i, x in enumerate(inputs) if x.requires_grad)]


def _run(fn: Function, inputs: Sequence[Tensor], gradients: bool) -> list[Tensor]:
    """The output, and with `gradients` those of the inputs that require one."""
    output = fn(*inputs)
    wanted = [x for x in inputs if x.requires_grad]
    if not gradients or not wanted:
        return [output]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64, device="cpu").to(output)
    found = torch.autograd.grad((output * weights).sum(), wanted, allow_unused=True)
    return [output, *(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True))]


def _error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape, f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.numel() == 0:
        return 0.0
    largest = float(expected.detach().double().abs().max())
    return float((got.detach().double() - expected.detach().double()).abs().max()) / (largest or 1.0)


def _rms_error(got: Tensor, expected: Tensor) -> float:
    return float((got.detach().double() - expected.detach()).norm() / expected.detach().norm().clamp(min=1e-300))


def _close(got: Tensor, expected: Tensor, tolerance: float, complaint: str) -> None:
    error = _error(got, expected)
    assert error <= tolerance, f"{complaint}: relative error {error:.3g} exceeds {tolerance:.3g}"
