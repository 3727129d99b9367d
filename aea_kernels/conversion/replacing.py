"""How one module is changed in place, and back.

The object stays: its name in the network, its parameters, its entries in `state_dict`, its hooks
and every reference to it. It only gets another class, one that computes the same from the same
submodules and has the original class as a base, so `isinstance` and the original's other methods
stay too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ..core.checks import is_recomputed
from ..core.dtypes import acc_dtype


class LeftAloneError(Exception):
    """Why a module is not replaced, in a few words."""


class OtherKindError(LeftAloneError):
    """The module is not of the kind that a recogniser knows, though it has its class name and
    parts.
    """


class Change(Protocol):
    """One module's replacement, which can be made and undone."""

    @property
    def module(self) -> nn.Module: ...

    def apply(self) -> None: ...

    def revert(self) -> None: ...


class Converted(nn.Module):
    """What a converted module computes: a base put before the original class, see
    `converted_class`.

    A block defines `compute(x)`, its result for x alone.
    """

    keys: Any = None
    """In prediction, attend to these summed keys (`summarize`) instead of those of the input; None,
    the default: to it.

    Summaries of float64 are cast to what the attention works in.
    """

    input_name = ""
    """Of the first argument of the original's forward."""

    if TYPE_CHECKING:  # the parts of the original, whatever they are

        def __getattr__(self, name: str) -> Any: ...

    def forward(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Other arguments, which ask for more than sums can give, go to the original's forward; so
        does all where hooks recompute a weight of its parts, as only that calls the parts.

        Raises:
            ValueError: `keys` are set, and hooks recompute a weight.
        """
        # `compute` takes x and nothing else, by place or by name
        if x is None and not args:  # x is named, or missing
            if list(kwargs) != [self.input_name]:
                return super().forward(**kwargs)
            x, kwargs = kwargs[self.input_name], {}
        if args or kwargs:
            return super().forward(x, *args, **kwargs)

        # the original's forward knows nothing of `keys`: an error rather than other results
        if _weights_recomputed(self):
            if self.keys is not None:
                raise ValueError(
                    "keys are set, and hooks recompute a weight of this block, as after pruning: "
                    "remove these hooks first, as `torch.nn.utils.prune.remove` does"
                )
            return super().forward(x)
        return self.compute(x)

    def given_keys(self, like: Tensor) -> Any:
        """`keys` in the dtype in which maps of the dtype of `like` are summed up, or None."""
        if self.keys is None:
            return None
        if self.training:
            raise ValueError(
                "keys are set, and the block is in training mode: they are for prediction"
            )
        return self.keys.to(acc_dtype(like.dtype))

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[type, type], Any]:
        """Pickled as its two bases, which can be imported; the class itself is made when it is
        needed.
        """
        replacement, original = type(self).__bases__
        return _rebuild, (replacement, original), self.__getstate__()


_UNHOOKED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Modules without hooks that recompute a weight, and the number of hooks that there had ever been
in the process when they were looked through.
"""


def _weights_recomputed(module: nn.Module) -> bool:
    """Whether hooks compute the weight or bias of a part of the module (`is_recomputed`).

    A call looks at the parts only if hooks were set, anywhere, since it last did.
    """
    if torch.compiler.is_compiling():
        return any(map(is_recomputed, module.modules()))

    hooks = RemovableHandle.next_id
    if _UNHOOKED.get(module) == hooks:
        return False
    if any(map(is_recomputed, module.modules())):
        return True
    _UNHOOKED[module] = hooks
    return False


_CLASSES: dict[tuple[type, type], type[nn.Module]] = {}


def converted_class(replacement: type[Converted], original: type[nn.Module]) -> type[nn.Module]:
    """The class with the methods of `replacement`, and of `original` where it has none."""
    bases = replacement, original
    if bases not in _CLASSES:
        arguments = list(inspect.signature(original.forward).parameters)[1:]
        namespace = {
            "__module__": replacement.__module__,
            "__doc__": replacement.__doc__,
            "input_name": arguments[0] if arguments else "",
        }
        _CLASSES[bases] = type(f"Fused{original.__name__}", bases, namespace)
    return _CLASSES[bases]


def _rebuild(replacement: type[Converted], original: type[nn.Module]) -> nn.Module:
    """An empty object of that class, for pickle and `copy.deepcopy` to fill."""
    cls = converted_class(replacement, original)
    return cls.__new__(cls)


@dataclass(frozen=True)
class ClassSwap:
    """The module computes by `replacement`."""

    module: nn.Module
    replacement: type[Converted]

    def apply(self) -> None:
        self.module.__class__ = converted_class(self.replacement, type(self.module))

    def revert(self) -> None:
        self.module.__dict__.pop("keys", None)
        self.module.__class__ = type(self.module).__bases__[1]


@dataclass(frozen=True)
class NewAttribute:
    """The module computes by another object in one of its attributes, such as a processor."""

    module: nn.Module
    name: str
    value: Any
    before: Any

    def apply(self) -> None:
        setattr(self.module, self.name, self.value)

    def revert(self) -> None:
        setattr(self.module, self.name, self.before)


_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


class Become:
    """The module takes over class, parameters and parts of another one; its hooks and mode stay its
    own.
    """

    def __init__(self, module: nn.Module, other: nn.Module) -> None:
        self.module = module
        self._before = type(module), module.__dict__
        self._after = type(other), other.__dict__

    def apply(self) -> None:
        self._take(*self._after)

    def revert(self) -> None:
        self._take(*self._before)

    def _take(self, cls: type[nn.Module], attributes: dict[str, Any]) -> None:
        training = self.module.training
        attributes.update({name: self.module.__dict__[name] for name in _HOOKS})
        self.module.__class__ = cls
        object.__setattr__(self.module, "__dict__", attributes)
        self.module.train(training)


# ---- what recognisers ask about the parts of a module --------------------------------------------


def pointwise(name: str, conv: Any) -> Any:
    """`conv` if it is a 1x1 convolution with one weight for every position.

    Raises LeftAloneError otherwise.
    """
    if not isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise LeftAloneError(f"{name} is a {type(conv).__name__}, not a convolution")
    wants = {"kernel_size": 1, "stride": 1, "padding": 0, "groups": 1}
    for attribute, wanted in wants.items():
        value = getattr(conv, attribute)
        if any(v != wanted for v in (value if isinstance(value, tuple) else (value,))):
            raise LeftAloneError(f"{name} has {attribute} {value}, not a 1x1 convolution")
    return conv


def no_dropout(name: str, dropout: Any) -> None:
    """Raise LeftAloneError for dropout on the scores, which are never formed."""
    rate = getattr(dropout, "p", dropout)
    if isinstance(rate, int | float) and rate > 0:
        raise LeftAloneError(
            f"{name} drops {rate:g} of the scores in training, which are never formed here"
        )


def no_hooks_inside(module: nn.Module) -> None:
    """Raise LeftAloneError if a part of the module has hooks, which would not run where the part is
    not called.
    """
    for name, part in module.named_modules():
        if name and _has_hooks(part):
            raise LeftAloneError(f"{name} has hooks, which would not run")


def _has_hooks(module: nn.Module) -> bool:
    """Of those that run when it is called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


# ---- maps and positions --------------------------------------------------------------------------


def convolved(module: Any, x: Tensor) -> Tensor:
    """``module(x)`` for a convolution or several in sequence, the 1x1 convolutions by `project`."""
    if type(module) is nn.Sequential:
        for part in module:
            x = convolved(part, x)
        return x
    known = is_only(module, nn.Conv1d, nn.Conv2d, nn.Conv3d) and not any(module.padding)
    if known and all(size == 1 for size in (*module.kernel_size, *module.stride)):
        return project(x, module.weight, module.bias)
    return module(x)


def over_channels(linear: Any, x: Tensor) -> Tensor:
    """A linear layer over the channels of x (N, C, *spatial), by `project`."""
    if is_only(linear, nn.Linear):
        return project(x, linear.weight, linear.bias)
    return linear(x.movedim(1, -1)).movedim(-1, 1)


def is_only(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Whether its parameters say all that it computes: no derived class, no wrapper, no hooks."""
    return type(module) in classes and not _has_hooks(module)


def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 1x1 convolution of x (N, C, *spatial), in G groups with weight (O, C / G, ...) and bias
    (O,).
    """
    # left to PyTorch's convolution: other devices, other strides and half precision
    images, channels, *spatial = x.shape
    groups = channels // weight.shape[1]
    if x.device.type != "cpu" or not x.is_contiguous() or acc_dtype(x.dtype) != x.dtype:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(spatial) - 1]
        kernel = weight.reshape(*weight.shape[:2], *[1] * len(spatial))
        return convolve(x, kernel, bias, groups=groups)

    # as a product of matrices: PyTorch's convolutions reorder the map before and after it
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]

    def of_each_image(parameter: Tensor, columns: int) -> Tensor:
        matrices = parameter.reshape(1, groups, outputs, columns)
        return matrices.expand(images, -1, -1, -1).flatten(0, 1)

    # for each image and group (O / G, C / G) times (C / G, positions)
    flat = x.view(images * groups, inputs, math.prod(spatial))
    matrices = of_each_image(weight, inputs)
    if bias is None:
        y = torch.bmm(matrices, flat)
    else:
        y = torch.baddbmm(of_each_image(bias, 1), matrices, flat)
    return y.view(images, groups * outputs, *spatial)


def positions(features: Tensor) -> Tensor:
    """(B, E, *spatial) -> (B, 1, N, E), one head; a view where the strides allow it."""
    return features.flatten(2)[:, None].mT


def as_map(attended: Tensor, like: Tensor) -> Tensor:
    """(B, H, N, D) -> (B, H * D, *spatial) with the spatial axes of `like`."""
    return attended.mT.flatten(1, 2).unflatten(2, like.shape[2:])
