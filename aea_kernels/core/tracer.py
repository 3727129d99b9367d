"""How a trace is written: a recorder notes what a call does while it runs."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .traces import (
    Arguments,
    Step,
    Tensors,
    Trace,
    Values,
    allocate_step,
    drop_step,
    launch_step,
    operate_step,
    pack_step,
    unpack_step,
)

ALLOCATIONS = frozenset(
    {
        torch.ops.aten.empty.memory_format,
        torch.ops.aten.empty_like.default,
        torch.ops.aten.empty_strided.default,
        torch.ops.aten.new_empty.default,
        torch.ops.aten.new_empty_strided.default,
    }
)
DETACH = torch.ops.aten.detach.default
"""`torch.empty_like` does it to what it allocated, where it is watched."""


class _Threads(threading.local):
    recorder: Recorder | None = None


_threads = _Threads()


def recorder() -> Recorder | None:
    """Who writes a trace of what this thread does now."""
    return _threads.recorder


def allocated(result: Tensor) -> Tensor:
    """A new tensor, which launches fill and nothing else; who writes a trace is told of it."""
    recorder = _threads.recorder
    if recorder is not None:
        recorder.allocate(result)
    return result


def noted(operation: Callable[..., Any], *given: Any) -> Any:
    """operation(*given), one tensor or a tuple of them; who writes a trace is told of it."""
    result = operation(*given)
    if torch.compiler.is_compiling():
        return result
    recorder = _threads.recorder
    if recorder is not None:
        recorder.operate(operation, given, result)
    return result


class Untraceable(Exception):
    """What a call did cannot be done again from its tensors alone."""


class Recorder:
    """Writes the steps of a trace while a call runs, which waits for it: it does little.

    Launches are written down, and what `allocated` and `noted` tell. Of other operations it does
    not know, so a tensor that came from one of them makes the call untraceable, unless it is
    watched, which takes longer.
    """

    def __init__(self, tensors: Tensors, *, possible: bool = True) -> None:
        self.values: Values = list(tensors)
        """They are kept until the end, so that an `id` means one of them."""
        self.aliases: list[Tensor] = []
        """Kept as well; they stand for values."""
        self.numbers = {id(t): number for number, t in enumerate(tensors) if t is not None}
        self.steps: list[Step] = []
        self.last: dict[int, int] = {}
        """By the number of a value: the last step that reads or makes it."""
        self.given = len(tensors)
        self.possible = possible
        """Else nothing more is written down."""
        self.watch: Watch | None = None

    def record(
        self, function: Callable[..., Tensors], *constants: Any, watched: bool = False
    ) -> Tensors:
        """function(tensors, *constants), written down; `watched`: with all operations of PyTorch
        that it makes.
        """
        self.watch = Watch(self) if watched else None
        _threads.recorder = self
        try:
            with self.watch or nullcontext():
                return function(self.values[: self.given], *constants)
        finally:
            _threads.recorder = None

    def allocate(self, result: Tensor) -> None:
        if self.watch is None and self.possible:
            self.add_allocation(result)

    def operate(self, operation: Callable[..., Any], given: Sequence[Any], result: Any) -> None:
        if self.watch is None and self.possible:
            self.add_operation(operation, given, {}, result)

    def launch(self, kernel: Any, programs: int, run: Callable[..., Any], named: Any) -> None:
        """Launch a kernel with the arguments `named` on so many programs, by `run`."""
        if self.watch is None:
            compiled = run(**named)
        else:
            with self.watch.closed():  # a launch on a CPU is made of operations
                compiled = run(**named)
        if not self.possible:
            return

        # a compiled kernel is launched again without Triton's search for it
        again = run if compiled is None else compiled[(programs, 1, 1)]
        arguments = self._arguments([named[name] for name in _parameters(kernel.fn)])
        self._add(launch_step(again, arguments), arguments.places)

    def add_allocation(self, result: Tensor) -> None:
        number = self._new(result)
        self._add(allocate_step(number, result))

    def add_alias(self, result: Tensor, of: Tensor) -> bool:
        """Take a result for the tensor that the call made before, if it did."""
        number = self.numbers.get(id(of), 0)
        if number < self.given:
            return False
        self.aliases.append(result)
        self.numbers[id(result)] = number
        return True

    def add_operation(
        self, operation: Callable[..., Any], given: Any, options: Any, result: Any
    ) -> None:
        arguments = self._arguments(given)
        number = self._new(result)
        self._add(operate_step(number, operation, arguments, options), arguments.places)
        if isinstance(result, list | tuple):
            numbers = [self._new(part) for part in result]
            self._add(unpack_step(numbers, number), [(0, number)])

    def _new(self, value: Any) -> int:
        """The number of a value that the next step makes."""
        number = len(self.values)
        self.values.append(value)
        self.numbers[id(value)] = number
        self.last[number] = len(self.steps)
        return number

    def _add(self, step: Step, read: Sequence[tuple[int, int]] = ()) -> None:
        for _, number in read:
            self.last[number] = len(self.steps)
        self.steps.append(step)

    def _arguments(self, given: Sequence[Any]) -> Arguments:
        same, places = list(given), []
        for place in [place for place, kind in enumerate(map(type, same)) if HOLDS[kind]]:
            number = self._number(same[place])
            if number is not None:
                places.append((place, number))
                same[place] = None
        return Arguments(same, places)

    def _number(self, argument: Any) -> int | None:
        """Of a tensor, or of a tuple that holds some, which a step of its own makes of them; None:
        it holds none.
        """
        # a tensor of the call, or what a step made
        number = self.numbers.get(id(argument))
        if number is not None:
            return number
        if isinstance(argument, Tensor):  # it came from elsewhere
            self.possible = False
            return None

        # a tuple or list: a step packs the tensors in it; without any it is a constant
        parts = self._arguments(argument)
        if not parts.places:
            return None
        number = self._new(argument)
        kind = type(argument) if isinstance(argument, tuple) else tuple
        self._add(pack_step(number, kind, parts), parts.places)
        return number

    def trace(self, results: Tensors, device: torch.device) -> Trace:
        """Of all until now, with the numbers of what a call returns.

        Raises:
            Untraceable: an operation cannot be made again, or a tensor came from elsewhere.
        """
        # to number what is returned may show that it came from elsewhere
        if self.possible:
            returned = self._arguments(results)
        if not self.possible:
            raise Untraceable

        # each value is dropped after the last step with it, which gives its memory back
        kept = {number for _, number in returned.places}
        dropped: dict[int, list[int]] = {}
        for number, index in self.last.items():
            if number >= self.given and number not in kept:
                dropped.setdefault(index, []).append(number)
        steps = []
        for index, step in enumerate(self.steps):
            steps.append(step)
            if index in dropped:
                steps.append(drop_step(dropped[index]))
        return Trace(steps, len(self.values) - self.given, returned, device)


class Watch(TorchDispatchMode):
    """Tells a recorder of all operations of PyTorch."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self._closed = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep compiled code out of a mode, PyTorch would import `torch._dynamo`, which takes
        seconds.
        """
        return False

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Nothing is told."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # while a kernel is launched nothing is told: the launch is a step itself
        options = kwargs or {}
        result = function(*args, **options)
        if self._closed:
            return result

        # new memory, and the second name that `torch.empty_like` gives it
        if function in ALLOCATIONS:
            self.recorder.add_allocation(result)
            return result
        if function is DETACH and self.recorder.add_alias(result, args[0]):
            return result

        # an operation of aten that gives tensors, and takes none by keyword, can be made again
        results = result if isinstance(result, list | tuple) else [result]
        tensors = all(isinstance(part, Tensor) for part in results)
        named = any(isinstance(option, Tensor | list | tuple) for option in options.values())
        if function.namespace != "aten" or not tensors or named:
            self.recorder.possible = False
        else:
            self.recorder.add_operation(function, args, options, result)
        return result


class _Holds(dict[type, bool]):
    """Whether what is of a type may be or hold tensors: a look costs less than `isinstance`."""

    def __missing__(self, kind: type) -> bool:
        self[kind] = issubclass(kind, (Tensor, list, tuple))
        return self[kind]


HOLDS = _Holds()


@lru_cache
def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)
