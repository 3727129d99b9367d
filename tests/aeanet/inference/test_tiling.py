"""Tiles against the whole image, in float64 to rounding."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiled import tiled, whole
from torch import Tensor, nn

import aea_kernels as aea
from aeanet.inference.prediction import restore
from aeanet.inference.reach import Reach, TilingError, reach_of
from aeanet.inference.tiling import check_side, run_tiles
from aeanet.networks.registry import build_model
from aeanet.networks.unet import AEANet


class TwoBlocks(nn.Module):
    """Attention at two levels, average pooling, nearest upsampling, a dilated convolution: none of
    it in AEANet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5, padding=4, dilation=2)
        self.fine = aea.AugmentedAttention(4, references=2, norm="group", groups=2)
        self.down = nn.AvgPool2d(2)
        self.coarse = aea.AugmentedAttention(4, heads=1, references=0, norm="layer")
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fine(self.first(x))
        return self.last(z + self.up(self.middle(self.coarse(self.down(z)))))


def network(name: str, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """With BN that is not the identity, and attention that makes a difference."""
    torch.manual_seed(seed)
    model = TwoBlocks() if name == "two blocks" else build_model(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.to(dtype).eval()


NETWORKS = ["aeanet", "gvtnet", "unet", "two blocks"]


@functools.cache
def least(name: str) -> int:
    return reach_of(network(name, 0)).halo


def averaged(model: nn.Module, image: np.ndarray, flips: int) -> np.ndarray:
    """The mean over the image, upside down, left to right, and both."""
    axes = ((), (0,), (1,), (0, 1))[:flips]
    return np.mean(
        [np.flip(whole(model, np.flip(image, axis).copy()), axis) for axis in axes], axis=0
    )


@settings(max_examples=40)
@given(
    st.sampled_from(NETWORKS),
    st.integers(1, 130),
    st.integers(1, 130),
    st.integers(0, 100),
    st.sampled_from([1, 1, 2, 4]),
    st.integers(0, 2**16),
)
def test_tiled_equals_whole(
    name: str, height: int, width: int, beyond: int, flips: int, seed: int
) -> None:
    model = network(name, seed)
    if name == "two blocks":  # pads nothing by itself
        height, width = height + height % 2, width + width % 2
    image = np.random.default_rng(seed).random((height, width))
    expected = averaged(model, image, flips)
    got = tiled(model, image, least(name) + beyond, flips=flips)
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [40, 64])
def test_in_float32_within_1e_5(name: str, side: int) -> None:
    model = network(name, 0, torch.float32)
    image = np.random.default_rng(0).random((150, 202), np.float32)
    expected = whole(model, image)
    assert np.abs(tiled(model, image, side) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_without_exchange_tiles_differ_from_the_whole() -> None:
    """What the property above is worth: the usual way fails it, and so does a halo that is a step
    too small.
    """
    model, image = network("aeanet", 0), np.random.default_rng(0).random((96, 96))
    image[:, 48:] /= 2
    expected = whole(model, image)
    assert (
        np.abs(tiled(model, image, 48, exact=False) - expected).max()
        > 1e-5 * np.abs(expected).max()
    )
    halo = reach_of(model).halo
    assert (
        np.abs(tiled(model, image, 48, halo=halo - 8) - expected).max()
        > 1e-9 * np.abs(expected).max()
    )


def test_the_order_of_the_tiles_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from aeanet.inference import tiling

    model, image = network("aeanet", 0), np.random.default_rng(0).random((90, 120))
    forwards = tiled(model, image, 32)
    tiles_of = tiling.tiles_of
    monkeypatch.setattr(tiling, "tiles_of", lambda *arguments: tiles_of(*arguments)[::-1])
    np.testing.assert_allclose(tiled(model, image, 32), forwards, rtol=1e-12)


def test_a_tile_larger_than_the_image_is_the_whole_image_in_one_pass() -> None:
    model, image = (
        network("aeanet", 0, torch.float32),
        np.random.default_rng(0).random((50, 70), np.float32),
    )
    seen = []
    got = tiled(model, image, 500, progress=lambda done, total: seen.append((done, total)))
    assert np.array_equal(got, whole(model, image))
    assert seen == [(1, 1)]


@pytest.mark.parametrize("flips", [0, 3, 8, True])
def test_another_number_of_flips_is_refused(flips: int) -> None:
    with pytest.raises(ValueError, match="wanted 1, 2 or 4"):
        tiled(network("unet", 0), np.zeros((64, 64)), 64, flips=flips)


def test_reach_is_that_of_the_layers() -> None:
    """Against derivatives: a pixel's result changes with pixels up to `halo` away, and with none
    beyond.
    """
    model = network("unet", 0)
    reach = reach_of(model)
    x = torch.rand(1, 1, 128, 128, dtype=torch.float64, requires_grad=True)
    seen = []
    for at in range(64, 64 + reach.stride):
        columns = torch.autograd.grad(model(x)[0, 0, 64, at], x)[0][0, 0].abs().sum(0).nonzero()
        seen += [at - int(columns.min()), int(columns.max()) - at]
    assert max(seen) <= reach.halo < max(seen) + 3 * reach.stride
    assert isinstance(build_model("aeanet"), AEANet)
    attention = reach_of(build_model("aeanet")).blocks[0]
    assert (attention.stride, attention.halo % 4) == (4, 0)
    assert reach_of(network("unet", 0)) == Reach(reach.halo, 4, ())


def test_blocks_attend_to_themselves_again_afterwards() -> None:
    model, image = network("aeanet", 0), np.random.default_rng(0).random((96, 96))

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        run_tiles(model, lambda rows, columns: image[rows, columns], full, image.shape, side=40)
    assert model.bottom.keys is None


@pytest.mark.parametrize("side", [-4, 0, 4, 27])
def test_a_tile_below_the_halo_is_refused(side: int) -> None:
    with pytest.raises(
        TilingError, match=f"a tile of {side} px is too small: .* 28 px around it, so 28 px"
    ):
        restore(build_model("aeanet"), np.zeros((64, 64), np.float32), tile=side)


def test_the_side_of_a_tile_is_a_whole_number_also_of_numpy() -> None:
    reach = reach_of(build_model("aeanet"))
    assert check_side(np.int64(35), reach) == 32
    for side in (32.0, "32"):
        with pytest.raises(TilingError, match="wanted a whole number of pixels"):
            check_side(side, reach)


def test_an_image_as_large_as_the_tile_is_taken_at_once() -> None:
    model, image = (
        network("aeanet", 0, torch.float32),
        np.random.default_rng(0).random((101, 101), np.float32),
    )
    seen = []
    tiled(model, image, 101, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
