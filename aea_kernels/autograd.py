"""The torch.autograd.Functions: which primitives run forward, which backward, and what is kept between.

Kept for backward: the inputs and C x C matrices. First derivatives run on the fused primitives; a backward that must
itself be differentiable (``create_graph=True``) runs on operations that are differentiable in terms of each other.
A backward pass runs on the backend of its forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import folding, ops
from .parameters import Projections
from .summary import sum_over_processes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def _differentiable() -> bool:
    """Whether the running backward pass must have derivatives in turn."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


class OuterSum(torch.autograd.Function):
    """Sum over positions of a b^T: a (B, H, N, A), b (B, H, N, E) -> (B, H, A, E), accumulation dtype."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.backend = backend
        return ops.outer_sum(a, b, backend)

    @staticmethod
    def backward(ctx: Any, douter: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        apply = ApplyMatrix.apply if _differentiable() else ops.apply_matrix
        da = apply(b, douter, ctx.backend) if ctx.needs_input_grad[0] else None
        db = apply(a, douter.mT, ctx.backend) if ctx.needs_input_grad[1] else None
        return da, db, None


class ApplyMatrix(torch.autograd.Function):
    """M a at every position: a (B, H, N, A), M (B, H, O, A) in the accumulation dtype -> (B, H, N, O) in a's dtype."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, matrix: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(a, matrix)
        ctx.backend = backend
        return ops.apply_matrix(a, matrix, backend)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        a, matrix = ctx.saved_tensors
        needs_a, needs_matrix, _ = ctx.needs_input_grad
        if needs_a and needs_matrix and not _differentiable():
            return *ops.apply_matrix_backward(dy, a, matrix, ctx.backend), None
        apply, outer = (ApplyMatrix.apply, OuterSum.apply) if _differentiable() else (ops.apply_matrix, ops.outer_sum)
        da = apply(dy, matrix.mT, ctx.backend) if needs_a else None
        return da, outer(dy, a, ctx.backend) if needs_matrix else None, None


class MomentsOf(torch.autograd.Function):
    """Sum over positions of xh xh^T: x (B, C, *spatial) -> (B, C+1, C+1), accumulation dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.backend = backend
        return ops.moments(x, [], 0.0, None, x.shape[0], backend)

    @staticmethod
    def backward(ctx: Any, dgram: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        pull = (dgram + dgram.mT)[:, :-1]  # (B, C, C+1)
        if not _differentiable():
            return ops.apply_to_features(x, [], 0.0, pull, False, ctx.backend), None
        flat = x.flatten(2).to(pull.dtype)
        return (pull[..., :-1] @ flat + pull[..., -1:]).reshape(x.shape).to(x.dtype), None


class BlockSpec(NamedTuple):
    """What of the block is not a tensor."""

    heads: int
    scale: float
    own: int
    """How many images, from the first, take the reference branch; the others share their keys (Section 5.1)."""
    eps: float
    """BN's."""
    batch_statistics: bool
    """BN's mean and variance come from x."""
    group: ProcessGroup | None
    """The processes over which the batch-aware keys are pooled."""
    backend: str


class AttentionBlock(torch.autograd.Function):
    """``y = x + M zh``: BN, ReLU6, projections, both branches, output projection and residual (Fig. 3).

    Tensors: x (B, C, *spatial); weight, bias, mean and variance of BN (C,), None where there is no BN or x gives them;
    references (R, C) or None; the four projections. Returns y and, where they come from x, mean and biased variance.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        references: Tensor | None,
        spec: BlockSpec,
        *projections: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        heads, scale, own, eps, batch_statistics, group, backend = spec
        if batch_statistics:
            mean, variance = ops.statistics(x, backend)
        norm = _norm(weight, bias, mean, variance)
        gram = ops.moments(x, norm, eps, references, own, backend)
        gram = _pool_over_processes(gram, own, group)
        matrix = ops.fold(gram, projections, heads, scale, backend)
        y = ops.apply_to_features(x, norm, eps, matrix, True, backend)
        ctx.save_for_backward(x, weight, bias, mean, variance, references, *projections, gram, matrix)
        ctx.spec = spec
        if not batch_statistics:
            return y, None, None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _dmean: Tensor | None, _dvariance: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, variance, references, *projections, gram, matrix = ctx.saved_tensors
        heads, scale, own, eps, batch_statistics, group, backend = ctx.spec
        if _differentiable():
            inputs = (x, weight, bias, mean, variance, references, None, *projections)
            return _differentiable_backward(dy, inputs, ctx.needs_input_grad, ctx.spec)
        norm = _norm(weight, bias, mean, variance)
        dmatrix = ops.outer_with_features(dy, x, norm, eps, own, backend)
        pull, dreferences, *dprojections = ops.fold_backward(
            dmatrix, gram, references, own, projections, heads, scale, backend
        )
        pull = _pool_over_processes(pull, own, group)
        dx, dweight, dbias = ops.features_backward(dy, x, norm, eps, batch_statistics, matrix, pull, backend)
        return (
            dx,
            dweight if norm else None,
            dbias if norm else None,
            None,
            None,
            None if references is None else dreferences,
            None,
            *dprojections,
        )


def _norm(*norm: Tensor | None) -> list[Tensor]:
    """[weight, bias, mean, variance], or [] where there is no BN."""
    return [t for t in norm if t is not None]


def _pool_over_processes(matrices: Tensor, own: int, group: ProcessGroup | None) -> Tensor:
    """(G, ...) -> (G, ...): the shared group summed over the processes; its own adjoint."""
    if group is None or matrices.shape[0] == own:
        return matrices
    return torch.cat([matrices[:own], sum_over_processes(matrices[own:], group)])


def _differentiable_backward(
    dy: Tensor, inputs: tuple[Any, ...], needed: tuple[bool, ...], spec: BlockSpec
) -> tuple[Tensor | None, ...]:
    """The gradients by autograd through the block in plain operations, so that they have gradients in turn."""
    with torch.autocast(dy.device.type, enabled=False):
        y = _plain_block(inputs, spec)
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
        gradients = iter(torch.autograd.grad(y, wanted, dy, create_graph=True, allow_unused=True))
    return tuple(next(gradients) if need else None for need in needed)


def _plain_block(inputs: tuple[Any, ...], spec: BlockSpec) -> Tensor:
    x, weight, bias, mean, variance, references, _, *rest = inputs
    projections = Projections(*rest)
    z = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))  # (B, C, S)
    if weight is not None:
        if spec.batch_statistics:
            mean = z.mean((0, 2))
            variance = ((z - mean[:, None]) ** 2).mean((0, 2))
        z = (z - mean[:, None]) / (variance + spec.eps).sqrt()[:, None]
        z = torch.nn.functional.relu6(z * weight[:, None] + bias[:, None])
    zh = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    gram = folding.add_references(folding.gather(zh @ zh.mT, spec.own), references, spec.own)
    gram = _pool_over_processes(gram, spec.own, spec.group)
    matrix = folding.fold(gram, projections, spec.heads, spec.scale)
    return x + (folding.spread(matrix, x.shape[0]) @ zh).reshape(x.shape).to(x.dtype)
