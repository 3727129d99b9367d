"""Tiles against the whole image, in float64 to rounding."""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aea_kernels as aea
from aeanet.inference.prediction import restore
from aeanet.inference.reach import Reach, TilingError, reach_of
from aeanet.inference.tiling import run_tiles
from aeanet.networks.registry import build_model
from aeanet.networks.unet import AEANet

sys.path.append(str(Path(__file__).parents[2] / "kernels" / "conversion"))
import equality
import originals_families
import originals_nonlocal


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


def whole(model: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(image)[None, None])[0, 0].numpy()


def tiled(model: nn.Module, image: np.ndarray, side: int, **options: object) -> np.ndarray:
    result = np.full(image.shape, np.nan, image.dtype)

    def write(rows: slice, columns: slice, region: np.ndarray) -> None:
        assert np.isnan(result[rows, columns]).all()  # no two tiles answer for a pixel
        result[rows, columns] = region

    run_tiles(
        model, lambda rows, columns: image[rows, columns], write, image.shape, side=side, **options
    )
    return result


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


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = aea.AugmentedAttention(1, heads=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.InstanceNorm2d(1), "not known how far the layer"),
        (nn.AdaptiveAvgPool2d(64), "not known how far the layer"),
        (nn.GroupNorm(1, 1), "not known how far the layer"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "not known how far the layer"),
        (nn.BatchNorm2d(1, track_running_stats=False), "not known how far the layer"),
        (Tied(), "an attention block runs twice"),
    ],
)
def test_what_has_no_exact_tiles_is_refused(layer: nn.Module, words: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), layer)
    with pytest.raises(TilingError, match=words):
        tiled(model, np.zeros((64, 64), np.float32), 32)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 1, 5, padding="same"), nn.Sequential()],
        [nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 17, padding=8), nn.AvgPool2d(2)],
        [
            nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
            nn.Sequential(nn.MaxPool2d(2), nn.Upsample(None, 2)),
            nn.Conv2d(2, 1, 1),
        ],
    ],
    ids=["same padding", "finer than the image", "reflected border"],
)
def test_other_layers(layers: list[nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*layers).double()
    image = np.random.default_rng(0).random((96, 128))
    np.testing.assert_allclose(tiled(model, image, 32), whole(model, image), rtol=1e-10)


def test_an_image_as_large_as_the_tile_is_taken_at_once() -> None:
    model, image = (
        network("aeanet", 0, torch.float32),
        np.random.default_rng(0).random((101, 101), np.float32),
    )
    seen = []
    tiled(model, image, 101, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


class Converted(nn.Module):
    """Blocks of other libraries at two levels, made to attend by sums in place."""

    def __init__(self, pooled: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.fine = originals_nonlocal.NONLocalBlock2D(4, sub_sample=pooled)
        self.channels = originals_families.Attention(4, 2, True)
        self.down = nn.PixelUnshuffle(2)
        self.scales = originals_families.LiteMLA(16, 16, dim=4)
        self.act = nn.Hardswish()
        self.memory = originals_families.LinearAttention(16, heads=2, dim_head=4)
        self.up = nn.PixelShuffle(2)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fine(self.first(x))
        z = z + self.channels(z)
        w = self.act(self.scales(self.down(z)))
        return self.last(z + self.up(w + self.memory(w)))


@pytest.mark.parametrize(("side", "pooled"), [(40, True), (48, True), (36, False)])
def test_converted_networks_have_exact_tiles(side: int, pooled: bool) -> None:
    torch.manual_seed(0)
    model = equality.randomised(Converted(pooled)).eval()
    image = np.random.default_rng(0).random((88, 76))
    assert len(aea.convert(model).replaced) == 4
    expected = whole(model, image)
    got = tiled(model, image, side)
    assert np.abs(got - expected).max() <= 1e-11 * np.abs(expected).max()
    # without the sums over the whole image, tiles differ
    assert (
        np.abs(tiled(model, image, side, exact=False) - expected).max()
        > 1e-5 * np.abs(expected).max()
    )


def test_attention_that_is_not_converted_has_no_tiles() -> None:
    with pytest.raises(
        TilingError, match="NONLocalBlock2D attends to the whole image and is not converted"
    ):
        reach_of(Converted())
    softmax = nn.Sequential(nn.Conv2d(1, 4, 1), originals_nonlocal.Softmax2D(4))
    aea.convert(softmax, strict=False)
    with pytest.raises(TilingError, match="Softmax2D attends to the whole image"):
        reach_of(softmax)


def test_overlapping_windows_of_keys_have_no_tiles() -> None:
    block = originals_nonlocal.NONLocalBlock2D(4)
    block.g[1] = block.phi[1] = nn.MaxPool2d(3, stride=2)
    aea.convert(block)
    with pytest.raises(TilingError, match="pooled in windows that no tiles fit"):
        reach_of(nn.Sequential(nn.Conv2d(1, 4, 1), block))


def test_a_norm_over_the_image_in_a_block_has_no_tiles() -> None:
    block = originals_families.LinearAttention(4, heads=2, dim_head=4)
    block.to_out[1] = nn.GroupNorm(1, 4)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), block)
    assert aea.convert(model).replaced
    with pytest.raises(
        TilingError, match="GroupNorm in an attention block depends on more than one position"
    ):
        reach_of(model)
    block.to_out[1] = nn.Conv2d(4, 4, 5, padding=2)
    assert reach_of(model).halo == 2


class PositionMean(nn.Module):
    """A block of one's own: what the protocol asks for and nothing else."""

    keys: aea.Moments | None = None

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> aea.Moments:
        return aea.moments(x if core is None else x[(..., *core)])

    def forward(self, x: Tensor) -> Tensor:
        keys = self.summarize(x) if self.keys is None else self.keys
        return x - keys.mean.to(x.dtype)[:, :, None, None]


def test_any_block_with_a_sum_and_keys_has_exact_tiles() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), PositionMean(), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)
    )
    model, image = model.double().eval(), np.random.default_rng(0).random((50, 61))
    expected = whole(model, image)
    np.testing.assert_allclose(tiled(model, image, 16), expected, rtol=0, atol=1e-12)
    assert np.abs(tiled(model, image, 16, exact=False) - expected).max() > 1e-4
