"""u of a map inside a chunk, and the derivative through it: one class for each kind of
`block.spec.Prologue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from . import bfloat16
from .walking import Walk, sum_of_squares


class Identity:
    """u = x.

    Attributes:
        narrow_factors: whether u may be a factor of products in bfloat16. It must be exact for
            GroupNorm, whose statistics are entries of the product of u with itself; and over
            channels, where it is computed in float32, it would only be a further copy.
    """

    narrow_factors = True

    def __init__(self, parameters: Sequence[Tensor], eps: float, dtype: torch.dtype) -> None:
        """`parameters` and `eps` are those of the prologue, `dtype` is that of sums."""
        self.eps = eps

    def features(self, walk: Walk, i: int, chunk: int) -> Tensor:
        """u of map `i` inside a chunk, (G, C, N); it may lie in the map's workspace."""
        return walk.read(i, chunk)

    def factor(self, walk: Walk, i: int, chunk: int) -> Tensor:
        """As `features`, in the dtype of factors of products; `Walk.factor` of the map stays."""
        return walk.factor(i, chunk) if walk.in_bfloat16 else self.features(walk, i, chunk)

    def backward(
        self, walk: Walk, i: int, chunk: int, u: Tensor, du: Tensor, above: Tensor, out: Tensor
    ) -> None:
        """out = above + du through the prologue, all (G, C, N) of a chunk, after `features` of the
        same chunk. du is written over; above and out may have the dtype of their map.
        """
        torch.add(above, du, out=out)

    def parameter_grads(self, out: Tensor) -> Tensor:
        """The gradients of weight and bias, (2, C), after `backward` of all chunks, like `out` or
        in it; here there are none, and `out` is (2, 0).
        """
        return out

    def through_statistics(self, parameter_grads: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """What the statistics of `number` positions send back to x, whose gradient lacks it: slope
        and constant of a function of x, (C,) each.
        """
        raise NotImplementedError  # only BN has statistics of all positions


class BatchNorm(Identity):
    """u = ReLU6(scale x + shift), with one scale and shift for each channel."""

    def __init__(self, parameters: Sequence[Tensor], eps: float, dtype: torch.dtype) -> None:
        super().__init__(parameters, eps, dtype)
        weight, bias, mean, variance = parameters
        inverse = (variance.double() + eps).rsqrt()
        self._exact = mean, inverse
        scale = weight * inverse
        shift = torch.addcmul(bias, mean, scale, value=-1)
        self.scale, self.shift = torch.stack([scale, shift]).to(dtype).unbind()
        self.sums: Tensor | None = None
        """Of du (x - mean) and of du, (2, C), over the chunks that went through `backward`;
        `parameter_grads` may write over it.
        """

    @cached_property
    def mean(self) -> Tensor:
        """(C,), in the dtype of sums."""
        return self._exact[0].to(self.scale.dtype)

    @cached_property
    def inverse(self) -> Tensor:
        """One over the deviation, (C,), in the dtype of sums."""
        return self._exact[1].to(self.scale.dtype)

    def features(self, walk: Walk, i: int, chunk: int) -> Tensor:
        x = walk.any_dtype(i, chunk)
        out = walk.workspace(i, x)
        return torch.addcmul(self.shift[:, None], x, self.scale[:, None], out=out).clamp_(0, 6)

    def factor(self, walk: Walk, i: int, chunk: int) -> Tensor:
        if not walk.in_bfloat16:
            return self.features(walk, i, chunk)
        x = walk.factor(i, chunk)
        out = walk.workspace(-1, x, x.dtype)
        return bfloat16.scale_and_shift(x, self.scale, self.shift, out).clamp_(0, 6)

    def backward(
        self, walk: Walk, i: int, chunk: int, u: Tensor, du: Tensor, above: Tensor, out: Tensor
    ) -> None:
        # u sits on the bounds exactly where ReLU6 has no slope
        torch.ops.aten.hardtanh_backward.grad_input(du, u, 0, 6, grad_input=du)
        away = torch.sub(walk.any_dtype(i, chunk), self.mean[:, None], out=walk.workspace(i, u))
        sums = torch.stack([away.mul_(du).sum((0, 2)), du.sum((0, 2))])
        # in float64 from the second chunk on: adding up many loses digits
        self.sums = sums if self.sums is None else sums.double().add_(self.sums)
        torch.addcmul(above, du, self.scale[:, None], out=out)

    def parameter_grads(self, out: Tensor) -> Tensor:
        if self.sums is None:
            return out.zero_()
        grads = self.sums.to(out.dtype)
        grads[0] *= self.inverse
        return grads

    def through_statistics(self, parameter_grads: Tensor, number: int) -> tuple[Tensor, Tensor]:
        dweight, dbias = parameter_grads * (self.scale / -number)
        slope = dweight * self.inverse
        return slope, torch.addcmul(dbias, slope, self.mean, value=-1)


class Pivot(Identity):
    """u = x - pivot of its image and channel."""

    narrow_factors = False

    def __init__(self, parameters: Sequence[Tensor], eps: float, dtype: torch.dtype) -> None:
        super().__init__(parameters, eps, dtype)
        self.pivot = parameters[0][..., None]  # (B, C, 1), or (1, C, 1) for all images

    def features(self, walk: Walk, i: int, chunk: int) -> Tensor:
        x = walk.any_dtype(i, chunk)
        pivot = walk.groups(self.pivot.expand(walk.maps[i].shape[0], -1, 1), chunk)
        return torch.sub(x, pivot, out=walk.workspace(i, x))


class RMSNorm(Identity):
    """u = x / root mean square over the channels of its position."""

    narrow_factors = False

    inverse: Tensor
    """One over what x was divided by in the last chunk, (G, 1, N)."""

    def features(self, walk: Walk, i: int, chunk: int) -> Tensor:
        x = walk.read(i, chunk)
        if walk.in_cache:
            squares = sum_of_squares(x, 1).div_(x.shape[1])
        else:  # in one pass over x
            variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
            squares = variance.addcmul_(mean, mean)
        return self._divided(x, squares, out=walk.workspace(i, x))

    def _divided(self, x: Tensor, squares: Tensor, out: Tensor) -> Tensor:
        """By the root of the mean squares, (G, 1, N), which are written over."""
        self.inverse = squares.add_(self.eps).rsqrt_()
        return torch.mul(x, self.inverse, out=out)

    def backward(
        self, walk: Walk, i: int, chunk: int, u: Tensor, du: Tensor, above: Tensor, out: Tensor
    ) -> None:
        along = torch.linalg.vecdot(du, u, dim=1)[:, None]
        du.addcmul_(u, along, value=-1 / max(1, u.shape[1])).mul_(self.inverse)
        torch.add(above, du, out=out)


class LayerNorm(RMSNorm):
    """u = (x - mean) / deviation, both over the channels of its position."""

    def features(self, walk: Walk, i: int, chunk: int) -> Tensor:
        x = walk.read(i, chunk)
        out = walk.workspace(i, x)
        if walk.in_cache:
            centred = torch.sub(x, x.mean(1, keepdim=True), out=out)
            # what rounding left in the mean, which all channels share
            centred -= centred.mean(1, keepdim=True)
            variance = sum_of_squares(centred, 1).div_(x.shape[1])
        else:  # in one pass over x
            variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
            centred = torch.sub(x, mean, out=out)
        return self._divided(centred, variance, out=centred)

    def backward(
        self, walk: Walk, i: int, chunk: int, u: Tensor, du: Tensor, above: Tensor, out: Tensor
    ) -> None:
        # u has mean 0 at every position, so this leaves the product of du and u as it is
        du -= du.mean(1, keepdim=True)
        super().backward(walk, i, chunk, u, du, above, out)


KINDS = {
    "none": Identity,
    "batch": BatchNorm,
    "group": Pivot,
    "layer": LayerNorm,
    "rms": RMSNorm,
}


def prologue(kind: str, parameters: Sequence[Tensor], eps: float, dtype: torch.dtype) -> Identity:
    return KINDS[kind](parameters, eps, dtype)
