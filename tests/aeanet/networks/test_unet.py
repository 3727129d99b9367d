"""The networks against a literal second writing of them, and their sizes."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import lively

import aea_kernels as aea
from aea_kernels import reference
from aeanet.networks.layers import ResidualBlock
from aeanet.networks.registry import build_model
from aeanet.networks.unet import AEANet


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("aeanet", {}, 572_480),
        ("aeanet", {"references": 32}, 568_384),
        ("aeanet", {"references": 16}, 566_336),
        ("aeanet", {"references": 0}, 564_288),
        ("gvtnet", {}, 564_288),
        ("unet", {}, 793_408),
    ],
)
def test_sizes_are_those_of_the_paper(name: str, options: dict[str, int], expected: int) -> None:
    model = build_model(name, **options)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


class Oracle:
    """The network of the paper once more, from a state dict, with functions alone and the attention
    map formed.
    """

    def __init__(
        self, state: dict[str, Tensor], *, training: bool, batch_aware: bool, residual: bool
    ) -> None:
        self.state, self.training, self.batch_aware, self.residual = (
            state,
            training,
            batch_aware,
            residual,
        )

    def norm_relu(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        else:
            mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        column = (slice(None), None, None)
        z = (x - mean[column]) / torch.sqrt(variance[column] + 1.001e-5) * weight[column] + bias[
            column
        ]
        return z.clamp(0, 6)

    def block(self, name: str, x: Tensor) -> Tensor:
        z = self.norm_relu(f"{name}.norm1", x)
        shortcut = (
            F.conv2d(z, self.state[f"{name}.shortcut.weight"])
            if f"{name}.shortcut.weight" in self.state
            else x
        )
        z = F.conv2d(z, self.state[f"{name}.conv1.weight"], padding=1)
        z = F.conv2d(
            self.norm_relu(f"{name}.norm2", z), self.state[f"{name}.conv2.weight"], padding=1
        )
        return z + shortcut

    def down(self, name: str, x: Tensor) -> Tensor:
        """Output (i, j) is the 3 x 3 window that starts at (2i, 2j), zero beyond the bottom and the
        right.
        """
        beyond = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1, dtype=x.dtype)
        beyond[:, :, :-1, :-1] = x
        windows = beyond.unfold(2, 3, 2).unfold(3, 3, 2)
        return torch.einsum("nchwij,ocij->nohw", windows, self.state[f"{name}.weight"])

    def up(self, name: str, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.state[f"{name}.weight"], stride=2, padding=1)

    def bottom(self, x: Tensor) -> Tensor:
        if "bottom.conv1.weight" in self.state:
            return self.block("bottom", x)
        z = self.norm_relu("bottom.norm", x)
        branches = self.training and self.batch_aware
        attended = reference.attention_block(
            z,
            None,
            [
                self.state[f"bottom.{n}.{w}"]
                for n in ("query", "key", "value", "output")
                for w in ("weight", "bias")
            ],
            self.state.get("bottom.references"),
            heads=2,
            scale=64**-0.5,
            reference_images=len(x) // 2 if branches else len(x),
        )
        return x + attended - z

    def __call__(self, image: Tensor) -> Tensor:
        skip1 = self.block("encoder1", F.conv2d(image, self.state["first.weight"], padding=1))
        skip2 = self.block("encoder2", self.down("down1", skip1))
        x = self.bottom(self.down("down2", skip2))
        x = self.block("decoder2", torch.cat([self.up("up2", x), skip2], 1))
        x = self.block("decoder1", torch.cat([self.up("up1", x), skip1], 1))
        return F.conv2d(self.norm_relu("norm", x), self.state["last.weight"]) + (
            image if self.residual else 0
        )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "batch"),
    [
        ("aeanet", {"references": 5}, 1),
        ("aeanet", {"references": 5}, 2),
        ("aeanet", {"references": 5}, 5),
        ("aeanet", {"references": 5, "batch_aware": False}, 3),
        ("aeanet", {"references": 0}, 3),
        ("aeanet", {"references": 5, "residual": True}, 3),
        ("gvtnet", {}, 3),
        ("gvtnet", {"residual": True}, 2),
        ("unet", {}, 2),
    ],
)
def test_network_and_gradients_agree_with_the_oracle(
    name: str, options: dict[str, int], batch: int, training: bool
) -> None:
    model = lively(build_model(name, **options)).double().train(training)
    parameters = dict(model.named_parameters())
    oracle = Oracle(
        {**parameters, **dict(model.named_buffers())},
        training=training,
        batch_aware=model.config.get("batch_aware", False),
        residual=options.get("residual", False),
    )
    image = torch.rand(
        batch, 1, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    weight = torch.randn(
        image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )

    expected = oracle(image)
    expected_gradients = torch.autograd.grad(
        (expected * weight).sum(), list(parameters.values()), allow_unused=True
    )
    result = model(image)
    gradients = torch.autograd.grad(
        (result * weight).sum(), list(parameters.values()), allow_unused=True
    )

    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
    for key, gradient, wanted in zip(parameters, gradients, expected_gradients, strict=True):
        if wanted is None:  # the references when the whole batch goes the other way
            assert gradient is None or not gradient.any(), key
        else:
            torch.testing.assert_close(
                gradient, wanted, rtol=1e-7, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}"
            )


@settings(max_examples=25)
@given(st.integers(1, 23), st.integers(1, 23))
def test_any_size_is_extended_by_its_last_row_and_column_and_cut_back(
    height: int, width: int
) -> None:
    model = lively(build_model("aeanet", references=3)).eval()
    image = torch.rand(1, 1, height, width)
    rows = [min(i, height - 1) for i in range(4 * math.ceil(height / 4))]
    columns = [min(i, width - 1) for i in range(4 * math.ceil(width / 4))]
    with torch.no_grad():
        result, extended = model(image), model(image[:, :, rows][:, :, :, columns])
    assert result.shape == image.shape
    torch.testing.assert_close(result, extended[:, :, :height, :width])


@pytest.mark.parametrize("shape", [(8, 8), (1, 2, 8, 8), (1, 1, 0, 8)])
def test_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image has shape .* wanted \(N, 1, H, W\)"):
        build_model("unet")(torch.zeros(shape))


@pytest.mark.parametrize("name", ["aeanet", "gvtnet", "unet"])
def test_initial_values_are_those_of_the_paper(name: str) -> None:
    for key, module in build_model(name).named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            out_channels, in_channels, *kernel = module.weight.shape
            bound = math.sqrt(6 / ((in_channels + out_channels) * math.prod(kernel)))
            assert module.bias is None, key
            assert 0.8 * bound < module.weight.abs().max() <= bound, key
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), (
                    key
                )
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert (module.eps, module.momentum) == (1.001e-5, 0.003), key


@pytest.mark.parametrize("name", ["aeanet", "gvtnet", "unet"])
def test_a_residual_network_begins_with_the_image_as_it_is(name: str) -> None:
    image = torch.rand(2, 1, 9, 14)
    assert torch.equal(build_model(name, residual=True)(image), image)


def test_bottom_is_the_attention_block_for_heat_maps() -> None:
    model = AEANet(references=7)
    assert isinstance(model.bottom, aea.AugmentedAttention)
    assert model.bottom.relevance(torch.rand(1, 128, 3, 4)).shape == (1, 7, 3, 4)


def test_images_do_not_influence_one_another_in_prediction() -> None:
    model = lively(AEANet()).eval()
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            model(images), torch.cat([model(image[None]) for image in images])
        )


def test_a_block_of_one_width_has_no_shortcut_weights() -> None:
    assert ResidualBlock(8, 8).shortcut is None
    assert ResidualBlock(8, 4).shortcut is not None
