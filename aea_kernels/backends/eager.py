"""The primitives in PyTorch operations: any device, any dtype, no Triton.

Two shapes of work, each the other's adjoint: an outer product summed over positions, and a matrix applied at every
position. Both walk over boxes of positions small enough to stay in the cache, so a feature map is read once a pass and
nothing of its size is written but the result. Sums run in a fixed order: same inputs, same bits.

What each primitive computes, its shapes and its notation stand in `ops.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .. import folding, norms
from ..layout import acc_dtype, empty_features, empty_positions

BOX_BYTES = 1 << 21
"""Bytes of one box in the accumulation dtype: with its result it fits in the second- and third-level caches."""


# ---- walking over positions -----------------------------------------------------------------------------------------


def _boxes(extents: tuple[int, ...], positions: int) -> Iterator[tuple[slice, ...]]:
    """Boxes of at most `positions` elements that tile `extents`, each contiguous in row-major order, in that order."""
    if 0 in extents:
        return
    axis, inner = len(extents), 1
    while axis > 0 and inner * extents[axis - 1] <= positions:
        axis -= 1
        inner *= extents[axis]
    whole = tuple(slice(0, extent) for extent in extents)
    if axis == 0:
        yield whole
        return
    axis -= 1
    step = max(1, positions // inner)
    for outer in range(math.prod(extents[:axis])):
        singles, rest = [], outer
        for extent in reversed(extents[:axis]):
            rest, i = divmod(rest, extent)
            singles.append(slice(i, i + 1))
        for start in range(0, extents[axis], step):
            stop = min(start + step, extents[axis])
            yield (*reversed(singles), slice(start, stop), *whole[axis + 1 :])


def _merge_spatial(x: Tensor, batch_axes: int) -> Tensor:
    """(*batch, C, S) as a view where the strides allow it, else x as it is."""
    if x.dim() == batch_axes + 2:
        return x
    try:
        return x.view(*x.shape[: batch_axes + 1], math.prod(x.shape[batch_axes + 1 :]))
    except RuntimeError:
        return x


class _Walk:
    """The boxes of feature maps of equal batch and spatial shape, and workspaces of one box each to compute in."""

    def __init__(self, *maps: Tensor, batch_axes: int = 1) -> None:
        merged = [_merge_spatial(x, batch_axes) for x in maps]
        self.maps = merged if all(x.dim() == batch_axes + 2 for x in merged) else list(maps)
        self.batch_axes = batch_axes
        self.dtype = acc_dtype(maps[0].dtype)
        self.extents = (*self.maps[0].shape[:batch_axes], *self.maps[0].shape[batch_axes + 1 :])
        channels = max(1, *(x.shape[batch_axes] for x in maps))
        self.positions = max(64, BOX_BYTES // (channels * self.dtype.itemsize))
        self._workspaces: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[tuple[slice, ...]]:
        return _boxes(self.extents, self.positions)

    def groups(self, matrices: Tensor, box: tuple[slice, ...]) -> Tensor:
        """What belongs to the box, (G, O, C), of one matrix an image, (*batch, O, C): a view."""
        return matrices[box[: self.batch_axes]].flatten(0, self.batch_axes - 1)

    def _part(self, i: int, box: tuple[slice, ...]) -> Tensor:
        return self.maps[i][(*box[: self.batch_axes], slice(None), *box[self.batch_axes :])]

    def _flat(self, i: int, box: tuple[slice, ...]) -> Tensor:
        """Map `i` inside `box` as (G, C, N): a view, or a copy of this box where the strides allow none."""
        part, axes = self._part(i, box), self.batch_axes
        return part.reshape(math.prod(part.shape[:axes]), part.shape[axes], math.prod(part.shape[axes + 1 :]))

    def workspace(self, i: int, like: Tensor) -> Tensor:
        """Workspace `i` in the shape of `like`, (G, C, N), with the same axis innermost."""
        if i not in self._workspaces or self._workspaces[i].numel() < like.numel():
            self._workspaces[i] = torch.empty(like.numel(), dtype=self.dtype, device=like.device)
        groups, channels, positions = like.shape
        flat = self._workspaces[i][: like.numel()]
        if like.stride(1) == 1 and like.stride(2) != 1:
            return flat.view(groups, positions, channels).mT
        return flat.view(groups, channels, positions)

    def read(self, i: int, box: tuple[slice, ...]) -> Tensor:
        """Map `i` inside `box`, (G, C, N), in the accumulation dtype."""
        flat = self._flat(i, box)
        return flat if flat.dtype == self.dtype else self.workspace(i, flat).copy_(flat)

    def result(self, i: int, box: tuple[slice, ...]) -> Tensor:
        """Where to compute the result that `store` puts into map `i`, (G, C, N): in place if the map allows it."""
        flat = self._flat(i, box)
        in_place = flat.dtype == self.dtype and flat.data_ptr() == self._part(i, box).data_ptr()
        return flat if in_place else self.workspace(i, flat)

    def store(self, i: int, box: tuple[slice, ...], values: Tensor) -> None:
        part = self._part(i, box)
        if values.data_ptr() != part.data_ptr():
            part.copy_(values.reshape(part.shape))


# ---- the block's primitives: feature maps x (B, C, *spatial) --------------------------------------------------------


def _scale_and_shift(norm: Sequence[Tensor], eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """BN as one multiplication and one addition a channel, (C,) each."""
    if not norm:
        return None
    weight, bias, mean, variance = (t.double() for t in norm)
    scale = weight / (variance + eps).sqrt()
    return scale.to(dtype), (bias - mean * scale).to(dtype)


Features = Callable[[_Walk, int, tuple[slice, ...]], Tensor]
"""What of a map inside a box, (G, C, N), enters products; it may lie in the map's workspace."""


def _activated(affine: tuple[Tensor, Tensor] | None) -> Features:
    """z = x, or with the affine map of BN its ReLU6."""

    def features(walk: _Walk, i: int, box: tuple[slice, ...]) -> Tensor:
        x = walk.read(i, box)
        if affine is None:
            return x
        scale, shift = affine
        return torch.addcmul(shift[:, None], x, scale[:, None], out=walk.workspace(i, x)).clamp_(0, 6)

    return features


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every box is centred on its own mean before it is squared and the boxes are combined as by Chan, Golub & LeVeque
    (1979), so a large mean costs no digits.
    """
    walk = _Walk(x)
    mean, spread = (torch.zeros(x.shape[1], dtype=torch.float64, device=x.device) for _ in range(2))
    count = 0
    for box in walk:
        values = walk.read(0, box)  # (G, C, N)
        number = values.shape[0] * values.shape[2]
        centre = values.mean((0, 2))
        deviation = torch.sub(values, centre[:, None], out=walk.workspace(-1, values))
        residue = deviation.mean((0, 2)).double()  # what rounding left in `centre`
        squares = deviation.square_().sum((0, 2)).double() - number * residue**2
        delta = centre.double() + residue - mean
        mean = mean + delta * (number / (count + number))
        spread = spread + squares + delta**2 * (count * number / (count + number))
        count += number
    return mean, spread / max(count, 1)


def moments(x: Tensor, norm: Sequence[Tensor], eps: float, references: Tensor | None, reference_images: int) -> Tensor:
    per_image = _gram(x, _activated(_scale_and_shift(norm, eps, acc_dtype(x.dtype))))
    return folding.add_references(folding.sum_groups(per_image, reference_images), references, reference_images)


def _gram(x: Tensor, features: Features) -> Tensor:
    """Moments of z of each image, (B, C+1, C+1)."""
    walk = _Walk(x)
    batch, channels = x.shape[:2]
    gram = x.new_zeros(batch, channels, channels, dtype=walk.dtype)
    total = x.new_zeros(batch, channels, 1, dtype=walk.dtype)
    for box in walk:
        z = features(walk, 0, box)
        walk.groups(gram, box).baddbmm_(z, z.mT)
        walk.groups(total, box).add_(z.sum(-1, keepdim=True))
    count = x.new_full((batch, 1, 1), math.prod(x.shape[2:]), dtype=walk.dtype)
    return torch.cat([torch.cat([gram, total], 2), torch.cat([total.mT, count], 2)], 1)


def attend_to_moments(
    x: Tensor, norm: Sequence[Tensor], eps: float, gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    features = _activated(_scale_and_shift(norm, eps, acc_dtype(x.dtype)))
    return _apply(x, features, matrix, residual=True), matrix


def apply_to_features(x: Tensor, matrix: Tensor) -> Tensor:
    return _apply(x, _activated(None), matrix, residual=False)


def _apply(x: Tensor, features: Features, matrix: Tensor, *, residual: bool) -> Tensor:
    """M zh, plus x with `residual`, for matrix (G, O, C+1)."""
    y = empty_features(x, matrix.shape[1])
    walk = _Walk(x, y)
    matrix = folding.expand_groups(matrix, len(x))
    linear, constant = matrix[..., :-1], matrix[..., -1:]
    for box in walk:
        out = walk.result(1, box)
        if residual:
            torch.add(walk.read(0, box), walk.groups(constant, box), out=out)
        else:
            out.copy_(walk.groups(constant, box).expand_as(out))
        out.baddbmm_(walk.groups(linear, box), features(walk, 0, box))
        walk.store(1, box, out)
    return y


def attend_to_moments_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    gram: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    per_image = _outer(grad_output, x, _activated(_scale_and_shift(norm, eps, acc_dtype(x.dtype))))
    matrix_grad = folding.sum_groups(per_image, reference_images)
    return folding.fold_backward(matrix_grad, gram, references, reference_images, projections, heads, scale)


def _outer(grad_output: Tensor, x: Tensor, features: Features) -> Tensor:
    """Sum of grad_output zh^T over the positions of each image, (B, O, C+1)."""
    walk = _Walk(grad_output, x)
    outer = x.new_zeros(x.shape[0], grad_output.shape[1], x.shape[1], dtype=walk.dtype)
    total = x.new_zeros(x.shape[0], grad_output.shape[1], 1, dtype=walk.dtype)
    for box in walk:
        left, z = walk.read(0, box), features(walk, 1, box)
        walk.groups(outer, box).baddbmm_(left, z.mT)
        walk.groups(total, box).add_(left.sum(-1, keepdim=True))
    return torch.cat([outer, total], 2)


def features_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    batch_statistics: bool,
    matrix: Tensor,
    gram_grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the batch statistics send back is added to grad_x at the end, which is written twice and read once. No
    product is computed twice.
    """
    grad_x = torch.empty_like(x)
    walk = _Walk(grad_output, x, grad_x)
    affine = _scale_and_shift(norm, eps, walk.dtype)
    features = _activated(affine)
    matrix, gram_grad = folding.expand_groups(matrix, len(x)), folding.expand_groups(gram_grad, len(x))
    linear, through_moments = matrix[..., :-1].mT, gram_grad[:, :-1, :-1]
    constant = gram_grad[:, :-1, -1:]
    dweight, dbias = (x.new_zeros(x.shape[1] if norm else 0, dtype=walk.dtype) for _ in range(2))
    mean = norm[2].to(walk.dtype) if norm else None
    for box in walk:
        above = walk.read(0, box)
        z = features(walk, 1, box)
        dz = torch.baddbmm(
            walk.groups(constant, box), walk.groups(through_moments, box), z, out=walk.workspace(-1, z)
        ).baddbmm_(walk.groups(linear, box), above)
        out = walk.result(2, box)
        if affine is None or mean is None:
            torch.add(above, dz, out=out)
        else:
            # z sits on the bounds exactly where ReLU6 has no slope
            torch.ops.aten.hardtanh_backward.grad_input(dz, z, 0, 6, grad_input=dz)
            dbias += dz.sum((0, 2))
            values = torch.sub(walk.read(1, box), mean[:, None], out=walk.workspace(1, z))
            dweight += values.mul_(dz).sum((0, 2))
            torch.addcmul(above, dz, affine[0][:, None], out=out)
        walk.store(2, box, out)
    if mean is not None:
        weight, _, _, variance = (t.to(walk.dtype) for t in norm)
        deviation = (variance + eps).sqrt()
        dweight /= deviation
        if batch_statistics:
            number = max(1, x.numel() // x.shape[1])
            slope = -weight / deviation**2 * dweight / number
            _add_affine(grad_x, x, slope, -weight / deviation * dbias / number - slope * mean)
    return grad_x, torch.stack([dweight, dbias])


def _add_affine(grad_x: Tensor, x: Tensor, slope: Tensor, constant: Tensor) -> None:
    """``grad_x += slope x + constant`` in place, (C,) each."""
    walk = _Walk(grad_x, x)
    for box in walk:
        out = walk.result(0, box)
        torch.add(walk.read(0, box), constant[:, None], out=out)
        out.addcmul_(walk.read(1, box), slope[:, None])
        walk.store(0, box, out)


# ---- the block's primitives with a norm of `norms.py` ---------------------------------------------------------------


pivot, normed_keys = norms.pivot, norms.keys


def _normed(kind: str, eps: float, pivot: Tensor | None) -> Features:
    """u, always in the map's workspace."""

    def features(walk: _Walk, i: int, box: tuple[slice, ...]) -> Tensor:
        x = walk.read(i, box)
        out = walk.workspace(i, x)
        if pivot is not None:
            return torch.sub(x, walk.groups(pivot[..., None].expand(walk.maps[i].shape[0], -1, 1), box), out=out)
        return _over_channels(kind, eps, x, out)[0]

    return features


def _over_channels(kind: str, eps: float, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """u, x (G, C, N) normalised over channels, in `out`; and the inverse deviation or root mean square (G, 1, N)."""
    centred = x
    if kind == "layer":
        centred = torch.sub(x, x.mean(1, keepdim=True), out=out)
        centred -= centred.mean(1, keepdim=True)  # what rounding left in the mean, which all channels share
    squares = torch.linalg.vector_norm(centred, dim=1, keepdim=True).square_()
    inverse = squares.div_(x.shape[1]).add_(eps).rsqrt_()
    return torch.mul(centred, inverse, out=out), inverse


def normed_moments(x: Tensor, kind: str, eps: float, pivot: Tensor | None) -> Tensor:
    return _gram(x, _normed(kind, eps, pivot))


def attend_to_normed(
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    composed = norms.compose(folding.expand_groups(matrix, len(affine)), affine)
    return _apply(x, _normed(kind, eps, pivot), composed, residual=True), matrix


def attend_to_normed_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    matrix: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    composed_grad = _outer(grad_output, x, _normed(kind, eps, pivot))
    matrix_grad, affine_grad = norms.compose_backward(composed_grad, folding.expand_groups(matrix, len(x)), affine)
    matrix_grad = folding.sum_groups(matrix_grad, reference_images)
    gram_grad, *rest = folding.fold_backward(matrix_grad, gram, references, reference_images, projections, heads, scale)
    return [gram_grad, affine_grad, *rest]


def normed_features_backward(
    grad_output: Tensor, x: Tensor, kind: str, eps: float, pivot: Tensor | None, matrix: Tensor, gram_grad: Tensor
) -> Tensor:
    grad_x = torch.empty_like(x)
    walk = _Walk(grad_output, x, grad_x)
    features = _normed(kind, eps, pivot)
    linear, through_moments, constant = matrix[..., :-1].mT, gram_grad[:, :-1, :-1], gram_grad[:, :-1, -1:]
    for box in walk:
        above, inverse = walk.read(0, box), None
        if pivot is None:
            raw = walk.read(1, box)
            u, inverse = _over_channels(kind, eps, raw, walk.workspace(1, raw))
        else:
            u = features(walk, 1, box)
        du = torch.baddbmm(
            walk.groups(constant, box), walk.groups(through_moments, box), u, out=walk.workspace(-1, u)
        ).baddbmm_(walk.groups(linear, box), above)
        if inverse is not None:
            along = torch.linalg.vecdot(du, u, dim=1)[:, None] / x.shape[1]
            if kind == "layer":
                du -= du.mean(1, keepdim=True)
            du = du.addcmul_(u, along, value=-1).mul_(inverse)
        walk.store(2, box, torch.add(above, du, out=walk.result(2, box)))
    return grad_x


# ---- the operators' primitives: a (B, H, N, A), positions before channels -------------------------------------------


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    walk = _Walk(a.mT, b.mT, batch_axes=2)
    outer = a.new_zeros(*a.shape[:2], a.shape[3], b.shape[3], dtype=walk.dtype)
    for box in walk:
        walk.groups(outer, box).baddbmm_(walk.read(0, box), walk.read(1, box).mT)
    return outer


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    y = empty_positions(a, matrix.shape[2])
    walk = _Walk(a.mT, y.mT, batch_axes=2)
    for box in walk:
        out = walk.result(1, box)
        walk.store(1, box, torch.bmm(walk.groups(matrix, box), walk.read(0, box), out=out))
    return y


def apply_matrix_backward(grad_output: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    grad_a = empty_positions(a, a.shape[3])
    walk = _Walk(grad_output.mT, a.mT, grad_a.mT, batch_axes=2)
    matrix_grad = torch.zeros(*a.shape[:2], *matrix.shape[2:], dtype=walk.dtype, device=a.device)
    for box in walk:
        above = walk.read(0, box)
        walk.groups(matrix_grad, box).baddbmm_(above, walk.read(1, box).mT)
        out = walk.result(2, box)
        walk.store(2, box, torch.bmm(walk.groups(matrix, box).mT, above, out=out))
    return grad_a, matrix_grad
