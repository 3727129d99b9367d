"""A module before and after its replacement, in float64 on a copy of its numbers; the module itself
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..backends import use_backend
from .replacing import Change

NARROW = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)


class InFloat64(TorchFunctionMode):
    """Casts to a narrower dtype stay in float64, so that a module with casts inside can be compared
    to all digits.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CASTS:
            return args[0].double()
        args = tuple(_wide_dtype(a) for a in args)
        return func(*args, **{name: _wide_dtype(a) for name, a in (kwargs or {}).items()})


def _wide_dtype(argument: Any) -> Any:
    return torch.float64 if isinstance(argument, torch.dtype) and argument in NARROW else argument


class _Forward(nn.Module):
    """The forward method of a module, without the hooks of the module itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.forward(*args, **kwargs)


@contextmanager
def _in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Training or prediction, and afterwards each part in the mode it was in."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode


def wide(value: Any) -> Any:
    """Tensors of a nest of tuples, lists and mappings on the CPU and, if floating, in float64."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.double() if value.is_floating_point() else value.clone()
    if isinstance(value, Mapping):
        return {name: wide(part) for name, part in value.items()}
    return type(value)(map(wide, value)) if isinstance(value, tuple | list) else value


def own_numbers(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers by name, in float64."""
    return wide({**dict(module.named_parameters()), **dict(module.named_buffers())})


def random_numbers(module: nn.Module) -> dict[str, Tensor]:
    """Others in their place: a projection that starts as zero would hide what comes before it."""
    options: Any = {
        "generator": torch.Generator().manual_seed(0),
        "dtype": torch.float64,
        "device": "cpu",
    }
    numbers = {}
    for name, tensor in own_numbers(module).items():
        if not tensor.is_floating_point():
            numbers[name] = tensor
        elif tensor.dim() > 1:
            fan_in = max(1, tensor[0].numel())
            numbers[name] = torch.randn(tensor.shape, **options) / fan_in**0.5
        else:
            numbers[name] = 0.5 + torch.rand(tensor.shape, **options)
    return numbers


def run(
    module: nn.Module,
    numbers: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    training: bool,
) -> Any:
    """The module's result for arguments in float64 with `numbers` as its parameters and buffers,
    which may change.
    """
    default = torch.get_default_dtype()
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        use_backend("eager"),
        _in_mode(module, training),
    ):
        torch.default_generator.manual_seed(0)  # the CPU's alone: those of GPUs would keep the seed
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("cpu"), torch.autocast("cpu", enabled=False), InFloat64():
                inner = {f"inner.{name}": tensor.clone() for name, tensor in numbers.items()}
                return torch.func.functional_call(_Forward(module), inner, args, kwargs)
        finally:
            torch.set_default_dtype(default)


def difference(got: Any, expected: Any) -> float:
    """The largest deviation between two results, relative to the largest number of the expected
    one.
    """
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return float("inf")
        return max((difference(g, e) for g, e in zip(got, expected, strict=True)), default=0.0)
    if not isinstance(expected, Tensor):
        return 0.0 if got == expected else float("inf")
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    error = (got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(
        min=1e-300
    )
    return float("inf") if error.isnan() else float(error)


def deviation(
    change: Change,
    numbers: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    training: bool,
) -> float:
    """How far the replacement's result is from the original's; the module is original before and
    after it.
    """
    expected = run(change.module, numbers, args, kwargs, training=training)
    change.apply()
    try:
        got = run(change.module, numbers, args, kwargs, training=training)
    finally:
        change.revert()
    return difference(got, expected)
