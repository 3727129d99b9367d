"""Networks from elsewhere: MONAI's, e2cnn's, timm's, torch's transformer."""

import pytest
import torch
from torch import nn

from aea_kernels.testing import (
    Verdict,
    assert_equivariant,
    averaged_kernels,
    d4,
    equivariance_report,
    legal_sizes,
    permutations_of_patches,
    rotations,
    translations,
)
from aea_kernels.testing.named import network_of


class TestMonai:
    @pytest.fixture
    def network(self):
        nets = pytest.importorskip(
            "monai.networks.nets",
            reason="MONAI is not installed: pip install -e '.[foreign]' adds it",
        )
        return nets.BasicUNet(spatial_dims=2, features=(4, 4, 8, 8, 16, 4)).eval()

    def test_which_layers_break_rotations_and_flips(self, network):
        x = torch.rand(1, 1, 32, 32)
        report = equivariance_report(network, x, d4)
        kernels = {
            n
            for n, m in network.named_modules()
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.kernel_size > (1, 1)
        }
        assert {layer.name for layer in report.culprits(d4)} == kernels
        assert report.layer(d4, "").accumulated.verdict is Verdict.BROKEN

    def test_its_geometry_allows_them_at_multiples_of_its_stride(self, network):
        """At other sizes it repeats its last row and column, which are at one side alone."""
        found = legal_sizes(network, torch.rand(1, 1, 32, 32), d4, [32, 33, 40, 48, 50, 64])
        assert found.legal == [32, 48, 64]
        fixed = averaged_kernels(network, d4)
        assert not equivariance_report(fixed, torch.rand(1, 1, 32, 48), d4).culprits(d4)
        faulty = {
            layer.name
            for layer in equivariance_report(fixed, torch.rand(1, 1, 33, 33), d4).culprits(d4)
        }
        assert faulty
        assert all("pool" in name or "upcat" in name for name in faulty)

    def test_in_three_dimensions_it_is_a_report_too(self):
        nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
        network = nets.BasicUNet(spatial_dims=3, features=(2, 2, 2, 2, 2, 2)).eval()
        report = equivariance_report(network, torch.rand(1, 1, 32, 32, 32), d4)
        assert {layer.name for layer in report.culprits(d4)} >= {
            "conv_0.conv_0.conv",
            "upcat_1.upsample.deconv",
        }


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, then LayerNorm and an MLP with channels last, scaled by a small
    learnable factor.
    """

    def __init__(self, channels, size=7):
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.gamma = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x):
        return x + (self.gamma * self.mlp(self.norm(self.dw(x).permute(0, 2, 3, 1)))).permute(
            0, 3, 1, 2
        )


class VisionTransformer(nn.Module):
    """Patches of 4 positions a side, a class token and a positional encoding -> (N, 10)."""

    def __init__(self, encoding):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.encoding = nn.Parameter(0.02 * torch.randn(1, 17, 16)) if encoding else None
        layers = [
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            for _ in range(2)
        ]
        self.blocks = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x):
        z = self.patches(x).flatten(2).transpose(1, 2)
        z = torch.cat([self.token.expand(len(z), -1, -1), z], dim=1)
        if self.encoding is not None:
            z = z + self.encoding
        return self.head(self.norm(self.blocks(z))[:, 0])


class TestTimmStyle:
    def test_convnext(self):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4), ConvNeXtBlock(8), ConvNeXtBlock(8)
        ).eval()
        report = equivariance_report(network, torch.rand(1, 3, 64, 64), [d4, translations(4)])
        assert {layer.name for layer in report.culprits(d4)} == {"0", "1.dw", "2.dw"}
        assert not report.culprits(translations(4))
        fixed = averaged_kernels(network, d4)
        assert not equivariance_report(fixed, torch.rand(1, 3, 32, 48), d4).culprits(d4)
        assert_equivariant(fixed, torch.rand(1, 3, 32, 48), d4)

    @pytest.mark.parametrize("encoding", [False, True])
    def test_a_vision_transformer_with_a_class_token(self, encoding):
        group = permutations_of_patches(4)
        network = VisionTransformer(encoding).eval()
        report = equivariance_report(network, torch.rand(2, 3, 16, 16), group)
        # a class token does not move, and what is read off it is invariant; the sum with the
        # encoding is in `forward`
        assert [layer.name for layer in report.culprits(group)] == ([""] if encoding else [])
        assert report.layer(group, "blocks.1.self_attn").own.verdict.holds
        assert report.layer(group, "head").accumulated.verdict.holds is not encoding


class TestE2cnn:
    """Group convolutions of a library: regular channels, then vectors."""

    @pytest.fixture
    def build(self, monkeypatch):
        basis = pytest.importorskip(
            "e2cnn.kernels.irreps_basis",
            reason="e2cnn is not installed: pip install -e '.[foreign]' adds it",
        )
        from e2cnn import gspaces
        from e2cnn import nn as layers

        def hashed(self):
            return hash((type(self), self.in_irrep, self.out_irrep, self.mu.tobytes()))

        # its own calls a method that NumPy 2.3 has no longer
        for kind in vars(basis).values():
            if isinstance(kind, type) and "__hash__" in vars(kind):
                monkeypatch.setattr(kind, "__hash__", hashed)

        space = gspaces.Rot2dOnR2(N=4)
        given = layers.FieldType(space, [space.trivial_repr])
        hidden = layers.FieldType(space, 2 * [space.regular_repr])
        vectors = layers.FieldType(space, [space.irrep(1)])

        class Network(nn.Module):
            def __init__(self, wrong=None):
                super().__init__()
                self.layers = nn.Sequential(
                    layers.R2Conv(given, hidden, 3, padding=1),
                    layers.ReLU(hidden),
                    layers.R2Conv(hidden, hidden, 3, padding=1),
                    layers.R2Conv(hidden, vectors, 3, padding=1),
                )
                self.eval()
                if wrong is not None:
                    kernel = self.layers[wrong].filter
                    kernel += torch.randn(kernel.shape)

            def forward(self, x):
                return self.layers(layers.GeometricTensor(x, given))

        return Network

    def test_its_channels_are_found_out(self, build):
        report = equivariance_report(build(), torch.randn(1, 1, 9, 9), rotations)
        assert not report.culprits(rotations), str(report)
        assert report.layer(rotations, "").own.acts == {"tensor": "vector(right, up)"}
        assert report.layer(rotations, "layers.1").own.acts == {"tensor": "regular(rotations)"}

    @pytest.mark.parametrize("wrong", [0, 2, 3])
    def test_one_wrong_layer_is_found(self, build, wrong):
        report = equivariance_report(build(wrong), torch.randn(1, 1, 9, 9), rotations)
        assert [layer.name for layer in report.culprits(rotations)] == [f"layers.{wrong}"]


TIMM = {
    "resnet18": (64, d4, {"conv1", "maxpool", "layer1.0.conv1", "layer4.1.conv2"}),
    "convnext_atto(depths=(1, 1, 1, 1), dims=(8, 8, 8, 16))": (
        64,
        d4,
        {"stem.0", "stages.0.blocks.0.conv_dw", "stages.3.downsample.1"},
    ),
    "vit_tiny_patch16_224(img_size=32, depth=1, embed_dim=48)": (
        32,
        permutations_of_patches(16),
        {""},
    ),
    "swin_tiny_patch4_window7_224(img_size=28, depths=(1, 1), num_heads=(2, 2), embed_dim=16)": (
        28,
        d4,
        {"patch_embed.proj", "layers.0.blocks.0.attn", "layers.1.downsample"},
    ),
}
"""By name: the side of an image, a group, and layers that break it. These are a ResNet's kernels, a
ConvNeXt's, a ViT's code of positions, a Swin's bias of positions and its merging of patches.
"""
EVERYWHERE_THE_SAME = (nn.Linear, nn.LayerNorm, nn.BatchNorm2d, nn.GELU, nn.ReLU)


class TestByName:
    def test_monai(self):
        pytest.importorskip("monai", reason="MONAI is not installed")
        arguments = "spatial_dims=2, in_channels=1, out_channels=1, channels=(2, 4), strides=(2,)"
        network = network_of(f"monai:UNet({arguments})")
        report = equivariance_report(network, torch.randn(1, 1, 16, 16), d4)
        convolutions = nn.Conv2d | nn.ConvTranspose2d
        kernels = {n for n, m in network.named_modules() if isinstance(m, convolutions)}
        assert {layer.name for layer in report.culprits(d4)} == kernels

    @pytest.mark.parametrize("name", TIMM)
    def test_timm(self, name):
        pytest.importorskip("timm", reason="timm is not installed: it needs torchvision")
        size, group, culprits = TIMM[name]
        network = network_of(f"timm:{name}")
        report = equivariance_report(network, torch.randn(1, 3, size, size), group)
        found = {layer.name for layer in report.culprits(group)}
        assert found >= culprits
        blamed = [part for name, part in network.named_modules() if name in found]
        assert not any(isinstance(part, EVERYWHERE_THE_SAME) for part in blamed)
