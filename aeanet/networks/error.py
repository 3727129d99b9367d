"""How far a restoration may be from the truth, pixel by pixel: a second head on the features of a
network.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeanet.errors import ModelError
from aeanet.networks.base import Network, WithoutDrawing
from aeanet.networks.layers import to_channels_last
from aeanet.networks.registry import (
    SHIPPED,
    SHIPPED_FOLDER,
    check_tensors,
    load_model,
    read_model_file,
    write_model_file,
)
from aeanet.networks.shuffled import PlainBlock, ShuffledUNet

LEAST_ERROR = 5e-4
"""Of the range: an eighth of a grey level of 8 bits. Logarithms are taken of errors and this."""
_WIDTHS = (48, 64)  # channels of the head at the level of the features, and below it
_AT_FIRST = 0.02  # of the range: the error before training
USUAL_NOISE = 0.015  # of the range: where the noise of an image cannot be told
NOISES = (0.002, 0.2)  # of the range: the least and the strongest for which errors are calibrated
_RESTORING = "restoring."  # before the names of its tensors
_WINDOW = 5  # positions a side over which what was added is averaged


class ErrorNetwork(Network):
    """The standard error of each pixel of a result: 68 % of the true values lie within it.

    It is a head on the last features of the network `shuffled`, whose weights stay as they are. Its
    input are these features, the image, what the network adds to it, and the logarithm of how
    strong this is around each position, since errors grow with the noise.

    Input: grey images (N, 1, H, W), as `restoring` takes them. Result: the standard error, in
    shares of the range, of the same shape; in training (N, 2, H, W), the restoration and the
    logarithm of the standard error and `LEAST_ERROR`, for `training.step.interval_loss`.

    Args:
        restoring: the configuration of the network whose errors are estimated.

    Attributes:
        restoring: that network. It has no gradients.
        calibration: (3,), so that the standard error holds on images that the training did not see:
            it is multiplied by exp(a + b * log(noise) + c * log2(magnification)), where the noise
            is the standard deviation of `Network.noise`.
        wider: how many standard errors hold 95 % of the true values there.

    Raises:
        ModelError: `restoring` is another network than `shuffled`.
    """

    calibration: Tensor
    wider: Tensor

    def __init__(self, restoring: dict[str, Any] | None = None) -> None:
        # the head reads the features of this network alone
        options = {"name": "shuffled"} | (restoring or {})
        if options.pop("name") != "shuffled":
            raise ModelError("only the errors of the network shuffled can be estimated.")
        network = ShuffledUNet(**options)
        super().__init__({"name": "error", "restoring": network.config})

        # it stays as it is: the head learns beside weights that have no gradients
        self.restoring = network.requires_grad_(False)
        self.told_noise = True

        # until it is calibrated: a factor of exp(0), and two standard errors for 95 %
        self.register_buffer("calibration", torch.zeros(3))
        self.register_buffer("wider", torch.full((), 2.0))

        # channels given: features, pixels, what is added to them, how strong this is around
        fine, coarse = _WIDTHS
        of_pixels = network.last.out_channels
        given = network.last.in_channels + 2 * of_pixels + 1
        self.around = nn.AvgPool2d(_WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)

        # a U-Net of two levels on the grid of the features
        self.first = nn.Conv2d(given, fine, 3, padding=1)
        self.before = nn.Sequential(PlainBlock(fine), nn.ReLU())
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.below = nn.Sequential(PlainBlock(coarse), PlainBlock(coarse))
        self.up = nn.ConvTranspose2d(coarse, fine, 2, stride=2)
        self.after = nn.Sequential(PlainBlock(fine), nn.ReLU())
        self.last = nn.Conv2d(fine, of_pixels, 3, padding=1)

        # at first the error is the same everywhere, whatever the image
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, math.log(_AT_FIRST))
        to_channels_last(self)

    def tell(self, scales: Tensor | None, noise: Tensor | None) -> None:
        self.restoring.scales, self.noise = scales, noise

    def forward(self, image: Tensor) -> Tensor:
        # what the restoring network makes of the image, on its own grid, (N, C, H', W')
        restoring = self.restoring
        restoring.magnification, restoring.noise = self.magnification, self.noise
        height, width = image.shape[2:]
        with torch.no_grad():
            features = restoring.features(image)
            added = restoring.last(features)
            pixels = restoring.unshuffle(restoring.padded(image))

            # how much is added around each position; the least error keeps the logarithm finite
            strength = self.around(added.float().square().mean(1, keepdim=True))
            log_strength = (strength.sqrt() + LEAST_ERROR).log()

        # the head: one level down and up, then back to a logarithm for each pixel
        x = torch.cat([features, added, pixels, log_strength], 1)
        x = self.before(self.first(x))
        x = self.after(x + self.up(self.below(self.down(x))))
        log_error = restoring.shuffle(self.last(x).float())[:, :, :height, :width]

        # The loss compares logarithms, beside the restoration. In use it is the error itself,
        # calibrated on other images than those of the training.
        if self.training:
            restored = image + restoring.shuffle(added)[:, :, :height, :width]
            return torch.cat([restored, log_error], 1)
        return self._calibrating() * F.relu(log_error.exp() - LEAST_ERROR)

    def _calibrating(self) -> Tensor:
        """The factor for each image, (N or 1, 1, 1, 1)."""
        always, by_noise, by_magnification = self.calibration.unbind()
        noise = self.calibration.new_full((1,), USUAL_NOISE)
        if self.noise is not None:
            noise = self.noise[:, 0].to(noise).nan_to_num(USUAL_NOISE).clamp(*NOISES)
        scale = math.log2(self.magnification or 2.0)
        factor = (always + by_noise * noise.log() + by_magnification * scale).exp()
        return factor.view(-1, 1, 1, 1)


def error_network_of(model: Network) -> ErrorNetwork:
    """A new one, with random weights, for the errors of `model`, whose weights are copied.

    Raises:
        ModelError: another network than shuffled.
    """
    network = ErrorNetwork(model.config)
    network.restoring.load_state_dict(model.state_dict())
    network.magnification, network.fits_range = model.magnification, model.fits_range
    return network


def save_head(network: ErrorNetwork, name: str, training: Mapping[str, Any]) -> Path:
    """Write the head beside the shipped model `name`, whose errors it estimates, as float16.

    Args:
        network: that was trained for this model.
        name: of `registry.SHIPPED`.
        training: what is to be known of it, for JSON.

    Returns:
        The path.

    Raises:
        OSError: the file, which the error names, cannot be written.
    """
    # the tensors of the restoring network lie in the model's own file; a lone number saves nothing
    # as float16
    head = {
        tensor_name: tensor.half() if tensor.dim() else tensor
        for tensor_name, tensor in network.state_dict().items()
        if not tensor_name.startswith(_RESTORING)
    }

    # the fingerprint ties the head to the weights beside which it was trained
    settings = {
        "config": network.config,
        "restoring": network.restoring.fingerprint(),
        "training": training,
    }
    path = _head_file(name)
    write_model_file(path, head, settings)
    return path


def head_training(name: str) -> dict[str, Any]:
    """What `save_head` was told of the training."""
    metadata, _ = read_model_file(_head_file(name))
    return json.loads(metadata["settings"])["training"]


def _head_file(name: str | Path) -> Path:
    return SHIPPED_FOLDER / f"{name}.error.safetensors"


def load_restoring(name: str | os.PathLike[str]) -> Network:
    """`load_model`, of a model that restores.

    Raises:
        ModelError: as `load_model`, or it estimates errors.
    """
    model = load_model(name)
    if isinstance(model, ErrorNetwork):
        raise ModelError(
            f"{name} estimates errors and restores nothing: give the model they are of."
        )
    return model


def load_error_network(name: str | Path) -> ErrorNetwork:
    """The network that estimates the errors of a shipped model (`registry.SHIPPED`), or the one in
    a run folder of `aeanet pretrain --loss interval`.

    It is on the CPU and in evaluation mode.

    Raises:
        ModelError: there is none, or its file is damaged or belongs to another model.
    """
    # a run folder of its own holds both networks in one file
    model = load_model(name)
    if isinstance(model, ErrorNetwork):
        return model

    # of a shipped model the head is a file beside it
    file = _head_file(name)
    if str(name) not in SHIPPED or not file.is_file():
        raise ModelError(
            f"the errors of the model {name} are not known: only the shipped models "
            f"({', '.join(SHIPPED)}) have a network for them."
        )

    # beside any other weights the errors would be wrong, and nothing would show it
    metadata, head = read_model_file(file)
    with WithoutDrawing():
        network = error_network_of(model)
    if json.loads(metadata["settings"])["restoring"] != network.restoring.fingerprint():
        raise ModelError(f"{file} belongs to another model than {name}: install aeanet anew.")

    # the restoring network has its weights from `error_network_of`; the head gets those of the file
    tensors = network.state_dict()
    wanted = {key: like for key, like in tensors.items() if not key.startswith(_RESTORING)}
    check_tensors(head, wanted)
    network.load_state_dict(tensors | head)
    return network.eval()
