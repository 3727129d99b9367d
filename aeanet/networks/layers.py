"""The layers that networks share, and functions for all layers of a network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup

import aea_kernels as aea


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that, in training, takes its statistics from the batches of all processes of
    `group`; None: its own.

    Unlike `nn.SyncBatchNorm` it also runs on CPUs. All processes must have batches of the same
    size.
    """

    group: ProcessGroup | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> the same shape and dtype."""
        if self.group is None or not self.training:
            return super().forward(x)

        # Mean and variance over all processes, in float32 or wider. The variance is of the centred
        # values, as the mean may be far from 0.
        wide = x.double() if x.dtype == torch.float64 else x.float()
        count = self.group.size() * (x.numel() // x.shape[1])
        mean = aea.sum_over_processes(wide.sum((0, 2, 3)), self.group) / count
        centred = wide - mean[:, None, None]
        variance = aea.sum_over_processes(centred.square().sum((0, 2, 3)), self.group) / count
        aea.update_running_statistics(self, mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def batch_norm(channels: int) -> BatchNorm:
    return BatchNorm(channels, eps=aea.NORM_EPS, momentum=aea.NORM_MOMENTUM)


def conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)


def activate(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """ReLU6(BN(x)). The clamp changes the normalised copy in place, which saves a feature map."""
    return F.relu6(norm(x), inplace=True)


class ResidualBlock(nn.Module):
    """BN-ReLU6-conv3x3-BN-ReLU6-conv3x3 plus a shortcut: (N, in, H, W) -> (N, out, H, W).

    The shortcut is the input, or, if the widths differ, a 1x1 convolution of the first BN-ReLU6.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = batch_norm(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3)
        self.norm2 = batch_norm(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.shortcut = None if in_channels == out_channels else conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = activate(self.norm1, x)
        shortcut = x if self.shortcut is None else self.shortcut(z)
        return self.conv2(activate(self.norm2, self.conv1(z))).add_(shortcut)


class Down(nn.Conv2d):
    """3x3 convolution of stride 2, (N, in, 2H, 2W) -> (N, out, H, W), zero-padded at the bottom and
    the right only.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Up(nn.ConvTranspose2d):
    """Transposed 4x4 convolution of stride 2: (N, in, H, W) -> (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


def pool_over_processes(model: nn.Module, group: ProcessGroup | None) -> None:
    """Let batch norm and batch-aware attention use the images of all processes of `group`; None:
    their own only.

    The processes then train as one, if the gradients are averaged over them, as
    DistributedDataParallel does. The first halves of their batches form the reference branch of the
    joint batch.
    """
    for module in model.modules():
        if isinstance(module, BatchNorm | aea.AugmentedAttention):
            module.group = group


def to_channels_last(network: nn.Module) -> None:
    """Store the weights of convolutions channels last: with oneDNN, on CPUs, prediction takes half
    the time of NCHW.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def compile_parts(model: nn.Module) -> None:
    """Have `torch.compile` compile the parts of a network when they first run, for any image size.

    Attention blocks are left as they are: they are kernels already, and tiles exchange their sums
    between them.
    """
    for part in model.children():
        if not isinstance(part, aea.AugmentedAttention):
            part.compile(dynamic=True)
