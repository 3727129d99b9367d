"""The paper's baselines against literal second writings of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from toys import toy_pair, uneven_noise

from aeanet.data.crops import split_3x4
from aeanet.errors import PairError
from aeanet.inference.memory import bytes_per_pixel
from aeanet.inference.prediction import restore
from aeanet.inference.reach import TilingError
from aeanet.networks.baselines import Library, PairedNonLocalMeans, SparseCombination
from aeanet.networks.registry import ModelError, build_model, load_model, save_model
from aeanet.scoring.evaluation import evaluate
from aeanet.training import Recipe, train

PAIRS = [toy_pair(0, (64, 96)), toy_pair(1, (64, 96))]


@pytest.mark.parametrize(
    ("name", "expected"), [("vdsr", 664_704), ("edsr", 1_219_841), ("rcan", 15_294_625)]
)
def test_sizes(name: str, expected: int) -> None:
    assert sum(parameter.numel() for parameter in build_model(name).parameters()) == expected


class Oracle:
    """The networks once more, from their parameters in order, with functions alone."""

    def __init__(self, parameters: list[Tensor], *, bias: bool) -> None:
        self.parameters, self.bias = iter(parameters), bias

    def conv(self, x: Tensor) -> Tensor:
        weight = next(self.parameters)
        return F.conv2d(
            x, weight, next(self.parameters) if self.bias else None, padding=weight.shape[-1] // 2
        )

    def vdsr(self, image: Tensor) -> Tensor:
        x = image
        for _ in range(19):
            x = self.conv(x).relu()
        return image + self.conv(x)

    def edsr(self, image: Tensor) -> Tensor:
        first = x = self.conv(image)
        for _ in range(16):
            x = x + self.conv(self.conv(x).relu())
        return self.conv(first + self.conv(x))

    def rcan(self, image: Tensor) -> Tensor:
        first = x = self.conv(image)
        for _ in range(10):
            group = x
            for _ in range(20):
                z = self.conv(self.conv(x).relu())
                x = x + z * self.conv(self.conv(z.mean((2, 3), keepdim=True)).relu()).sigmoid()
            x = group + self.conv(x)
        return self.conv(first + self.conv(x))


@pytest.mark.parametrize("name", ["vdsr", "edsr", "rcan"])
def test_networks_and_gradients_agree_with_the_oracle(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name).double()
    parameters = list(model.parameters())
    image = torch.rand(2, 1, 5, 7, dtype=torch.float64)
    expected, result = getattr(Oracle(parameters, bias=name != "vdsr"), name)(image), model(image)
    torch.testing.assert_close(result, expected)
    for got, wanted in zip(
        *(torch.autograd.grad(y.square().sum(), parameters) for y in (result, expected)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def noisy_library(kind: type[Library], **options: int) -> Library:
    torch.manual_seed(0)
    model = kind(size=40, patch=3, **options).double().eval()
    for patches in (model.lr, model.hr):
        patches.data = torch.rand_like(patches)
    return model


def windows(image: NDArray, patch: int) -> NDArray:
    """(H, W, patch * patch), the last row and column repeated beyond the image's border."""
    padded = np.pad(image, patch // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (patch, patch)).reshape(
        *image.shape, -1
    )


@pytest.mark.parametrize("neighbours", [5, 40, 1000])
def test_non_local_means_is_its_formula(neighbours: int) -> None:
    model = noisy_library(PairedNonLocalMeans, neighbours=neighbours)
    model.setting.data.fill_(0.3)
    image = np.random.default_rng(0).random((6, 9))
    expected = np.zeros_like(image)
    for place in np.ndindex(image.shape):
        distance = np.square(model.lr.numpy() - windows(image, 3)[place]).sum(1)
        near = np.argsort(distance)[:neighbours]
        weights = np.exp(-distance[near] / (2 * 0.3**2))
        expected[place] = (weights * model.hr.numpy()[near, 4]).sum() / weights.sum()
    np.testing.assert_allclose(
        model(torch.from_numpy(image)[None, None])[0, 0], expected, rtol=1e-9
    )


def test_far_from_every_patch_the_nearest_counts() -> None:
    """All weights underflow there, and 0 / 0 is no grey level."""
    model = noisy_library(PairedNonLocalMeans, neighbours=5)
    model.setting.data.fill_(1e-3)
    assert model(torch.full((1, 1, 4, 4), 30.0, dtype=torch.float64)).isfinite().all()


def test_sparse_combination_solves_its_program() -> None:
    model = noisy_library(SparseCombination, neighbours=8, iterations=3000)
    model.setting.data.fill_(0.05)
    patches = torch.rand(20, 9, dtype=torch.float64)
    restored = model.restored(patches).numpy()
    for y, result in zip(patches.numpy(), restored, strict=True):
        near = np.argsort(np.square(model.lr.numpy() - y).sum(1))[:8]
        lr, hr = model.lr.numpy()[near], model.hr.numpy()[near]
        cost = 0.05 * np.square(lr - y).sum(1)
        found = minimize(
            lambda a, lr=lr, y=y, cost=cost: np.square(y - a @ lr).sum() / 2 + cost @ a,
            np.full(8, 1 / 8),
            jac=lambda a, lr=lr, y=y, cost=cost: lr @ (a @ lr - y) + cost,
            bounds=[(0, None)] * 8,
            options={"ftol": 1e-14, "gtol": 1e-10},
        )
        assert (found.x < 1e-6).any()  # sparse
        np.testing.assert_allclose(result, found.x @ hr, atol=1e-4)


@pytest.mark.parametrize("name", ["lbnlm", "srsw"])
def test_black_stays_black(name: str) -> None:
    """Its patches and their neighbours are all 0, and so is every eigenvalue."""
    pair = toy_pair(0, (64, 96))
    pair.lr[:, 20:70] = pair.hr[:, 20:70] = 0
    model = build_model(name, size=4000)
    assert isinstance(model, Library)
    model.fit([pair])
    restored = restore(model, pair.lr)
    assert np.isfinite(restored).all()
    assert restored[:, 30:60].max() < 0.02


@pytest.mark.parametrize("name", ["lbnlm", "srsw"])
def test_an_ordinary_image_fits_into_ordinary_memory(name: str) -> None:
    assert bytes_per_pixel(build_model(name)) < 2500


@pytest.mark.parametrize("shape", [(3, 3), (1, 2), (8, 11), (40, 7), (64, 300)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_overlapping_patches_are_averaged_over_the_whole_image(
    shape: tuple[int, int], stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patches that stay as they are give the image back, strip by strip or at once."""
    model = noisy_library(SparseCombination, stride=stride)
    monkeypatch.setattr("aeanet.networks.baselines.examples.AT_ONCE", 40 * 100)
    monkeypatch.setattr("aeanet.networks.baselines.examples.ROWS", 3)
    monkeypatch.setattr(model, "restored", lambda patches: patches)
    images = torch.rand(2, 1, *shape, dtype=torch.float64)
    torch.testing.assert_close(model(images), images)


@pytest.mark.parametrize("name", ["lbnlm", "srsw"])
def test_the_library_holds_pairs_of_patches_from_the_training_columns_alone(name: str) -> None:
    pair = toy_pair(3, (64, 96))
    test_columns = slice(split_3x4(pair.hr.shape)[0][1].stop, None)
    pair.lr[:] = np.arange(64 * 96, dtype=np.float32).reshape(64, 96) / (64 * 96)
    pair.hr[:] = pair.lr + 2
    pair.hr[:, test_columns] = pair.lr[:, test_columns] = np.nan
    model = build_model(name, size=200)
    assert isinstance(model, Library)
    model.fit([pair], seed=1)
    assert model.lr.isfinite().all()
    torch.testing.assert_close(model.hr.data, model.lr + 2)
    assert len(model.lr.unique(dim=0)) > 100


@pytest.mark.parametrize("name", ["lbnlm", "srsw"])
def test_the_best_setting_is_chosen(name: str) -> None:
    model = build_model(name, size=500)
    assert isinstance(model, Library)
    model.fit(PAIRS)
    chosen = float(model.setting)
    gains = {}
    for setting in model.candidates:
        model.setting.data.fill_(setting)
        gains[setting] = evaluate(model, [toy_pair(2, (64, 96))]).mean.delta_psnr
    best = max(gains, key=gains.__getitem__)
    assert gains[min(gains, key=lambda s: abs(s - chosen))] > gains[best] - 0.2
    assert gains[best] > min(gains.values()) + 0.5


@pytest.mark.parametrize("name", ["lbnlm", "srsw"])
def test_training_fills_the_library_and_the_model_comes_back(name: str, tmp_path: Path) -> None:
    trained = train(PAIRS, Recipe.short(steps=10, seed=5), name=name, size=2000)
    assert trained.steps == 0
    assert trained.seconds > 0
    assert evaluate(trained.model, [toy_pair(2, (64, 96))]).mean.delta_psnr > 0.5
    loaded = load_model(save_model(trained.model, tmp_path / "model.safetensors"))
    assert loaded.config == trained.model.config
    assert np.array_equal(restore(loaded, PAIRS[0].lr), restore(trained.model, PAIRS[0].lr))
    again = train(PAIRS, Recipe.short(steps=10, seed=5), name=name, size=2000).model
    assert all(
        torch.equal(again.state_dict()[key], tensor) for key, tensor in loaded.state_dict().items()
    )


def test_patches_of_the_library_do_not_choose_the_setting() -> None:
    """Each would be restored best by itself, with the narrowest weights; this image has hardly any
    other patches.
    """
    model = build_model("lbnlm", size=4000)
    assert isinstance(model, Library)
    model.fit(PAIRS[:1])
    assert float(model.setting) > model.candidates[3]


@pytest.mark.parametrize("name", ["vdsr", "lbnlm"])
def test_halved_precision_leaves_the_image_its_digits(name: str) -> None:
    model = build_model(name)
    if isinstance(model, Library):
        model.fit(PAIRS)
    else:
        for parameter in model.parameters():
            parameter.data.zero_()
    image = uneven_noise(20, 30)
    np.testing.assert_allclose(
        restore(model, image, precision="bfloat16"), restore(model, image), atol=1e-6
    )


def test_a_patch_without_a_centre_is_refused() -> None:
    with pytest.raises(ModelError, match="patch is 6, wanted an odd number"):
        build_model("lbnlm", patch=6)


def test_no_room_for_a_patch() -> None:
    with pytest.raises(PairError, match="No pair has room for a crop of 7 x 7"):
        train([toy_pair(0, (6, 40))], name="lbnlm")


@pytest.mark.parametrize(("name", "least"), [("vdsr", 20), ("edsr", 35), ("lbnlm", 3)])
def test_tiles_are_exact(name: str, least: int) -> None:
    torch.manual_seed(0)
    model = build_model(name).double().eval()
    if isinstance(model, Library):
        model.fit(PAIRS)
    if name == "edsr":
        *_, last = model.parameters()
        last.data.add_(0.5)  # else almost all of its result lies below 0, and is clipped
    image = uneven_noise(75, 90).astype(np.float64)
    np.testing.assert_allclose(
        restore(model, image, tile=least + 5), restore(model, image), atol=1e-6
    )
    with pytest.raises(TilingError, match=f"{least} px is the least"):
        restore(model, image, tile=least - 1)


@pytest.mark.parametrize("name", ["rcan", "srsw"])
def test_there_are_no_exact_tiles_for_what_looks_at_the_whole(name: str) -> None:
    with pytest.raises(TilingError, match="no exact tiles for this network"):
        restore(build_model(name), uneven_noise(75, 90), tile=40)


def test_each_method_is_known_to_the_report() -> None:
    from aeanet.networks.registry import NETWORKS
    from aeanet.reproduce.plan import TITLES

    assert {*TITLES} | {"aeanet"} == {*NETWORKS}
