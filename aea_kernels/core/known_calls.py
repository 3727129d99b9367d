"""Calls that were made before, made again without working out what they do.

Working out what a call does takes the host longer than its launches. So the first call for tensors
of some shapes, strides and dtypes is written down as a `Trace`, and later ones take its steps.
Where PyTorch computes something too, the second call is watched and written down.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..backends import resolved, run, selfcheck
from .precision import multiplication
from .tracer import Recorder, Untraceable, recorder
from .traces import Tensors, Trace

Function = Callable[..., Tensors]
"""f(tensors, *constants) -> tensors; constants are hashable. Values of tensors decide nothing."""

LIMIT = 1024
"""So many calls are remembered; then all are forgotten."""


_known: dict[tuple[Any, ...], Trace | Callable[[Tensors], Tensors] | None] = {}
"""By `_key`: what to call in place of the function; None: the next call will be watched."""
_opaque: set[tuple[Any, ...]] = set()
"""Functions, with their constants, whose calls must be watched to be written down."""


def call(function: Function, tensors: Tensors, *constants: Any) -> Tensors:
    """function(tensors, *constants), by its trace where there is one.

    The first tensor says on which device.
    """
    key = _key(function, tensors, constants)
    if key is None:
        return function(tensors, *constants)
    known = _known.get(key)
    if known is None:
        return _record(key, function, tensors, constants)
    return known(tensors)


def _record(
    key: tuple[Any, ...], function: Function, tensors: Tensors, constants: tuple[Any, ...]
) -> Tensors:
    """The call, which is written down for the next one."""
    # calls of which no trace is written
    device = key[2]
    given = [id(t) for t in tensors if t is not None]
    twice = len(given) > len(set(given))  # which of the two is read could not be told
    if twice or selfcheck.capturing(device):  # nothing is checked while capturing
        return function(tensors, *constants)

    # all are forgotten: which of them are still in use is not known
    if len(_known) >= LIMIT:
        forget()

    # to watch a call takes longer, so it is done where there was one before
    watched, made = key in _known, (function, constants)

    # a self-check on the way shows by new verdicts
    checked = dict(selfcheck._verdicts)
    written = Recorder(tensors, possible=watched or made not in _opaque)
    results = written.record(function, *constants, watched=watched)
    if selfcheck._verdicts != checked:  # the check was written down too
        return results

    # what cannot be written down is watched the next time, and if it was, called ever after
    try:
        _known[key] = written.trace(results, device)
    except Untraceable:
        _opaque.add(made)
        _known[key] = (lambda tensors: function(tensors, *constants)) if watched else None
    return results


def primitive(name: str, inputs: Sequence[Any], backend: str) -> Any:
    """A primitive of `core/ops.py` or `families/ops.py` by `backend`; by its trace where kernels
    compute.
    """
    # inside of a call that is written down, its trace has the steps; eager has none
    if recorder() is not None or resolved(backend, inputs[0].device) != "triton":
        return run(name, inputs, backend)

    # tensors change from call to call, constants are part of its key
    tensors: list[Tensor | None] = []
    counts: list[int | None] = []
    constants = []
    for given in inputs:
        if given is None or isinstance(given, Tensor):
            tensors.append(given)
            counts.append(-1)
        elif isinstance(given, list | tuple):
            tensors += given
            counts.append(len(given))
        else:
            constants.append(given)
            counts.append(None)

    # `_run` made a tuple of a single result
    results = call(_run, tensors, name, backend, tuple(counts), tuple(constants))
    return results[0] if len(results) == 1 else results


def _run(
    tensors: Tensors,
    name: str,
    backend: str,
    counts: Sequence[int | None],
    constants: Sequence[Any],
) -> Tensors:
    """A primitive; `counts` has for each input how many of the tensors are a list of it, -1 for one
    that is no list, and None for one of the constants.
    """
    of_tensors, of_constants = iter(tensors), iter(constants)
    inputs: list[Any] = []
    for count in counts:
        if count is None:
            inputs.append(next(of_constants))
        elif count < 0:
            inputs.append(next(of_tensors))
        else:
            inputs.append([next(of_tensors) for _ in range(count)])
    results = run(name, inputs, backend)
    return (results,) if isinstance(results, Tensor) else results


def forget() -> None:
    """Let every call be its first."""
    _known.clear()
    _opaque.clear()


def _key(function: Function, tensors: Tensors, constants: tuple[Any, ...]) -> Any:
    """All that a trace depends on; None where there is to be none."""
    # a mode sees every operation, which a trace would hide from it
    x = tensors[0]
    if x is None or torch._C._len_torch_dispatch_stack() or _interpreted():
        return None

    # a setting of the process decides how float32 is multiplied
    key = [function, constants, x.device, multiplication(torch.float32)]
    for t in tensors:
        if t is None:
            key.append(None)
            continue
        # a subclass may stand for something else than memory at an address
        if type(t) not in (Tensor, Parameter) or t.is_neg():
            return None
        pointer = t.data_ptr()
        if not pointer:  # without numbers another way may be taken
            return None
        # Triton compiles kernels apart for pointers that 16 divides
        key += t.shape, t.stride(), t.dtype, pointer & 15
    return tuple(key)


@cache
def _interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, beside which no host is slow."""
    return os.environ.get("TRITON_INTERPRET") == "1"
