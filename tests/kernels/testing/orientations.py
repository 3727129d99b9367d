"""Group convolutions over rotations by 90 degrees, written out: kernels turned one by one."""

import torch
from torch import nn


class Lift(nn.Module):
    """(N, C, H, W) -> (N, 4 F, H, W), one channel for each orientation of each field."""

    def __init__(self, channels, fields):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fields, channels, 3, 3) / 3)

    def forward(self, x):
        turned = [torch.rot90(self.weight, k, (2, 3)) for k in range(4)]
        return nn.functional.conv2d(x, torch.stack(turned, 1).flatten(0, 1), padding=1)


class Regular(nn.Module):
    """(N, 4 F, H, W) -> (N, 4 G, H, W). `unturned` is an orientation whose kernel stays as it is,
    a fault.
    """

    def __init__(self, fields, out, unturned=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, fields, 4, 3, 3) / 6)
        self.unturned = unturned

    def forward(self, x):
        turned = [torch.rot90(self.weight, k, (3, 4)).roll(k, 2) for k in range(4)]
        if self.unturned is not None:
            turned[self.unturned] = self.weight
        weight = torch.stack(turned, 1).flatten(0, 1).flatten(1, 2)
        return nn.functional.conv2d(x, weight, padding=1)


class ToVector(nn.Module):
    """(N, 4 F, H, W) -> (N, 2, H, W), a vector to the right and up; `stretched` is a fault."""

    def __init__(self, fields, stretched=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fields))
        self.stretched = stretched

    def forward(self, x):
        z = torch.einsum("nfohw,f->nohw", x.unflatten(1, (-1, 4)), self.weight)
        return torch.stack([self.stretched * (z[:, 0] - z[:, 2]), z[:, 1] - z[:, 3]], dim=1)


class OverOrientations(nn.Module):
    """(N, 4 F, H, W) -> (N, F, H, W), the largest of the orientations."""

    def forward(self, x):
        return x.unflatten(1, (-1, 4)).amax(2)
