"""The calls of a network's layers, seen by forward hooks: what goes in, what comes out, and who
called whom.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..core.float64 import map_tensors, named_tensors, tensors_in
from .layouts import MapLayout

OTHER_CALLS = "it calls its layers otherwise"
Change = Callable[[Tensor, MapLayout], Tensor]
"""A tensor, changed as its layout says."""


@dataclass
class Call:
    """One call of a module.

    Attributes:
        name: of the module, with ``#2`` for its second call and so on; "" is the network.
        module: the module.
        inputs: positional and keyword arguments, their tensors copied before the call; emptied once
            its caller is done.
        output: what it returned, its tensors copied after the call; None where it raised.
        shape: of the first tensor in `output`, where there is one.
        largest: the largest magnitude in its inputs, once known.
        children: the calls that it made itself.
        places, layouts: of the tensors in `output`, the layouts once they are known.
        hints: layouts of tensors in `inputs`, by their place among them, where they are what an
            earlier call returned, unchanged.
    """

    name: str
    module: nn.Module
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    output: Any = None
    shape: tuple[int, ...] = ()
    largest: float = 0.0
    children: list[Call] = field(default_factory=list)
    places: tuple[str, ...] = ()
    layouts: list[MapLayout | None] = field(default_factory=list)
    hints: dict[int, MapLayout] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The module's class."""
        return type(self.module).__name__

    @property
    def layout(self) -> MapLayout | None:
        """Of the first tensor that it returned, once known."""
        return self.layouts[0] if self.layouts else None


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
    layouts = WeakTensorKeyDictionary()  # and versions, of the tensors that calls returned
    watching = True

    def hints(tensors: list[Tensor]) -> dict[int, MapLayout]:
        known = [layouts.get(t, (None, None)) for t in tensors]
        return {
            place: layout
            for place, (t, (layout, version)) in enumerate(zip(tensors, known, strict=True))
            if layout is not None and version == _version(t)
        }

    def begin(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not watching:
            return
        times[name] += 1
        numbered = name if times[name] == 1 else f"{name}#{times[name]}"
        inputs = map_tensors(torch.clone, (args, kwargs)) if keep else ((), {})
        call = Call(numbered, module, inputs, hints=hints(tensors_in((args, kwargs))))
        if open_calls:
            open_calls[-1].children.append(call)
        open_calls.append(call)
        calls.append(call)

    def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        # calls are nested, so the one that ends is the last that is open; one that raises ends as
        # if it had returned None, since its caller may go on without it
        nonlocal watching
        if not watching:
            return
        call = open_calls.pop()
        call.output = map_tensors(torch.clone, output) if keep else output
        call.places = tuple(named_tensors(output))
        returned = tensors_in(output)
        call.shape = tuple(returned[0].shape) if returned else ()

        # calls that `seen` makes are none of the network's
        watching = False
        try:
            seen(call)
        finally:
            watching = True

        # keep what later calls need, and no maps beyond that
        if not keep:
            call.output = None
        for place, t in enumerate(returned):
            layout = call.layouts[place] if place < len(call.layouts) else None
            layouts[t] = layout, _version(t)
        for child in call.children:
            child.inputs = ((), {})

    with ExitStack() as stack:
        for name, module in model.named_modules():
            start = partial(begin, name)
            before = module.register_forward_pre_hook(start, with_kwargs=True, prepend=True)
            stack.callback(before.remove)
            after = module.register_forward_hook(end, with_kwargs=True, always_call=True)
            stack.callback(after.remove)
        yield calls


def _version(t: Tensor) -> int:
    """Tells a tensor from itself once changed in place."""
    return 0 if t.is_inference() else t._version


@contextmanager
def answers(prepared: Sequence[tuple[nn.Module, Any]]) -> Iterator[list[Any]]:
    """While it is open, the modules answer their calls with what was prepared for them.

    Args:
        prepared: each call to come, in their order: the module and its answer.

    Yields:
        What the modules are called with, call by call: positional and keyword arguments.

    Raises:
        RuntimeError: the modules are called in another order, or more often.
    """
    asked: list[Any] = []
    waiting = deque(prepared)

    def answer(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        expected, output = waiting.popleft() if waiting else (None, None)
        if expected is not module:
            raise RuntimeError(OTHER_CALLS)
        asked.append(map_tensors(torch.clone, (args, kwargs)))
        return output

    with ExitStack() as stack:
        for module in {module for module, _ in prepared}:
            stack.enter_context(patch.object(module, "forward", partial(answer, module)))
        yield asked


def called_with(
    seen: Call,
    known: list[Call],
    layouts: Sequence[MapLayout | None],
    change: Change,
    answer: Change,
) -> list[Tensor]:
    """The layer called on changed inputs: what it returns, then what it hands to each of the calls
    `known`.

    Args:
        seen: a call of the layer.
        known: of the calls that it made, those that have layouts.
        layouts: of its inputs.
        change: what becomes of its inputs.
        answer: what becomes of the tensors that the calls `known` return.
    """
    prepared = [(child.module, _changed(child.output, child.layouts, answer)) for child in known]
    args, kwargs = _changed(seen.inputs, layouts, change)
    with answers(prepared) as asked:
        found = tensors_in(seen.module(*args, **kwargs))
    for child, given in zip(known, asked, strict=False):
        found += computed(child, tensors_in(given))
    return found


def _changed(value: Any, layouts: Sequence[MapLayout | None], change: Change) -> Any:
    """The same nest, its tensors changed; those without a layout are copied."""
    by_tensor = dict(zip(map(id, tensors_in(value)), layouts, strict=True))

    def changed(t: Tensor) -> Tensor:
        layout = by_tensor.get(id(t))
        return t.clone() if layout is None else change(t, layout)

    return map_tensors(changed, value)


def computed(child: Call, tensors: list[Tensor]) -> list[Tensor]:
    """Of the tensors that a call takes, those that no earlier call returned, as that was
    answered.
    """
    return [t for place, t in enumerate(tensors) if place not in child.hints]
