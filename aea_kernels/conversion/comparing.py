"""A module before and after its replacement, in float64 on copies of its parameters and inputs; the
module itself stays as it is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves

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


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that each module has: its parameters, buffers, parts, hooks and mode."""


@contextmanager
def undone(module: nn.Module) -> Iterator[None]:
    """What the module and its parts store meanwhile is gone afterwards, so is the mode they were
    set to.

    Meanwhile they hold copies of what they store. What cannot be copied is shared; so are the
    registered tensors, in whose place `run` puts others.
    """
    # what is in `kept` counts as copied, so copies refer to the parts themselves
    parts = list(module.modules())
    before = [(part, part.__dict__) for part in parts]
    kept: dict[int, Any] = {id(part): part for part in parts}

    # parameters may be large, also those of modules that are no parts, as of the network around it
    for held in tree_leaves([module, *(attributes for _, attributes in before)]):
        if isinstance(held, nn.Module):
            kept.update((id(parameter), parameter) for parameter in held.parameters())

    # the attributes of a part are one dictionary: exchanged for a copy, then put back
    try:
        for part, attributes in before:
            object.__setattr__(part, "__dict__", _copied(attributes, kept))
        yield
    finally:
        for part, attributes in before:
            object.__setattr__(part, "__dict__", attributes)


def _copied(attributes: dict[str, Any], copies: dict[int, Any]) -> dict[str, Any]:
    """Copies of a module's attributes.

    Args:
        copies: of what is copied already, by the id of the original, as `copy.deepcopy` keeps it.
    """
    found = {}
    for name, value in attributes.items():
        # of registered tensors, parts and hooks the dictionary alone, not what it holds
        if name in _OF_EVERY_MODULE:
            found[name] = copy.copy(value)
            continue

        # whatever else it stores in depth; what two attributes hold is copied once for both
        finished = set(copies)
        try:
            found[name] = copy.deepcopy(value, copies)
        except Exception:  # of a type that nobody knows, or of a tensor with a history
            found[name] = value
            # no other may take what is half copied
            for unfinished in copies.keys() - finished:
                del copies[unfinished]
    return found


def wide(value: Any) -> Any:
    """A nest with copies of its tensors on the CPU, in float64 if they are floating."""

    def in_float64(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().to("cpu", copy=True)
        return tensor.double() if tensor.is_floating_point() else tensor

    return map_tensors(in_float64, value)


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
        module: on any device; it stays as it is.
        parameters: take the place of its parameters and buffers, and stay as they are.
        args, kwargs: of its forward, `wide`.
        training: the mode it runs in.
    """
    # changes in place, as of running statistics, are made to copies
    copies = {f"inner.{name}": tensor.clone() for name, tensor in parameters.items()}

    # the caller's settings have no part in it: device, backend, autocast, dtype, seed
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        use_backend("eager"),
        undone(module),
        torch.device("cpu"),
        torch.autocast("cpu", enabled=False),
        everything_in_float64(),
    ):
        module.train(training)
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
    change: Change,
    parameters: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    modes: Sequence[bool] = (False, True),
    of_original: AbstractContextManager[Any] | None = None,
) -> float:
    """How far the replacement's result is from the original's, in the worst of the modes; the
    module is the original before and after it.

    Args:
        change, parameters, args, kwargs: see `run`.
        modes: prediction, training or both.
        of_original: what the original runs in.
    """
    deviations = []
    for training in modes:
        with of_original or nullcontext():
            expected = run(change.module, parameters, args, kwargs, training=training)
        change.apply()
        try:
            got = run(change.module, parameters, args, kwargs, training=training)
        finally:
            change.revert()
        deviations.append(difference(got, expected))
    return max(deviations)


class SoftmaxDivides(TorchFunctionMode):
    """Within it, every softmax divides by the number of what it goes over: what a block computes
    but for its softmax.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.softmax, Tensor.softmax, nn.functional.softmax):
            return func(*args, **kwargs)

        def divided(input: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
            return input / input.shape[dim]

        return divided(*args, **kwargs)
