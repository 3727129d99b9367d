"""The base of this library's autograd Functions: what torch.func, forward mode and torch.compile
all take.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .dtypes import without_autocast


def transformed() -> bool:
    """Whether torch.func (vmap, grad, jvp, ...) or forward-mode differentiation is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def in_legacy_vmap(tensor: Tensor | None) -> bool:
    """Whether a tensor is of a batch in PyTorch's first vmap, which `torch.autograd` has for
    ``vectorize=True`` and ``is_grads_batched=True``.
    """
    return tensor is not None and torch._C._functorch.is_legacy_batchedtensor(tensor)


class Function(torch.autograd.Function):
    """A `torch.autograd.Function` in the form that torch.func needs, with derivatives in forward
    mode.

    A subclass defines these static methods, and is called by ``.apply`` with positional arguments:

        forward(*inputs) -> output
            calls a primitive of `ops.py`; there is no ctx
        setup_context(ctx, inputs, output)
            ctx.save_for_backward(...), and ctx.NAME for what is not a tensor
        backward(ctx, grad_output) -> gradients
            where `autograd.differentiable`, by ``.apply`` of Functions
        tangent(inputs, tangents) -> tangent
            forward mode: by ``.apply`` of Functions and plain operations
        vmap(info, in_dims, *inputs) -> output, dim
            as in torch; `fold_batch` and `unfold_batch` make it two lines
        plain(*inputs) -> output
            instead of these two: plain operations, in place of the Function

    torch.compile refuses a Function that has a ``jvp``, so the class itself has none: one derived
    from it does, and takes its place where `transformed()`. Elsewhere a call costs the host what
    one without all this does.
    """

    _in_transforms: ClassVar[type[Function]]

    @classmethod
    def plain(cls, *inputs: Any) -> Any:
        """What takes the place of ``.apply`` where `transformed()`."""
        return super(Function, cls._in_transforms).apply(*inputs)

    @staticmethod
    def tangent(inputs: tuple[Any, ...], tangents: tuple[Any, ...]) -> Tensor:
        """The derivative of the output along `tangents`, which has a tensor for each input that is
        one.
        """
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        if "tangent" not in vars(cls):
            return

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            cls.setup_context(ctx, inputs, output)
            ctx.save_for_forward(*(t for t in inputs if isinstance(t, Tensor)))
            ctx.rest = [None if isinstance(t, Tensor) else t for t in inputs]

        def jvp(ctx: Any, *tangents: Any) -> Tensor:
            # torch calls this without derivatives, which a transform around this one needs; the
            # primals alone have none of this one
            with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
                saved = (forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors)
                inputs = tuple(next(saved) if given is None else given for given in ctx.rest)
                return cls.tangent(inputs, tangents)

        methods = {"setup_context": staticmethod(setup_context), "jvp": staticmethod(jvp)}
        cls._in_transforms = type(cls.__name__, (cls,), methods)

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        if transformed():
            with without_autocast(next(t.device for t in inputs if isinstance(t, Tensor))):
                return cls.plain(*inputs)
        # torch's own `apply` first looks up the signature of `forward`, which takes longer than all
        # the rest
        inputs = torch._functorch.utils.unwrap_dead_wrappers(inputs)
        if not torch.is_grad_enabled():
            return cls.forward(*inputs)  # nothing to remember
        return super(torch.autograd.Function, cls).apply(*inputs)  # type: ignore[misc]


def fold_batch(size: int, in_dims: tuple[int | None, ...], *tensors: Tensor) -> list[Tensor]:
    """Each (B, ...) with `size` more images along its axis in `in_dims`, or the same for all (None)
    -> (size * B, ...).

    A view where the strides allow it.
    """
    leading = (
        t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip(tensors, in_dims, strict=True)
    )
    return [t.flatten(0, 1) for t in leading]


def unfold_batch(size: int, result: Tensor) -> Tensor:
    """(size * B, ...) -> (size, B, ...)."""
    return result.unflatten(0, (size, result.shape[0] // size))
