"""Prediction: a raw micrograph in, the restored one at the run's magnification out."""

import numpy as np
import torch
from numpy.typing import NDArray

from aeanet.model import UShape
from aeanet.registration import upsample


def restore(model: UShape, image: NDArray) -> NDArray:
    """The network's view of an image that already lies on the grid of the result.

    Args:
        model: any network of `model`, on any device; it is left in evaluation mode.
        image: (H, W) floating point, intensities in [0, 1] but for the overshoot of bicubic interpolation.

    Returns (H, W) float32, clipped to [0, 1]. The whole image is taken at once, as in the paper's protocol.
    """
    _check_image(image)
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None].to(device)
    model.eval()
    with torch.inference_mode():
        return model(batch)[0, 0].clamp_(0, 1).cpu().numpy()


def super_resolve(model: UShape, image: NDArray, *, magnification: float | None = None) -> NDArray:
    """A raw LR micrograph, upsampled bicubically and then restored by the network.

    Args:
        model: any network of `model`.
        image: (H, W) floating point, intensities in [0, 1].
        magnification: result pixels per pixel of `image`; by default that of the pairs the model was trained on.

    Returns (round(H * magnification), round(W * magnification)) float32 in [0, 1].

    Raises ValueError, in one sentence, for an image that is not such, or if the magnification is neither given nor
    known.
    """
    _check_image(image)
    _check_range(image)
    magnification = model.magnification if magnification is None else magnification
    if magnification is None:
        raise ValueError("the model does not know its magnification: give one, for instance magnification=2.")
    if not magnification > 0:
        raise ValueError(f"magnification is {magnification}, wanted a number above 0.")
    return restore(model, upsample(image, magnification))


def _check_image(image: NDArray) -> None:
    if image.ndim != 2 or 0 in image.shape or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image is {image.dtype} of shape {image.shape}, wanted floating point of shape (H, W).")


def _check_range(image: NDArray) -> None:
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true of NaN
        raise ValueError(f"intensities run from {low:g} to {high:g}, wanted 0 to 1, the full range of the detector.")
