"""The U-Net family of the paper: AEANet, GVTNet and the plain U-Net; all models by name, and their files.

Three networks share one body, a pre-activation U-Net of depth 3 with widths 32, 64 and 128, and differ in the block at
its bottom: augmented equivariant attention (AEANet), attention within the image (GVTNet), a residual block (U-Net).
Convolutions carry no bias and start Glorot-uniform; batch normalisation has eps 1.001e-5 and momentum 0.003, as in the
paper's own implementation.
"""

import inspect
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aea_kernels as aea
from aeanet import baselines
from aeanet.files import read_tensors, write_atomically
from aeanet.network import ModelError, Network, check_images, lay_out
from aeanet.processes import BatchNorm

WIDTHS = (32, 64, 128)
MODEL_FILE = "model.safetensors"
FORMAT = "aeanet"
FORMAT_VERSION = "1"


def _norm(channels: int) -> BatchNorm:
    return BatchNorm(channels, eps=aea.NORM_EPS, momentum=aea.NORM_MOMENTUM)


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)


def _activate(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """ReLU6(BN(x)); the clamp works in place on the normalised copy, so one feature map is written, not two."""
    return F.relu6(norm(x), inplace=True)


class ResidualBlock(nn.Module):
    """BN-ReLU6-conv3x3-BN-ReLU6-conv3x3 plus a shortcut: (N, in, H, W) -> (N, out, H, W).

    The shortcut is the input itself where the widths agree; else a 1x1 convolution of the block's first BN-ReLU6.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = _conv(in_channels, out_channels, 3)
        self.norm2 = _norm(out_channels)
        self.conv2 = _conv(out_channels, out_channels, 3)
        self.shortcut = None if in_channels == out_channels else _conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = _activate(self.norm1, x)
        shortcut = x if self.shortcut is None else self.shortcut(z)
        return self.conv2(_activate(self.norm2, self.conv1(z))).add_(shortcut)


class Down(nn.Conv2d):
    """3x3 convolution of stride 2, (N, in, 2H, 2W) -> (N, out, H, W), zero-padded at the bottom and the right only."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Up(nn.ConvTranspose2d):
    """Transposed 4x4 convolution of stride 2: (N, in, H, W) -> (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


class UShape(Network):
    """The body the three networks share; `bottom` is the block (N, 128, H/4, W/4) -> same shape at its lowest level.

    Input and output are grey images (N, 1, H, W) of one size, any H and W from 1 on: an image whose sides are no
    multiples of 4 is extended by repeating its last row and column, and the result cut back.

    With `residual` the network learns what to add to the image, at first nothing, instead of the image (as VDSR does,
    Kim et al. 2016). The paper's networks do not; it makes short trainings much better.
    """

    def __init__(self, bottom: nn.Module, config: dict[str, Any], *, residual: bool) -> None:
        super().__init__(config | ({"residual": True} if residual else {}))
        self.residual = residual
        narrow, middle, wide = WIDTHS
        self.first = _conv(1, narrow, 3)
        self.encoder1 = ResidualBlock(narrow, narrow)
        self.down1 = Down(narrow, middle)
        self.encoder2 = ResidualBlock(middle, middle)
        self.down2 = Down(middle, wide)
        self.bottom = bottom
        self.up2 = Up(wide, middle)
        self.decoder2 = ResidualBlock(2 * middle, middle)
        self.up1 = Up(middle, narrow)
        self.decoder1 = ResidualBlock(2 * narrow, narrow)
        self.norm = _norm(narrow)
        self.last = _conv(narrow, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
        if residual:
            nn.init.zeros_(self.last.weight)
        lay_out(self)

    def forward(self, image: Tensor) -> Tensor:
        check_images(image)
        height, width = image.shape[2:]
        x = image
        if height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        skip1 = self.encoder1(self.first(x))
        skip2 = self.encoder2(self.down1(skip1))
        x = self.bottom(self.down2(skip2))
        x = self.decoder2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.decoder1(torch.cat([self.up1(x), skip1], dim=1))
        result = self.last(_activate(self.norm, x))[:, :, :height, :width]
        return image + result if self.residual else result


class AEANet(UShape):
    """The paper's network: 572,480 parameters with 64 references.

    In training mode the first floor(N/2) images of a batch attend to themselves and the references (Eq. 4), the others
    to one another (Eq. 5); in evaluation mode every image attends to itself and the references.

    Args:
        references: learnable references r, 128 numbers each, shared by all images; 0 leaves them out.
        batch_aware: whether the second half of a training batch takes the batch-aware branch.
        residual: see `UShape`.
    """

    bottom: aea.AugmentedAttention

    def __init__(self, references: int = 64, batch_aware: bool = True, residual: bool = False) -> None:
        bottom = aea.AugmentedAttention(WIDTHS[-1], heads=2, references=references, batch_aware=batch_aware)
        config = {"name": "aeanet", "references": references, "batch_aware": batch_aware}
        super().__init__(bottom, config, residual=residual)


class GVTNet(UShape):
    """AEANet's predecessor, 564,288 parameters: every image attends to itself alone, in training as in prediction."""

    def __init__(self, residual: bool = False) -> None:
        bottom = aea.AugmentedAttention(WIDTHS[-1], heads=2, references=0, batch_aware=False)
        super().__init__(bottom, {"name": "gvtnet"}, residual=residual)


class UNet(UShape):
    """The same body with a residual block at the bottom in place of attention: 793,408 parameters."""

    def __init__(self, residual: bool = False) -> None:
        super().__init__(ResidualBlock(WIDTHS[-1], WIDTHS[-1]), {"name": "unet"}, residual=residual)


MODELS: dict[str, type[Network]] = {
    "aeanet": AEANet,
    "gvtnet": GVTNet,
    "unet": UNet,
    "vdsr": baselines.VDSR,
    "edsr": baselines.EDSR,
    "rcan": baselines.RCAN,
    "lbnlm": baselines.PairedNonLocalMeans,
    "srsw": baselines.SparseCombination,
}


def build_model(name: str, **options: Any) -> Network:
    """A new network by its name in `MODELS`; `options` are those of its class. Raises ModelError."""
    if name not in MODELS:
        raise ModelError(f"there is no model {name!r}; the models are {', '.join(MODELS)}.")
    known = inspect.signature(MODELS[name]).parameters
    for option in options:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise ModelError(f"the model {name!r} has no option {option!r}; {has}.")
    return MODELS[name](**options)


def short_options(name: str) -> dict[str, Any]:
    """Options of the model of that name in `MODELS` that short trainings do better with than the paper's."""
    return {"residual": True} if issubclass(MODELS[name], UShape) else {}


def save_model(model: Network, path: str | os.PathLike[str]) -> Path:
    """Write a model to a safetensors file, its configuration and magnification in the file's metadata.

    The file appears whole or not at all: it is written beside its place and then moved there, so an earlier model of
    that name survives a full disk or a killed process. Raises OSError, naming the file.
    """
    path = Path(path)
    settings = {"config": model.config, "magnification": model.magnification}
    metadata = {"format": FORMAT, "version": FORMAT_VERSION, "settings": json.dumps(settings)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    return path


def load_model(path: str | os.PathLike[str]) -> Network:
    """The model in a file of `save_model`, or in the run folder that holds one, on the CPU and in evaluation mode.

    Raises ModelError, in one sentence, if there is none, or it is not one of ours, of another version, or damaged.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"there is no model at {path}: wanted a run folder with a {MODEL_FILE}, or such a file.")
    try:
        metadata, tensors = read_tensors(file)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{file} is damaged or is not a safetensors file: {error}.") from error
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{file} holds no aeanet model: its metadata does not name the format {FORMAT!r}.")
    if metadata.get("version") != FORMAT_VERSION:
        raise ModelError(
            f"{file} was written in version {metadata.get('version')} of the model format, this program reads version "
            f"{FORMAT_VERSION}."
        )
    try:
        settings = json.loads(metadata["settings"])
        model = build_model(**settings["config"])
        model.load_state_dict(tensors)
        model.magnification = settings["magnification"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{file} is damaged: its weights do not fit its configuration.") from error
    return model.eval()


def to_device(model: Network) -> Network:
    """The model on the GPU where there is one, else on the CPU."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")
