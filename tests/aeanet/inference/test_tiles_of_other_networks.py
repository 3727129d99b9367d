"""Which layers, blocks and networks of others have exact tiles, and which are refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiled import tiled, whole
from torch import Tensor, nn

import aea_kernels as aea
from aeanet.inference.reach import TilingError, reach_of

sys.path.append(str(Path(__file__).parents[2] / "kernels" / "conversion"))
import equality
import originals_families
import originals_nonlocal


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
