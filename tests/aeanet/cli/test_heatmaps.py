"""Relevance against the paper's formula, the choice of references against its rule, and
`aeanet heatmaps` at work.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toys import aeanet, toy_pair
from typer.testing import Result

from aeanet.imaging.upsampling import upsample
from aeanet.inference.relevance import RelevanceError, most_varied, relevance_maps
from aeanet.io.images import write_image
from aeanet.networks.registry import build_model, save_model
from aeanet.networks.unet import AEANet


def network() -> AEANet:
    """Its norms have seen something, so that no term of the formula is trivial."""
    torch.manual_seed(0)
    model = build_model("aeanet", references=6)
    assert isinstance(model, AEANet)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 1, 32, 32))
        model.bottom.query.bias.normal_()
        model.bottom.key.bias.normal_()
    model.magnification = 2.0
    return model.eval()


def test_relevance_is_the_papers_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q_i . k(f_j)^T of the bottom's input, projected position by position (Section 6.2)."""
    model, image = network(), toy_pair(0, (46, 64)).lr
    maps = relevance_maps(model, image)
    padded = F.pad(torch.from_numpy(image)[None, None], (0, 0, 0, 2), mode="replicate")
    with torch.no_grad():
        x = model.down2(model.encoder2(model.down1(model.encoder1(model.first(padded)))))
        block = model.bottom
        assert block.references is not None
        assert block.norm is not None
        query = block.query(F.relu6(block.norm(x)).permute(0, 2, 3, 1))
        expected = query @ block.key(block.references).T
    assert maps.shape == (6, 12, 16)
    np.testing.assert_allclose(maps, expected[0].permute(2, 0, 1).numpy(), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(
        model.bottom, "relevance", lambda _: pytest.fail("the network still records relevance")
    )
    model(torch.from_numpy(image)[None, None])


@pytest.mark.parametrize(
    ("name", "options"), [("unet", {}), ("gvtnet", {}), ("aeanet", {"references": 0})]
)
def test_models_without_references_say_so(name: str, options: dict[str, int]) -> None:
    with pytest.raises(RelevanceError, match="has no shared references"):
        relevance_maps(build_model(name, **options), toy_pair(0).lr)


def test_the_most_varied_references_do_not_repeat_each_other() -> None:
    """Reference 3 varies most; 1 is a copy of it at less contrast, 4 is constant, 0 is new though
    weak, 2 half new.
    """
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal((2, 20, 30)) for _ in range(3))
    images = [
        np.stack([b[i], 4 * a[i], 2 * c[i] + 2 * a[i], 5 * a[i], np.full((20, 30), 50.0)])
        for i in range(2)
    ]
    assert most_varied(images, 2) == [3, 0]
    assert most_varied(images, 5) == [3, 0, 2]
    assert most_varied([of_image[[1, 3]] for of_image in images], 2) == [1]
    assert most_varied([images[0][:, :10], images[0][:, 10:], images[1]], 2) == [3, 0]


def heatmaps(*arguments: object) -> Result:
    return aeanet("heatmaps", *arguments)


def test_the_command(tmp_path: Path) -> None:
    model = network()
    save_model(model, tmp_path / "run" / "model.safetensors")
    images = [tmp_path / f"{seed}.png" for seed in range(2)]
    for seed, image in enumerate(images):
        write_image(image, toy_pair(seed, (24, 40)).lr)
    given = [*images, images[0]]  # an image that is given twice is shown once
    result = heatmaps(tmp_path / "run", *given, "--out", tmp_path / "out", "--references", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [
        str(tmp_path / "out" / name) for name in ("0.npz", "1.npz", "heatmaps.png")
    ]
    lr = np.rint(toy_pair(1, (24, 40)).lr * 255).astype(np.float32) / 255
    with np.load(tmp_path / "out" / "1.npz") as kept:
        np.testing.assert_allclose(
            kept["relevance"], relevance_maps(model, upsample(lr, 2)), rtol=1e-4, atol=1e-5
        )
        assert kept["relevance"].shape == (6, 12, 20)
        assert len(set(kept["shown"])) == 3


def test_bad_images_and_models(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "run" / "model.safetensors")
    write_image(tmp_path / "good.png", toy_pair(0).lr)
    (tmp_path / "broken.png").write_bytes(b"no image")
    result = heatmaps(
        tmp_path / "run", tmp_path / "broken.png", tmp_path / "good.png", "--out", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert (
        result.stderr.strip().splitlines()[-1]
        == f"1 of 2 images could not be shown: {tmp_path / 'broken.png'}."
    )
    assert (tmp_path / "out" / "good.npz").exists()
    plain = build_model("unet")
    plain.magnification = 2.0
    save_model(plain, tmp_path / "plain" / "model.safetensors")
    refused = heatmaps(tmp_path / "plain", tmp_path / "good.png", "--out", tmp_path / "none")
    assert refused.exit_code == 1
    assert "'unet' has no shared references" in refused.stderr
    twins = heatmaps(
        tmp_path / "run",
        tmp_path / "good.png",
        tmp_path / "a" / "good.tif",
        "--out",
        tmp_path / "none",
    )
    assert twins.exit_code == 1
    assert "two images are named good" in twins.stderr
