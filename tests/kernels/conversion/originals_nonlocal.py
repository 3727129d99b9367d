"""Non-local blocks as other libraries have them, written a second time from the paper: class names,
names of the parts and arguments are theirs. Scores are materialised.
"""

from torch import nn

from benches.known_networks.nonlocal_block import (
    NONLocalBlock1D,
    NONLocalBlock2D,
    NONLocalBlock3D,
    attended,
)

__all__ = ["NONLocalBlock1D", "NONLocalBlock2D", "NONLocalBlock3D"]


class Nonlocal(nn.Module):
    """SlowFast."""

    def __init__(
        self, dim, dim_inner, pool_size=None, instantiation="softmax", norm_type="batchnorm"
    ):
        super().__init__()
        self.instantiation, self.norm_type = instantiation, norm_type
        self.conv_theta, self.conv_phi, self.conv_g = (
            nn.Conv3d(dim, dim_inner, 1) for _ in range(3)
        )
        self.conv_out = nn.Conv3d(dim_inner, dim, 1)
        self.use_pool = pool_size is not None and max(pool_size) > 1
        if norm_type == "batchnorm":
            self.norm = nn.BatchNorm3d(dim)
        elif norm_type == "layernorm":
            self.norm = nn.GroupNorm(1, dim, affine=False)
        if self.use_pool:
            self.pool = nn.MaxPool3d(pool_size, stride=pool_size, padding=[0, 0, 0])

    def forward(self, x):
        keys = self.pool(x) if self.use_pool else x
        y = attended(self.conv_theta(x), self.conv_phi(keys), self.conv_g(keys), self.instantiation)
        y = self.conv_out(y.unflatten(2, x.shape[2:]))
        return x + (y if self.norm_type == "none" else self.norm(y))


class NonLocal(nn.Module):
    """pytorchvideo."""

    def __init__(
        self,
        *,
        conv_theta,
        conv_phi,
        conv_g,
        conv_out,
        pool=None,
        norm=None,
        instantiation="dot_product",
    ):
        super().__init__()
        self.conv_theta, self.conv_phi, self.conv_g, self.conv_out = (
            conv_theta,
            conv_phi,
            conv_g,
            conv_out,
        )
        self.pool, self.norm, self.instantiation = pool, norm, instantiation

    def forward(self, x):
        keys = x if self.pool is None else self.pool(x)
        y = attended(self.conv_theta(x), self.conv_phi(keys), self.conv_g(keys), self.instantiation)
        y = self.conv_out(y.unflatten(2, x.shape[2:]))
        return x + (y if self.norm is None else self.norm(y))


def pytorchvideo_block(
    dim: int, inner: int, pool: nn.Module | None, norm: nn.Module | None, bias: bool
) -> NonLocal:
    convs = {f"conv_{name}": nn.Conv3d(dim, inner, 1, bias=bias) for name in ("theta", "phi", "g")}
    return NonLocal(**convs, conv_out=nn.Conv3d(inner, dim, 1, bias=bias), pool=pool, norm=norm)


class Softmax2D(NONLocalBlock2D):
    """The same class name base and the same parts, with a softmax over the keys."""

    mode = "softmax"


class OtherAxis2D(NONLocalBlock2D):
    mode = "softmax over queries"
