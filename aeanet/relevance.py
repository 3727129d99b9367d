"""What the shared references look for: their relevance q(x) . k(R) at each position of an image, the paper's Fig. 5."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from aea_kernels import AugmentedAttention
from aeanet.model import UShape
from aeanet.prediction import restore


class RelevanceError(ValueError):
    """A model without references; the message is one sentence for the user."""


def relevance_maps(model: UShape, image: NDArray) -> NDArray[np.float32]:
    """(R, ceil(H / 4), ceil(W / 4)) of an image (H, W) on the grid of the result, as `prediction.restore` takes it.

    The positions are those of the attention at the network's bottom, each of which stands for 4 x 4 pixels.
    Raises RelevanceError if the model has no references.
    """
    block = getattr(model, "bottom", None)
    if not isinstance(block, AugmentedAttention) or block.references is None:
        raise RelevanceError(
            f"the model {model.config['name']!r} has no shared references, so there is no relevance to show: "
            "take an aeanet trained with references."
        )
    found: list[torch.Tensor] = []
    hook = block.register_forward_pre_hook(lambda block, inputs: found.append(block.relevance(inputs[0])))
    try:
        restore(model, image)
    finally:
        hook.remove()
    return found[0][0].float().cpu().numpy()


def most_varied(maps: Sequence[NDArray], number: int) -> list[int]:
    """The references that together tell most about the images, most telling first.

    The first is the one whose relevance has the largest variance over all positions of all images; each further one has
    the largest variance left once what the chosen ones explain linearly is taken out (pivoted Cholesky decomposition of
    the maps' covariance, Higham 1990).

    Args:
        maps: (R, h, w) for each image.
        number: how many, at most R; fewer are returned where no variance is left.
    """
    positions = sum(of_image[0].size for of_image in maps)
    mean = sum(of_image.sum(axis=(1, 2), dtype=np.float64) for of_image in maps) / positions
    flat = [of_image.reshape(len(of_image), -1) - mean[:, None] for of_image in maps]
    covariance = sum(centred @ centred.T for centred in flat) / positions
    chosen: list[int] = []
    least = 1e-9 * covariance.diagonal().max()
    for _ in range(number):
        best = int(covariance.diagonal().argmax())
        if covariance[best, best] <= least:
            break
        chosen.append(best)
        covariance = covariance - np.outer(covariance[:, best], covariance[best]) / covariance[best, best]
    return chosen
