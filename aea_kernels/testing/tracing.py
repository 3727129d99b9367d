"""The calls of a network's layers, seen by forward hooks: what goes in, what comes out, and who
called whom.
"""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.float64 import map_tensors, tensors_in
from .layouts import Layout


@dataclass
class Call:
    """One call of a module.

    Attributes:
        name: of the module, with ``#2`` for its second call and so on; "" is the network.
        module: the module.
        inputs: positional and keyword arguments, their tensors copied before the call; emptied once
            its caller is done.
        output: what it returned, its tensors copied after the call.
        shape: of the first tensor in `output`.
        largest: the largest magnitude in its inputs, once known.
        children: the calls that it made itself.
        layout: of the first tensor in `output`, once known.
        hints: layouts of tensors in `inputs`, by their place among them, where they are what an
            earlier call returned, unchanged.
    """

    name: str
    module: nn.Module
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    output: Any = None
    shape: tuple[int, ...] | None = None
    largest: float = 0.0
    children: list[Call] = field(default_factory=list)
    layout: Layout | None = None
    hints: dict[int, Layout] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The module's class."""
        return type(self.module).__name__

    def first_output(self) -> Tensor | None:
        """The first floating-point tensor that it returned."""
        return next(iter(tensors_in(self.output)), None)


@contextmanager
def traced(
    model: nn.Module, seen: Callable[[Call], None], *, keep: bool = True
) -> Iterator[list[Call]]:
    """While it is open, hand every finished call to `seen`, children before parents; calls made by
    `seen` do not count.

    Args:
        model: whose layers.
        seen: what is done with a finished call.
        keep: copy inputs and outputs. Without, calls have no inputs, and their outputs are there
            for `seen` alone.

    Yields:
        The calls in the order in which they began.
    """
    calls: list[Call] = []
    open_calls: list[Call] = []
    times: Counter[str] = Counter()
    watching = True
    layouts: dict[tuple[Any, ...], tuple[weakref.ref[Tensor], Layout]] = {}
    # the memory of a tensor that is gone may be another's by now: hence the references

    def hint(t: Tensor) -> Layout | None:
        alive, layout = layouts.get(_mark(t), (None, None))
        return layout if alive is not None and alive() is not None else None

    def begin(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not watching:
                return
            times[name] += 1
            numbered = name if times[name] == 1 else f"{name}#{times[name]}"
            call = Call(
                numbered, module, map_tensors(torch.clone, (args, kwargs)) if keep else ((), {})
            )
            hints = enumerate(hint(t) for t in tensors_in((args, kwargs)))
            call.hints = {place: layout for place, layout in hints if layout is not None}
            if open_calls:
                open_calls[-1].children.append(call)
            open_calls.append(call)
            calls.append(call)

        return hook

    def end(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        nonlocal watching
        if not watching:
            return
        call = open_calls.pop()
        call.output = map_tensors(torch.clone, output) if keep else output
        first = call.first_output()
        call.shape = None if first is None else tuple(first.shape)
        watching = False
        try:
            seen(call)
        finally:
            watching = True
        if not keep:
            call.output = None
        for t in tensors_in(output)[:1]:
            layouts.pop(_mark(t), None)
            if call.layout is not None:
                layouts[_mark(t)] = weakref.ref(t), call.layout
        for child in call.children:
            child.inputs = ((), {})

    with ExitStack() as stack:
        for name, module in model.named_modules():
            for handle in (
                module.register_forward_pre_hook(begin(name), with_kwargs=True, prepend=True),
                module.register_forward_hook(end, with_kwargs=True),
            ):
                stack.callback(handle.remove)
        yield calls


@contextmanager
def answers(prepared: Mapping[nn.Module, list[Any]]) -> Iterator[dict[nn.Module, list[Any]]]:
    """While it is open, each of the modules answers its calls with what was prepared for them, in
    that order.

    Yields:
        What each of the modules is called with, positional and keyword arguments.
    """
    asked: dict[nn.Module, list[Any]] = {module: [] for module in prepared}
    with ExitStack() as stack:
        for module, outputs in prepared.items():
            queue = deque(outputs)

            def forward(
                *args: Any,
                _queue: deque[Any] = queue,
                _asked: list[Any] = asked[module],
                **kwargs: Any,
            ) -> Any:
                _asked.append(map_tensors(torch.clone, (args, kwargs)))
                return _queue.popleft()

            before = module.__dict__.get("forward")
            module.__dict__["forward"] = forward
            stack.callback(_restore, module, before)
        yield asked


def _mark(t: Tensor) -> tuple[Any, ...]:
    """What tells a tensor from others that are alive, and from itself once changed in place."""
    return t.data_ptr(), t.shape, t.stride(), 0 if t.is_inference() else t._version


def _restore(module: nn.Module, forward: Any) -> None:
    if forward is None:
        del module.__dict__["forward"]
    else:
        module.__dict__["forward"] = forward
