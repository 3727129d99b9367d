"""Calls of a function: as it is, in float64, and twice, on copies that leave the original as it
was.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.float64 import everything_in_float64, leaves, named_tensors
from .errors import (
    ONLY_WORKING,
    UnmeasurableError,
    difference,
    dtype_name,
    finite_maximum,
    rounding_error,
)

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


def module_of(fn: Function) -> nn.Module | None:
    """The module that `fn` is, or is a method of."""
    owner = fn.__self__ if inspect.ismethod(fn) else fn
    return owner if isinstance(owner, nn.Module) else None


def copied(fn: F, dtype: torch.dtype | None = None) -> F:
    """`fn` on a copy of its module, converted to `dtype`; any other function as it is.

    Raises:
        UnmeasurableError: the module cannot be copied.
    """
    module = module_of(fn)
    if module is None:
        return fn

    # computed tensors, as of weight norms and of steerable kernels, are copied by their values
    tensors = [t for part in module.modules() for t in vars(part).values()]
    tensors += [*module.buffers()]
    computed = {
        id(t): t.detach().clone() for t in tensors if isinstance(t, Tensor) and not t.is_leaf
    }
    try:
        twin: Any = copy.deepcopy(module, computed)
    except (RuntimeError, TypeError) as error:
        raise UnmeasurableError(
            f"{type(module).__name__} cannot be copied to be measured: {one_line(error)}"
        ) from error

    # converted, and where fn is a method, that method of the copy
    if dtype is not None:
        twin = twin.to(dtype)
    return getattr(twin, fn.__name__) if inspect.ismethod(fn) else twin


def call(fn: Function, x: Tensor) -> dict[str, Tensor]:
    """The tensors that `fn` makes of a copy of x, in which it may work in place; detached, by their
    places (see `named_tensors`). Random numbers are drawn as they come.

    Raises:
        UnmeasurableError: fn raises an error, or returns no tensor.
    """
    recording = torch.is_grad_enabled() and module_of(fn) is None
    try:
        with torch.set_grad_enabled(recording):
            output = fn(x.clone())
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise UnmeasurableError(
            f"fn fails on an input of shape {tuple(x.shape)}, {x.dtype}: {one_line(error)}"
        ) from error
    found = named_tensors(output)
    if not found:
        raise UnmeasurableError(f"fn returns {_without_numbers(output)}")
    return {place: t.detach() for place, t in found.items()}


def _without_numbers(output: Any) -> str:
    """The rest of a sentence on an output that holds no tensor to measure."""
    whole = [t for t in leaves(output).values() if isinstance(t, Tensor)]
    if whole:
        return (
            f"a tensor of {dtype_name(whole[0].dtype)}, expected floating-point or complex numbers:"
            " measure what it is made from, as the scores before an argmax, or convert it, as "
            "fn(x).float()"
        )
    return (
        f"{type(output).__name__}, expected a tensor of floating-point or complex numbers, or a "
        "tuple, dictionary or dataclass of them"
    )


def call_in_float64(fn: Function, x: Tensor) -> dict[str, Tensor] | None:
    """As `call`, in float64; None where fn does not take it or returns another dtype."""
    try:
        with everything_in_float64():
            output = call(fn, x)
    except UnmeasurableError:
        return None
    wide = all(t.dtype in (torch.float64, torch.complex128) for t in output.values())
    return output if wide else None


@dataclass(frozen=True)
class Size:
    """How much a network can round.

    Attributes:
        layers: those with weights.
        terms: the numbers that the widest of them adds up for one output.
    """

    layers: int = 0
    terms: int = 0

    @property
    def roundings(self) -> float:
        """The rounding errors that an output may have. Those of a sum, and of layers one after the
        other, add up as random steps do; ten deviations are allowed.
        """
        return max(ONLY_WORKING, 10 * math.sqrt(self.layers * self.terms))

    def __str__(self) -> str:
        if not self.layers:
            return ""
        return f" of {self.layers} layers that add up to {self.terms:,} numbers"


def size_of(fn: Function) -> Size:
    """The size of the module that `fn` is or belongs to; none of another function."""
    module = module_of(fn)
    terms = []
    for part in module.modules() if module is not None else []:
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        sums = [t[0].numel() for t in own if t.dim() > 1 and len(t)]
        terms += [max(sums)] if sums else []
    return Size(len(terms), max(terms, default=0))


class _Autocast(TorchFunctionMode):
    """Notices whether anything is called under autocast."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.dtype: torch.dtype | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_autocast_enabled(self.device):
            self.dtype = torch.get_autocast_dtype(self.device)
        return func(*args, **(kwargs or {}))


def narrower(fn: Function, x: Tensor) -> str:
    """What makes `fn` compute in less than the dtype of x, by name; "" where nothing known does."""
    # autocast within fn shows only while fn runs
    try:
        with _Autocast(x.device.type) as autocast:
            call(copied(fn), x)
    except UnmeasurableError:
        return ""

    # autocast is what fn asks for, TF32 a setting of the process
    if autocast.dtype is not None and x.dtype == torch.float32:
        return f"autocast, which computes parts in {dtype_name(autocast.dtype)}"
    if rounding_error(x) > torch.finfo(x.dtype).eps:
        return (
            "TF32, which keeps 10 of 23 bits of a product's factors (see "
            "torch.backends.cuda.matmul.fp32_precision and torch.backends.cudnn.conv)"
        )
    return ""


def one_line(error: Exception) -> str:
    """The first line of the error's message, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def require_determinism(fn: Function, x: Tensor) -> None:
    """Raise UnmeasurableError where two calls on the same input differ by more than rounding."""
    # the state of torch's generator tells whether a call draws from it
    before = _random_state(x)
    first = call(fn, x)
    after = _random_state(x)
    second = call(fn, x)

    # the largest difference over all outputs, NaN where one has it
    apart = 0.0
    for place, t in first.items():
        again = second.get(place)
        if again is None or again.shape != t.shape:
            shape = None if again is None else tuple(again.shape)
            raise UnmeasurableError(
                "fn changes its shape from call to call on one input: "
                f"{tuple(t.shape)}, then {shape}"
            )
        error = difference(again, t, finite_maximum([x])).relative
        apart = error if math.isnan(error) else max(apart, error)
    if apart <= ONLY_WORKING * rounding_error(x) or math.isnan(apart):
        return

    # the generator's state tells random numbers from what fn keeps between calls
    differ = f"two calls on the same input differ by {apart:.2g}"
    if torch.equal(before, after):
        raise UnmeasurableError(
            f"fn is not deterministic: {differ}, and it draws no random numbers from torch, so it "
            "keeps a state between calls or draws them elsewhere"
        )
    raise UnmeasurableError(_random_numbers(fn, differ))


def _random_state(x: Tensor) -> Tensor:
    return torch.cuda.get_rng_state(x.device) if x.is_cuda else torch.get_rng_state()


def _random_numbers(fn: Function, differ: str) -> str:
    """Says where random numbers come from: layers in training mode that look as if they dropped
    something, or else the function itself.
    """
    # dropout is known by its class name; other layers that draw are not
    where, remedy = "", "fix their seed within fn"
    module = module_of(fn)
    if module is not None:
        random_layers = [
            f"{name or type(part).__name__!r}"
            for name, part in module.named_modules()
            if part.training and "drop" in type(part).__name__.lower()
        ]
        where = f" in {', '.join(random_layers)}" if random_layers else ""
        if module.training:
            remedy = "it is in training mode, so call eval() first"
    return (
        f"fn draws random numbers{where}: {differ}, which says nothing about its symmetry; {remedy}"
    )
