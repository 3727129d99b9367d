"""The torch.autograd.Functions: which primitives run forward, which backward, and what is kept between.

Kept for backward: the inputs and C x C matrices. First derivatives run on the fused primitives; a backward that must
itself be differentiable (``create_graph=True``) runs on operations that are differentiable in terms of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .backends import primitives
from .folding import Folded, Projections, fold, fold_backward, homogeneous
from .summary import sum_over_processes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def _own_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Autocast stays outside: the precision inside is the accumulation dtype's, whatever the caller's context."""

    @wraps(method)
    def wrapper(ctx: FunctionCtx, first: Tensor, *rest: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return method(ctx, first, *rest)

    return wrapper


class OuterSum(torch.autograd.Function):
    """Sum over positions of a b^T: a (B, H, N, A), b (B, H, N, E) -> (B, H, A, E), accumulation dtype."""

    @staticmethod
    @_own_precision
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return primitives(a.device).outer_sum(a, b)

    @staticmethod
    @_own_precision
    def backward(ctx: Any, douter: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        da = ApplyMatrix.apply(b, douter) if ctx.needs_input_grad[0] else None
        db = ApplyMatrix.apply(a, douter.mT) if ctx.needs_input_grad[1] else None
        return da, db


class ApplyMatrix(torch.autograd.Function):
    """M a at every position: a (B, H, N, A), M (B, H, O, A) in the accumulation dtype -> (B, H, N, O) in a's dtype."""

    @staticmethod
    @_own_precision
    def forward(ctx: Any, a: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(a, matrix)
        ctx.primitives = primitives(a.device)
        return ctx.primitives.apply_matrix(a, matrix)

    @staticmethod
    @_own_precision
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, matrix = ctx.saved_tensors
        if all(ctx.needs_input_grad) and not torch.is_grad_enabled():
            return ctx.primitives.apply_matrix_backward(dy, a, matrix)
        da = ApplyMatrix.apply(dy, matrix.mT) if ctx.needs_input_grad[0] else None
        dmatrix = OuterSum.apply(dy, a) if ctx.needs_input_grad[1] else None
        return da, dmatrix


class MomentsOf(torch.autograd.Function):
    """Sum over positions of xh xh^T: x (B, C, *spatial) -> (B, C+1, C+1), accumulation dtype."""

    @staticmethod
    @_own_precision
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.primitives = primitives(x.device)
        return ctx.primitives.moments(x, None)

    @staticmethod
    @_own_precision
    def backward(ctx: Any, dgram: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        pull = (dgram + dgram.mT)[:, :-1]  # (B, C, C+1)
        if not torch.is_grad_enabled():
            return ctx.primitives.apply_to_features(x, None, pull, residual=False)
        flat = x.flatten(2).to(pull.dtype)
        return (pull[..., :-1] @ flat + pull[..., -1:]).reshape(x.shape).to(x.dtype)


class BlockSpec(NamedTuple):
    """What of the block is not a tensor."""

    heads: int
    scale: float
    reference_images: int
    """How many images, from the first, take the reference branch; the others share their keys (Section 5.1)."""
    batch_statistics_eps: float | None
    """BN's eps where its statistics come from x; None: weight and bias are BN's scale and shift already."""
    group: ProcessGroup | None
    """The processes over which the batch-aware keys are pooled."""


class Keys(NamedTuple):
    """Which keys each image sees: one group for each image of the reference branch, one for all the others."""

    images: int
    spec: BlockSpec

    def pool(self, gram: Tensor, references: Tensor) -> Tensor:
        """Moments of the images (B, C+1, C+1) and references (R, C+1) -> moments of the keys (G, C+1, C+1)."""
        own, shared = self._split(self.gather(gram))
        return self.reduce(torch.cat([own + references.mT @ references, shared]))

    def spread(self, matrices: Tensor) -> Tensor:
        """(G, ...) -> (B, ...): every image gets the matrix of its keys."""
        own, shared = self._split(matrices)
        return torch.cat([own, shared.expand(self.images - len(own), -1, -1)])

    def gather(self, matrices: Tensor) -> Tensor:
        """The adjoint of `spread`, (B, ...) -> (G, ...)."""
        own, shared = self._split(matrices)
        return torch.cat([own, shared.sum(0, keepdim=True)]) if len(shared) else own

    def reduce(self, matrices: Tensor) -> Tensor:
        """(G, ...) -> (G, ...): the shared keys summed over the processes of the group; its own adjoint."""
        own, shared = self._split(matrices)
        if self.spec.group is None or len(shared) == 0:
            return matrices
        return torch.cat([own, sum_over_processes(shared, self.spec.group)])

    def _split(self, matrices: Tensor) -> tuple[Tensor, Tensor]:
        return matrices[: self.spec.reference_images], matrices[self.spec.reference_images :]


class AttentionBlock(torch.autograd.Function):
    """``y = x + M zh``: BN, ReLU6, projections, both branches, output projection and residual (Fig. 3).

    Tensors: x (B, C, *spatial); weight and bias of BN (C,) or None; references (R, C) as they are; the four projections
    in homogeneous coordinates. Returns y and, where BN takes its statistics from x, their mean and biased variance.
    """

    @staticmethod
    @_own_precision
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        references: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        spec: BlockSpec,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        backend: ModuleType = primitives(x.device)
        projections = Projections(query, key, value, output)
        mean = variance = None
        norm = None if weight is None or bias is None else (weight, bias)
        if norm is not None and spec.batch_statistics_eps is not None:
            mean, variance = backend.statistics(x)
            norm = _scale_and_shift(*norm, mean, variance, spec.batch_statistics_eps)
        keys = Keys(len(x), spec)
        gram = keys.pool(backend.moments(x, norm), homogeneous(references))
        folded = fold(gram, projections, heads=spec.heads, scale=spec.scale)
        y = backend.apply_to_features(x, norm, keys.spread(folded.matrix), residual=True)
        ctx.save_for_backward(x, weight, bias, references, *projections, mean, variance, gram, *folded)
        ctx.backend, ctx.spec = backend, spec
        if mean is not None and variance is not None:
            ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @_own_precision
    def backward(ctx: Any, dy: Tensor, _dmean: Tensor | None, _dvariance: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, references, *rest = ctx.saved_tensors
        projections = Projections(*rest[:4])
        inputs = (x, weight, bias, references, *projections)
        if torch.is_grad_enabled():
            return (*_differentiable_backward(dy, inputs, ctx.needs_input_grad, ctx.spec), None)
        mean, variance, gram = rest[4:7]
        folded = Folded(*rest[7:])
        spec, backend, keys = ctx.spec, ctx.backend, Keys(len(x), ctx.spec)
        norm = None if weight is None else (weight, bias)
        if mean is not None:
            norm = _scale_and_shift(weight, bias, mean, variance, spec.batch_statistics_eps)

        dmatrix = keys.gather(backend.outer_with_features(dy, x, norm))
        dgram, dprojections = fold_backward(dmatrix, gram, folded, projections, heads=spec.heads, scale=spec.scale)
        pull = keys.reduce(dgram + dgram.mT)
        dreferences = homogeneous(references) @ pull[: spec.reference_images].sum(0)
        deviation = None if mean is None else (variance + spec.batch_statistics_eps).sqrt()
        number = max(1, x.numel() // x.shape[1])

        def through_statistics(dscale: Tensor, dshift: Tensor) -> tuple[Tensor, Tensor]:
            """BN is weight (x - mean) / deviation + bias, with mean and deviation functions of x."""
            assert deviation is not None
            slope = -weight * dscale / deviation**3 / number
            constant = -weight * dshift / deviation / number - slope * mean
            return slope.to(gram.dtype), constant.to(gram.dtype)

        dx, dnorm = backend.features_backward(
            dy,
            x,
            norm,
            keys.spread(folded.matrix),
            keys.spread(pull),
            centre=mean,
            through_statistics=None if mean is None else through_statistics,
        )
        dweight, dbias = (None, None) if dnorm is None else dnorm
        if deviation is not None:
            dweight = (dweight / deviation).to(gram.dtype)
        return (dx, dweight, dbias, dreferences[:, :-1], *dprojections, None)


def _scale_and_shift(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """BN as one multiplication and one addition a channel."""
    scale = weight / (variance + eps).sqrt()
    return scale.to(weight.dtype), (bias - mean * scale).to(weight.dtype)


def _differentiable_backward(
    dy: Tensor, inputs: tuple[Any, ...], needed: tuple[bool, ...], spec: BlockSpec
) -> tuple[Tensor | None, ...]:
    """The gradients by autograd through the block in plain operations, so that they have gradients in turn."""
    x, weight, bias, references, *rest = inputs
    projections = Projections(*rest)
    z = x.flatten(2).to(projections.output.dtype)  # (B, C, S)
    if weight is not None and bias is not None:
        if spec.batch_statistics_eps is not None:
            mean = z.mean((0, 2), keepdim=True)
            variance = ((z - mean) ** 2).mean((0, 2), keepdim=True)
            z = (z - mean) / (variance + spec.batch_statistics_eps).sqrt()
        z = torch.nn.functional.relu6(z * weight[:, None] + bias[:, None])
    zh = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    keys = Keys(len(x), spec)
    gram = keys.pool(zh @ zh.mT, homogeneous(references))
    folded = fold(gram, projections, heads=spec.heads, scale=spec.scale)
    y = x + (keys.spread(folded.matrix) @ zh).reshape(x.shape).to(x.dtype)
    wanted = [t for t, need in zip(inputs, needed, strict=False) if need and t is not None]
    gradients = iter(torch.autograd.grad(y, wanted, dy, create_graph=True, allow_unused=True))
    return tuple(next(gradients) if need and t is not None else None for t, need in zip(inputs, needed, strict=False))
