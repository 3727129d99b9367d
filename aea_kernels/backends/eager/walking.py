"""Walking over positions in chunks: what every primitive of this backend does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...core.dtypes import acc_dtype
from . import bfloat16

CHUNK_BYTES = 1 << 21
"""Of one chunk on a CPU, in the accumulation dtype: with its result it fits in the second- and
third-level caches.
"""
CHUNK_BYTES_BFLOAT16 = 1 << 22
"""The same where factors stay in bfloat16, whose products gain by longer rows."""
SPLIT_POSITIONS = 4096
"""Over so many at a time a product sums on a GPU: one matrix product over all positions of an image
keeps few multiprocessors busy.
"""
PIECE_POSITIONS = 512
"""Over at most so many at a time a narrow product sums on a CPU, where it may add one position
after the other: n like numbers then lose up to 3e-8 n of their sum.
"""
NARROW = 64
"""Products of maps with more channels sum in pieces by themselves."""
FEW_IMAGES = 16
"""As many images with heads in one chunk are copied into it where strides ask for it; fewer have a
chunk each.
"""


def _merged(x: Tensor, batch_axes: int) -> Tensor:
    """(*batch, C, *spatial) as a view (G, C, S) where the strides allow it, else x as it is."""
    if x.dim() == 3:
        return x
    batch, (channels, *spatial) = x.shape[:batch_axes], x.shape[batch_axes:]
    try:
        return x.view(math.prod(batch), channels, math.prod(spatial))
    except RuntimeError:
        return x


def sum_of_squares(x: Tensor, axis: int) -> Tensor:
    """Over one axis, which stays with size 1. PyTorch's norm is fast over the innermost axis
    only, and adds one number after the other.
    """
    if x.stride(axis) != 1:
        return x.square().sum(axis, keepdim=True)
    size = x.shape[axis]
    if axis % x.dim() != x.dim() - 1 or size < 2 * PIECE_POSITIONS:
        return torch.linalg.vector_norm(x, dim=axis, keepdim=True).square_()
    last = size - size % PIECE_POSITIONS
    pieces = x[..., :last].unflatten(-1, (-1, PIECE_POSITIONS))
    total = torch.linalg.vector_norm(pieces, dim=-1).square_().sum(-1, keepdim=True)
    left = torch.linalg.vector_norm(x[..., last:], dim=-1, keepdim=True)
    return total.addcmul_(left, left)


def stays_in_cache(device: torch.device) -> bool:
    """Whether a walk has chunks that stay in a CPU's cache.

    On any other device a call costs the host more than it saves, so there is one chunk.
    """
    return device.type == "cpu"


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """a b^T, the sum over positions, (G, A, C), for a (G, A, N) and b (G, C, N); float32 for
    factors in bfloat16.
    """
    if a.dtype == torch.bfloat16:
        return bfloat16.sum_of_products(a, b)

    # few positions are one product; on a CPU also wide maps, which sum in pieces by themselves
    groups, _, positions = a.shape
    on_cpu = stays_in_cache(a.device)
    wide = min(a.shape[1], b.shape[1]) > NARROW
    piece = PIECE_POSITIONS if on_cpu else SPLIT_POSITIONS
    if positions <= piece or (on_cpu and wide):
        return torch.bmm(a, b.mT)
    least = -(-positions // piece)
    if on_cpu and groups > 1:
        # pieces of several images in one product would be copies
        if groups < least:
            images = zip(a.split(1), b.split(1), strict=True)
            return torch.cat([sum_of_products(left, right) for left, right in images])
        pieces = zip(a.split(piece, 2), b.split(piece, 2), strict=True)
        return torch.stack([torch.bmm(left, right.mT) for left, right in pieces]).sum(0)

    # one batched product of all splits, then the positions that are left
    splits = next((n for n in range(least, 2 * least) if positions % n == 0), least)
    size = positions // splits
    last = splits * size
    left, right = (t[..., :last].unflatten(2, (splits, size)).transpose(1, 2) for t in (a, b))
    total = (left @ right.mT).sum(1)
    if last < positions:  # as a sum of its own: one by one to the total would lose digits
        total += torch.bmm(a[..., last:], b[..., last:].mT)
    return total


def sum_over_positions(x: Tensor, out: Tensor | None = None) -> Tensor:
    """(G, C, N) -> (G, C, 1), float32 for bfloat16."""
    if x.dtype == torch.bfloat16:
        total = bfloat16.sum_over_positions(x)
        return total if out is None else out.copy_(total)
    return torch.sum(x, -1, keepdim=True, out=out)


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a b^T`` in place, as `sum_of_products`; `total` may have more digits."""
    total.add_(sum_of_products(a, b))


def add_constants(x: Tensor, constants: Tensor, out: Tensor) -> None:
    """out = x + constants, for x and out (G, C, N) and constants (G or 1, C, 1)."""
    if out.dtype == torch.bfloat16:
        bfloat16.add_constants(x, constants, out)
    else:
        torch.add(x, constants, out=out)


def add_matrix_product(out: Tensor, matrix: Tensor, x: Tensor) -> None:
    """``out += matrix x`` in place, for (G, O, N), (G, O, C) and (G, C, N)."""
    if out.dtype == torch.bfloat16:
        bfloat16.add_matrix_product(out, matrix, x)
    else:
        out.baddbmm_(matrix, x)


class Walk:
    """The chunks of feature maps of equal batch and spatial shape, and workspaces of one chunk each
    to compute in.

    Chunks tile batch and space in row-major order, each contiguous in it. They are numbered in that
    order.

    Args:
        maps: (*batch, C, *spatial) each.
        batch_axes: how many axes the batch has.
        narrow_factors: whether factors of products may stay in bfloat16, see `bfloat16.suits`.
    """

    def __init__(self, *maps: Tensor, batch_axes: int = 1, narrow_factors: bool = False) -> None:
        # batch and space are one axis each where the strides of all maps allow it
        merged = [_merged(x, batch_axes) for x in maps]
        whole = all(x.dim() == 3 for x in merged)
        self.maps = merged if whole else list(maps)
        self.dtype = acc_dtype(maps[0].dtype)
        self._matrix_axes, self._batch_axes = batch_axes, 1 if whole else batch_axes

        # chunks tile batch and space; every chunk has all channels
        shape = self.maps[0].shape
        extents = (*shape[: self._batch_axes], *shape[self._batch_axes + 1 :])
        positions = math.prod(extents)
        channels = [x.shape[batch_axes] for x in maps]
        of_image = math.prod(extents[self._batch_axes :])

        # how many positions a chunk has room for: outside of a CPU all there are
        self.in_bfloat16 = narrow_factors and bfloat16.suits(maps[0], of_image, min(channels))
        """Whether factors of products are in bfloat16, and else in `dtype`."""
        self.in_cache = stays_in_cache(maps[0].device)
        if self.in_bfloat16:
            room = CHUNK_BYTES_BFLOAT16 // (max(channels) * self.factor_dtype.itemsize)
            positions = min(max(64, room), bfloat16.MOST_POSITIONS)
        elif self.in_cache:
            positions = max(64, CHUNK_BYTES // (max(1, *channels) * self.dtype.itemsize))

        # axes with positions of a part and number of parts; how many chunks there are, and how many
        # of them belong to the same images
        self._parted: list[tuple[int, int, int]] = []
        self._chunks, self._chunks_of_images = 0 if 0 in extents else 1, 1

        # from the last on, axes are whole in every chunk as long as they fit; the next is parted,
        # the others one by one
        for axis in range(len(extents) - 1, -1, -1):
            if axis == 0 and self._batch_axes > 1 and positions < FEW_IMAGES:
                positions = 1  # a chunk of several images would be a copy
            if extents[axis] > positions:
                count = -(-extents[axis] // positions)
                self._parted.insert(0, (axis, positions, count))
                self._chunks *= count
                self._chunks_of_images *= count if axis >= self._batch_axes else 1
                positions = 1
            else:
                positions //= max(1, extents[axis])

        several = self._chunks_of_images > 1
        self.sum_dtype = torch.float64 if several else self.dtype
        """Of sums over positions: adding up many chunks loses digits in float32."""

        # by map or workspace: made where a chunk first asks for it
        self._parts: dict[int, list[Tensor]] = {}
        self._factors: dict[int, tuple[int, Tensor]] = {}  # the last chunk of each map
        self._workspaces: dict[tuple[int, torch.dtype], Tensor] = {}
        self._in_place: dict[int, bool] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._chunks))

    def __len__(self) -> int:
        return self._chunks

    @property
    def factor_dtype(self) -> torch.dtype:
        """Of factors of products, and of what is added to them."""
        return torch.bfloat16 if self.in_bfloat16 else self.dtype

    def begins(self, chunk: int) -> bool:
        """Whether it is the first chunk of its images."""
        return chunk % self._chunks_of_images == 0

    def groups(self, matrices: Tensor, chunk: int) -> Tensor:
        """What belongs to the chunk, (G, O, C), of one matrix an image, (*batch, O, C): a view."""
        if self._batch_axes < self._matrix_axes:
            matrices = matrices.flatten(0, self._matrix_axes - 1)
        images = chunk // self._chunks_of_images
        for axis, step, count in reversed(self._parted):
            if axis < self._batch_axes:
                images, i = divmod(images, count)
                matrices = matrices.narrow(
                    axis, i * step, min(step, matrices.shape[axis] - i * step)
                )
        return matrices if self._batch_axes == 1 else matrices.flatten(0, self._batch_axes - 1)

    def _part(self, i: int, chunk: int) -> Tensor:
        """Map `i` inside `chunk`: a view."""
        if i not in self._parts:
            parts = [self.maps[i]]
            for axis, step, _ in self._parted:
                parts = [
                    p for part in parts for p in part.split(step, axis + (axis >= self._batch_axes))
                ]
            self._parts[i] = parts
        return self._parts[i][chunk]

    def _flat(self, part: Tensor) -> Tensor:
        """A part of a map as (G, C, N): a view, or a copy of this chunk where the strides allow
        none.
        """
        if part.dim() == 3:
            return part
        axes = self._batch_axes
        return part.reshape(
            math.prod(part.shape[:axes]), part.shape[axes], math.prod(part.shape[axes + 1 :])
        )

    def workspace(self, i: int, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Workspace `i` in the shape of `like`, (G, C, N), with the same axis innermost; in the
        accumulation dtype, or in another.
        """
        key = i, dtype or self.dtype
        if key not in self._workspaces or self._workspaces[key].numel() < like.numel():
            self._workspaces[key] = torch.empty(like.numel(), dtype=key[1], device=like.device)
        flat = self._workspaces[key]
        flat = flat if flat.numel() == like.numel() else flat[: like.numel()]
        groups, channels, positions = like.shape
        if like.stride(1) == 1 and like.stride(2) != 1:
            return flat.view(groups, positions, channels).mT
        return flat.view(groups, channels, positions)

    def read(self, i: int, chunk: int) -> Tensor:
        """Map `i` inside `chunk`, (G, C, N), in the accumulation dtype."""
        flat = self._flat(self._part(i, chunk))
        return flat if flat.dtype == self.dtype else self.workspace(i, flat).copy_(flat)

    def factor(self, i: int, chunk: int) -> Tensor:
        """As `read`, in the dtype of factors of products."""
        if not self.in_bfloat16:
            return self.read(i, chunk)
        last = self._factors.get(i)
        if last is None or last[0] != chunk:
            flat = self._flat(self._part(i, chunk))
            if not bfloat16.is_dense(flat):
                flat = self.workspace(i, flat, flat.dtype).copy_(flat)
            last = self._factors[i] = chunk, flat
        return last[1]

    def result(self, i: int, chunk: int) -> Tensor:
        """Where to compute the result that `store` puts into map `i`, (G, C, N), in the dtype of
        factors: in place if the map allows it.
        """
        part = self._part(i, chunk)
        flat = self._flat(part)
        in_place = flat.dtype == self.factor_dtype and flat.data_ptr() == part.data_ptr()
        in_place &= not self.in_bfloat16 or bfloat16.is_dense(flat)
        self._in_place[i] = in_place
        return flat if in_place else self.workspace(i, flat, self.factor_dtype)

    def any_dtype(self, i: int, chunk: int) -> Tensor:
        """As `read`, for operations that read any dtype: only a CPU is faster with a copy."""
        if self.in_bfloat16:
            return self.factor(i, chunk)
        if self.in_cache:
            return self.read(i, chunk)
        return self._flat(self._part(i, chunk))

    def after_product(self, i: int, chunk: int, values: Tensor) -> Tensor:
        """As `any_dtype`, where `read` gave `values` before: outside of a CPU that makes room."""
        if self.in_cache:
            return values
        self._workspaces.pop((i, self.dtype), None)
        return self._flat(self._part(i, chunk))

    def destination(self, i: int, chunk: int) -> Tensor:
        """As `result`, for an operation that writes any dtype: outside of a CPU in place."""
        part = self._part(i, chunk)
        flat = self._flat(part)
        if self.in_cache or flat.data_ptr() != part.data_ptr():
            return self.result(i, chunk)
        self._in_place[i] = True
        return flat

    def store(self, i: int, chunk: int, values: Tensor) -> None:
        """Put what the last call of `result` or `destination` gave into its map."""
        if not self._in_place[i]:
            part = self._part(i, chunk)
            part.copy_(values.reshape(part.shape))
