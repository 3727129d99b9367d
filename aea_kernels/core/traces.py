"""What a call does, written down so that it can be done again for other numbers.

What a call of the kernels does follows from the shapes, strides and dtypes of its tensors: which
memory it takes, which kernels it launches on how many programs, and every argument but the
pointers. A `Trace` has all of it, step by step; `tracer.Recorder` writes one while a call runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Tensors = Sequence[Tensor | None]

Values = list[Any]
"""What the steps of a trace read and write, by number: first the tensors of the call, then tensors
and tuples of tensors that steps make.
"""

Step = Callable[[Values], None]


class Arguments(NamedTuple):
    """Of a step: what is the same in every call, and what is one of the values."""

    same: list[Any]
    """None at the places of the others."""
    places: list[tuple[int, int]]
    """Of the others, with their numbers."""

    def taken(self, values: Values) -> list[Any]:
        arguments = self.same.copy()
        for place, number in self.places:
            arguments[place] = values[number]
        return arguments


class Trace(NamedTuple):
    """What a call does for tensors of known shapes."""

    steps: list[Step]
    made: int
    """How many values the steps make."""
    results: Arguments
    """What is returned."""
    device: torch.device

    def __call__(self, tensors: Tensors) -> Tensors:
        if self.device.type == "cuda" and self.device.index != torch.cuda.current_device():
            with torch.cuda.device(self.device):
                return self._replay(tensors)
        return self._replay(tensors)

    def _replay(self, tensors: Tensors) -> Tensors:
        values = [*tensors, *[None] * self.made]
        for step in self.steps:
            step(values)
        return self.results.taken(values)


# ---- its steps -----------------------------------------------------------------------------------


def allocate_step(number: int, like: Tensor) -> Step:
    shape, strides, dtype, device = like.shape, like.stride(), like.dtype, like.device

    def step(values: Values) -> None:
        values[number] = torch.empty_strided(shape, strides, dtype=dtype, device=device)

    return step


def pack_step(number: int, kind: type, parts: Arguments) -> Step:
    """A tuple, such as a tensor with its strides."""

    def step(values: Values) -> None:
        # faster than the constructor of a NamedTuple
        values[number] = tuple.__new__(kind, parts.taken(values))

    return step


def launch_step(run: Callable[..., Any], arguments: Arguments) -> Step:
    def step(values: Values) -> None:
        run(*arguments.taken(values))

    return step


def operate_step(number: int, function: Any, arguments: Arguments, options: dict[str, Any]) -> Step:
    """An operation of PyTorch."""

    def step(values: Values) -> None:
        values[number] = function(*arguments.taken(values), **options)

    return step


def unpack_step(numbers: list[int], results: int) -> Step:
    """The results of an operation that has several."""

    def step(values: Values) -> None:
        for number, result in zip(numbers, values[results], strict=True):
            values[number] = result

    return step


def drop_step(numbers: list[int]) -> Step:
    """Give memory back that no later step needs."""

    def step(values: Values) -> None:
        for number in numbers:
            values[number] = None

    return step
