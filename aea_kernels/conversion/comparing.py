"""A module before and after its replacement, in float64 on copies of its parameters and inputs; the
module itself stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..backends import use_backend
from ..core.float64 import everything_in_float64, map_tensors
from .replacing import Change


class _Forward(nn.Module):
    """The forward method of a module, without the hooks of the module itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.forward(*args, **kwargs)


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Training or prediction, and afterwards each part in the mode it was in."""
    before = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode


def wide(value: Any) -> Any:
    """A nest with copies of its tensors on the CPU, in float64 if they are floating."""

    def copy(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().to("cpu", copy=True)
        return tensor.double() if tensor.is_floating_point() else tensor

    return map_tensors(copy, value)


def parameters_and_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Those of the module by name, `wide`."""
    return wide({**dict(module.named_parameters()), **dict(module.named_buffers())})


def random_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Random values in place of `parameters_and_buffers`.

    The module's own would not do: a projection that starts as zero hides what comes before it.
    """
    generator = torch.Generator().manual_seed(0)
    options: Any = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    drawn = parameters_and_buffers(module)
    for name, tensor in drawn.items():
        if tensor.is_floating_point() and tensor.dim() > 1:
            fan_in = max(1, tensor[0].numel())
            drawn[name] = torch.randn(tensor.shape, **options) / fan_in**0.5
        elif tensor.is_floating_point():
            drawn[name] = 0.5 + torch.rand(tensor.shape, **options)
    return drawn


def run(
    module: nn.Module,
    parameters: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    training: bool,
) -> Any:
    """The module's result in float64.

    Args:
        module: as it is, on any device.
        parameters: take the place of its parameters and buffers, and stay as they are.
        args, kwargs: of its forward, `wide`.
        training: the mode it runs in.
    """
    copies = {f"inner.{name}": tensor.clone() for name, tensor in parameters.items()}
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        use_backend("eager"),
        in_mode(module, training),
        torch.device("cpu"),
        torch.autocast("cpu", enabled=False),
        everything_in_float64(),
    ):
        torch.default_generator.manual_seed(0)  # the CPU's alone: those of GPUs would keep the seed
        return torch.func.functional_call(_Forward(module), copies, args, kwargs)


def difference(got: Any, expected: Any) -> float:
    """The largest deviation between two results, nests of tensors, relative to the largest number
    of the expected tensor; infinite where they differ in form.
    """
    got_leaves, got_form = tree_flatten(got)
    expected_leaves, expected_form = tree_flatten(expected)
    if got_form != expected_form:
        return math.inf
    return max(map(_difference_of_leaves, got_leaves, expected_leaves), default=0.0)


def _difference_of_leaves(got: Any, expected: Any) -> float:
    if not isinstance(expected, Tensor):
        return 0.0 if got == expected else math.inf
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    got, expected = got.double(), expected.double()
    error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-300))
    return math.inf if math.isnan(error) else error


def deviation(
    change: Change, parameters: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> float:
    """How far the replacement's result is from the original's in training and in prediction, the
    larger of the two; the module is the original before and after it.
    """
    deviations = []
    for training in (False, True):
        expected = run(change.module, parameters, args, kwargs, training=training)
        change.apply()
        try:
            got = run(change.module, parameters, args, kwargs, training=training)
        finally:
            change.revert()
        deviations.append(difference(got, expected))
    return max(deviations)
