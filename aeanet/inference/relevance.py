"""The relevance q(x) . k(R) of the shared references at each position of an image (the paper's
Fig. 5).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import aea_kernels as aea
from aeanet.errors import UserError
from aeanet.inference.prediction import restore
from aeanet.networks.base import Network

SHOWN = (1, 99)  # percentiles of a map between which its colours lie


class RelevanceError(UserError):
    """A model without shared references."""


def check_references(model: Network) -> aea.AugmentedAttention:
    """The attention of a model that has shared references.

    Raises:
        RelevanceError: if it has none.
    """
    block = getattr(model, "bottom", None)
    if not isinstance(block, aea.AugmentedAttention) or block.references is None:
        raise RelevanceError(
            f"the model {model.config['name']!r} has no shared references, so there is no "
            "relevance to show: take a model 'aeanet' with references, as aeanet train makes "
            "without --from."
        )
    return block


def relevance_maps(model: Network, image: NDArray) -> NDArray[np.float32]:
    """The relevance of R references in an image.

    Args:
        model: a network with references.
        image: (H, W) as `prediction.restore` takes it.

    Returns:
        (R, ceil(H / 4), ceil(W / 4)): each position of the attention at the bottom of the network
        stands for 4 x 4 pixels.

    Raises:
        RelevanceError: if the model has no references.
    """
    block = check_references(model)
    found: list[torch.Tensor] = []
    hook = block.register_forward_pre_hook(
        lambda block, inputs: found.append(block.relevance(inputs[0]))
    )
    try:
        restore(model, image, flips=1)
    finally:
        hook.remove()
    return found[0][0].float().cpu().numpy()


def most_varied(maps: Sequence[NDArray], number: int) -> list[int]:
    """The references whose maps differ most over the images, in the order in which they are chosen.

    The first has the largest variance over all positions of all images. Each further one has the
    largest share of its variance that those before it do not explain linearly (a pivoted Cholesky
    decomposition of the covariance of the maps). Values beyond the 1st and 99th percentile of a
    map, which figures do not show, are clipped.

    Args:
        maps: (R, h, w) for each image.
        number: of references, at most R; fewer are returned if all others are combinations of
            these.
    """
    # (R, positions of all images), within what figures show
    flat = np.concatenate([of_image.reshape(len(of_image), -1) for of_image in maps], axis=1)
    flat = flat.astype(np.float64)
    flat = np.clip(flat, *np.percentile(flat, SHOWN, axis=1, keepdims=True))

    # a pivoted Cholesky decomposition: the variance of each map first, then the share that is left
    left = np.atleast_2d(np.cov(flat))  # the covariance that is not explained yet
    variances = left.diagonal().copy()
    varied = variances > 1e-9 * variances.max()
    chosen: list[int] = []
    for _ in range(number):
        share = np.divide(left.diagonal(), variances, out=np.zeros_like(variances), where=varied)
        best = int((share if chosen else variances).argmax())
        if share[best] <= 1e-9:
            break

        # what the chosen map explains is taken off all others
        chosen.append(best)
        left = left - np.outer(left[:, best], left[best]) / left[best, best]
    return chosen
