"""What a call does, written down so that it can be done again for other numbers.

What a call of the kernels does follows from the shapes, strides and dtypes of its tensors: which
memory it takes, which kernels it launches on how many programs, and every argument but the
pointers. A `Trace` has all of it, step by step; a `Recorder` writes one while a call runs.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from . import run

Tensors = Sequence[Tensor | None]

# ---- a trace -------------------------------------------------------------------------------------

Values = list[Any]
"""All that the steps of a trace read and write, by number: first the tensors of the call."""

Step = Callable[[Values], None]


class Trace(NamedTuple):
    """What a call does for tensors of known shapes."""

    values: Values
    """Constants at their places."""
    steps: list[Step]
    results: list[int]
    """The numbers of what is returned."""
    device: torch.device

    def __call__(self, tensors: Tensors) -> Tensors:
        if self.device.type == "cuda" and self.device.index != torch.cuda.current_device():
            with torch.cuda.device(self.device):
                return self._replay(tensors)
        return self._replay(tensors)

    def _replay(self, tensors: Tensors) -> Tensors:
        values = self.values.copy()
        values[: len(tensors)] = tensors
        for step in self.steps:
            step(values)
        return [values[number] for number in self.results]


def _get(numbers: list[int]) -> Callable[[Values], tuple[Any, ...]]:
    """What takes these values out of all, as a tuple."""
    if len(numbers) > 1:
        return itemgetter(*numbers)
    return lambda values: tuple(values[number] for number in numbers)


def _allocate(number: int, like: Tensor) -> Step:
    shape, strides, dtype, device = like.shape, like.stride(), like.dtype, like.device

    def step(values: Values) -> None:
        values[number] = torch.empty_strided(shape, strides, dtype=dtype, device=device)

    return step


def _pack(number: int, kind: type, parts: list[int]) -> Step:
    """A tuple, such as a tensor with its strides."""
    get, new = _get(parts), tuple.__new__

    def step(values: Values) -> None:
        values[number] = new(kind, get(values))  # faster than the constructor of a NamedTuple

    return step


def _launch(run: Callable[..., Any], arguments: list[int]) -> Step:
    get = _get(arguments)

    def step(values: Values) -> None:
        run(*get(values))

    return step


def _operate(number: int, function: Any, arguments: list[int], options: dict[str, Any]) -> Step:
    """An operation of PyTorch."""
    get = _get(arguments)

    def step(values: Values) -> None:
        values[number] = function(*get(values), **options)

    return step


def _unpack(numbers: list[int], results: int) -> Step:
    """The results of an operation that has several."""

    def step(values: Values) -> None:
        for number, result in zip(numbers, values[results], strict=True):
            values[number] = result

    return step


def _drop(numbers: list[int]) -> Step:
    """Give memory back that no later step needs."""

    def step(values: Values) -> None:
        for number in numbers:
            values[number] = None

    return step


# ---- how it is written ---------------------------------------------------------------------------

ALLOCATIONS = (
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
)


class _Threads(threading.local):
    recorder: Recorder | None = None


_threads = _Threads()


def recorder() -> Recorder | None:
    """Who writes a trace of what this thread does now."""
    return _threads.recorder


class Untraceable(Exception):
    """What a call did cannot be done again from its tensors alone."""


class Recorder(TorchDispatchMode):
    """Writes the steps of a trace while the operations that it stands for run."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.values: Values = list(tensors)
        """They are kept until the end, so that an `id` means one of them."""
        self.numbers = {id(t): number for number, t in enumerate(tensors) if t is not None}
        self.steps: list[tuple[Step, list[int], list[int]]] = []
        """Each with the numbers that it reads and writes."""
        self.given = len(tensors)
        self.possible = True
        self._paused = False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.namespace == "aea":
            with self:  # what the primitive does is written down, and not that it was called
                return run(function._opname, args[:-1], args[-1])
        result = function(*args, **kwargs or {})
        if self._paused:
            return result
        try:
            self._add_operation(function, args, kwargs or {}, result)
        except Untraceable:
            self.possible = False
        return result

    def _add_operation(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        parts = list(result) if isinstance(result, list | tuple) else []
        known = all(isinstance(t, Tensor) for t in parts or [result])
        if function.namespace != "aten" or not known or _holds_tensor(list(kwargs.values())):
            raise Untraceable
        if function in ALLOCATIONS:
            number = self._new(result)
            self.steps.append((_allocate(number, result), [], [number]))
            return
        arguments = [self._number(given) for given in args]
        number = self._new(result)
        self.steps.append((_operate(number, function, arguments, kwargs), arguments, [number]))
        if parts:
            numbers = [self._new(part) for part in parts]
            self.steps.append((_unpack(numbers, number), [number], numbers))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is written: a launch on a CPU is made of operations."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def add_launch(
        self, run: Callable[..., Any], kernel: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        """A kernel that `run` launches with the arguments of `kernel`, in its order."""
        try:
            numbers = [self._number(arguments[name]) for name in _parameters(kernel)]
        except Untraceable:
            self.possible = False
            return
        self.steps.append((_launch(run, numbers), numbers, []))

    def _new(self, value: Any) -> int:
        self.values.append(value)
        self.numbers[id(value)] = len(self.values) - 1
        return len(self.values) - 1

    def _number(self, value: Any) -> int:
        """Of a value among all; a tuple of tensors is packed by a step of its own."""
        if id(value) in self.numbers:
            return self.numbers[id(value)]
        if isinstance(value, Tensor):  # it came from elsewhere
            raise Untraceable
        if isinstance(value, list | tuple) and any(_holds_tensor(part) for part in value):
            parts = [self._number(part) for part in value]
            number = self._new(value)
            kind = type(value) if isinstance(value, tuple) else tuple
            self.steps.append((_pack(number, kind, parts), parts, [number]))
            return number
        return self._new(value)

    def record(self, function: Callable[..., Tensors], *constants: Any) -> Tensors:
        """function(tensors, *constants), written down."""
        _threads.recorder = self
        try:
            with self:
                return function(self.values[: self.given], *constants)
        finally:
            _threads.recorder = None

    def trace(self, results: Tensors, device: torch.device) -> Trace:
        """Of all until now, with the numbers of what a call returns.

        Raises:
            Untraceable: an operation cannot be made again, or a result came from elsewhere.
        """
        if not self.possible:
            raise Untraceable
        returned = [self._number(t) for t in results]
        made = {number for _, _, written in self.steps for number in written}
        values = [None if n in made or n < self.given else v for n, v in enumerate(self.values)]

        # from the end: what was read before for the last time
        steps: list[Step] = []
        kept = set(returned)
        for step, read, written in reversed(self.steps):
            last = [number for number in {*read, *written} - kept if number in made]
            if last:
                steps.append(_drop(last))
            kept.update(last)
            steps.append(step)
        return Trace(values, steps[::-1], returned, device)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_tensor(part) for part in value)
    return isinstance(value, Tensor)


@lru_cache
def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)
