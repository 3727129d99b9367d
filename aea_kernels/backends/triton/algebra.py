"""Launches of the C x C algebra of `block/folding.py` between the passes; what is too wide for
kernels stays there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...block import folding
from ...block.spec import Projections
from ...core.tracer import allocated
from . import kernels
from .launching import launch
from .operands import contiguous, math_of
from .tiles import FOLD_CHANNELS, FOLD_GROUPS, power_of_two


class Channels(NamedTuple):
    """Channels of the block, and of one head."""

    C: int
    O: int  # noqa: E741
    """Outputs."""
    E: int
    """Of keys."""
    D: int
    """Of values."""
    heads: int


class Blocks(NamedTuple):
    """Powers of two that hold these channels, known when a kernel is compiled."""

    C: int
    O: int  # noqa: E741
    E: int
    D: int


def _algebra(gram: Tensor, weights: Projections, heads: int) -> dict[str, Any] | None:
    """The arguments that the kernels of the C x C algebra share; None where they are too wide for
    kernels.
    """
    # E and D are those of one head: a head is folded by itself
    outputs = weights.output_bias.shape[0]
    keys, values = weights.key_bias.shape[0] // heads, weights.value_bias.shape[0] // heads
    sizes = Channels(gram.shape[1] - 1, outputs, keys, values, heads)

    # a program holds all of C, O, E and D at once
    channels = sizes[:4]
    if max(channels) > FOLD_CHANNELS:
        return None

    # few products, so on ordinary units: no factor is rounded
    return {
        "device": gram.device,
        "warps": 8 if sizes.C > 32 else 4,
        "stages": 2,
        "gram": gram,
        "weights": weights,
        "sizes": sizes,
        "MATH": math_of(gram.dtype, "ieee"),
        "BLOCKS": Blocks(*map(power_of_two, channels)),
    }


def fold(gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float) -> Tensor:
    # kernels take dense weights; what is too wide for them PyTorch multiplies
    weights = Projections(*contiguous(projections))
    shared = _algebra(gram, weights, heads)
    if shared is None:
        return folding.fold(gram, projections, heads, scale)

    # a program computes 8 columns of M of one group
    shape = gram.shape[0], weights.output_bias.shape[0], gram.shape[2]
    matrix = allocated(gram.new_empty(shape))
    launch(
        kernels.fold_kernel,
        gram.shape[0] * -(-gram.shape[2] // 8),
        workspace=matrix.nbytes,
        matrix=matrix,
        SCALE=scale,
        BLOCK=8,
        **shared,
    )
    return matrix


def fold_backward(
    matrix_grad: Tensor,
    gram: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    # many groups are left to PyTorch too: kernels add them up one after the other
    groups, number = gram.shape[0], 0 if references is None else references.shape[0]
    weights = Projections(*contiguous(projections))
    shared = _algebra(gram, weights, heads)
    if shared is None or not 0 < groups <= FOLD_GROUPS:
        return folding.fold_backward(
            matrix_grad, gram, references, reference_images, projections, heads, scale
        )

    # 16 columns a program, in two launches
    shared |= {"matrix_grad": matrix_grad, "groups": groups, "BLOCK": 16}
    sizes = shared["sizes"]

    # as few as give a thread the registers it needs: ptxas limits more warps to 128
    warps = 8 if sizes.C > 64 else 2 if 16 < sizes.C <= 32 else 4

    # first T and dT of every group and head, which all the gradients are made of
    scores = allocated(gram.new_empty(2, groups, heads, sizes.D, sizes.E))
    launch(
        kernels.scores_kernel,
        2 * groups * heads * -(-sizes.E // 16),
        workspace=scores.nbytes,
        scores=scores,
        SCALE=scale,
        **shared,
    )

    # then every gradient: a program computes columns of one of them
    width = gram.shape[2]
    of_moments, of_references = groups * -(-width // 16), -(-number // 16)
    of_weights = 4 * heads * -(-max(width, sizes.D) // 16)
    gram_grad = allocated(torch.empty_like(gram))
    references_shape = (0,) if references is None else references.shape
    references_grad = allocated(gram.new_empty(references_shape))
    weights_grad = Projections(*(allocated(gram.new_empty(p.shape)) for p in projections))
    launch(
        kernels.fold_backward_kernel,
        of_moments + of_references + of_weights,
        workspace=sum(t.nbytes for t in (gram_grad, references_grad, *weights_grad)),
        scores=scores,
        # of no references nothing is read: any tensor will do
        references=gram if references is None else references.contiguous(),
        gram_grad=gram_grad,
        references_grad=references_grad,
        weights_grad=weights_grad,
        reference_images=min(reference_images, groups),
        references_number=number,
        **(shared | {"warps": warps}),
    )
    return [gram_grad, references_grad, *weights_grad]
