"""The interface of every network: grey images in, grey images of the same size out."""

import hashlib
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aeanet.imaging.flips import Flips

MAGNIFICATIONS = (0.9, 16.0)  # of a model, or asked for: from the least at which pairs register on


class Network(nn.Module):
    """Images (N, 1, H, W), LR on the grid of HR, intensities in [0, 1] -> their restoration, of the
    same shape.

    Attributes:
        config: the name and the options with which `registry.build_model` builds this network
            again.
        magnification: HR pixels per LR pixel in the pairs that the network was trained on; None if
            it is not known.
        flips: of an image, whose results are averaged unless one asks otherwise
            (`imaging.flips.Flips`).
        residual: it computes what is to be added to the image, which itself passes unrounded.
        bfloat16_cost: what predicting in bfloat16 costs on the images that it was scored on, dB of
            PSNR; None if it was not scored so.
        fits_range: show it the range that an image uses, without outliers, since it was trained on
            images of every exposure.
        told_noise: whether it is told the noise.
        noise: what it is told (`trust.noise.Noise`): standard deviations of the fine and the coarse
            noise in shares of the range, and the correlation of neighbours along and across the
            lines of LR; (N, 4), or (1, 4) for all images. NaN or None where it is not known.
    """

    magnification: float | None = None
    flips: Flips = 1
    fits_range: bool = False
    told_noise: bool = False
    noise: Tensor | None = None
    residual: bool = False
    bfloat16_cost: float | None = None

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config

    def tell(self, scales: Tensor | None, noise: Tensor | None) -> None:
        """In training, the magnifications (N,) and the noise (N, 4) of the images of a batch; None
        where they are not known. A network that depends on neither drops them.
        """

    def fingerprint(self) -> str:
        """Names the weights: SHA-256 of all tensors and their names."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


class WithoutDrawing(TorchFunctionMode):
    """Within it, new networks draw no weights, since others will take their place.

    On the meta device PyTorch would import `torch._dynamo` to draw them, which takes seconds.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # methods of tensors, and what `nn.init` makes of them
        if function.__name__.endswith(("normal_", "uniform_")):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def check_images(images: Tensor) -> None:
    """Raise ValueError unless these are images (N, 1, H, W)."""
    if images.ndim != 4 or images.shape[1] != 1 or 0 in images.shape[2:]:
        raise ValueError(
            f"image has shape {tuple(images.shape)}, wanted (N, 1, H, W) with H and W at least 1"
        )
