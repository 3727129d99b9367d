"""What several tests are given: small pairs, networks, images; and the command, run in this
process.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn
from typer.testing import CliRunner, Result

from aeanet.cli import app
from aeanet.data.registration import RegisteredPair, RegistrationReport
from aeanet.data.synthetic import simulate_pair
from aeanet.inference.tiling import run_tiles
from aeanet.io.images import write_image
from aeanet.networks.registry import build_model
from aeanet.networks.unet import AEANet, GVTNet, UShape


def aeanet(*arguments: object) -> Result:
    """The command in this process; its consoles are made wide so that no sentence is broken into
    lines.
    """
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(argument) for argument in arguments])


def simulated_folder(folder: Path, seeds: Iterable[int]) -> Path:
    """A folder of simulated pairs of 236 x 320 pixels, each named by its seed."""
    for seed in seeds:
        pair = simulate_pair(seed, shape=(236, 320))
        for kind in ("lr", "hr"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_image(folder / kind / f"{seed}.png", getattr(pair, kind))
    return folder


def report(magnification: float = 2.0) -> RegistrationReport:
    return RegistrationReport(
        matches=50,
        inliers=40,
        magnification=magnification,
        residual=0.2,
        psnr_before=20.0,
        psnr_after=25.0,
        valid_fraction=1.0,
        matrix=((magnification, 0.0, 0.0), (0.0, magnification, 0.0)),
    )


def toy_pair(
    seed: int = 0, shape: tuple[int, int] = (48, 64), *, magnification: float = 2.0
) -> RegisteredPair:
    """Smooth blobs as HR; as LR the same, blurred and with noise."""
    random = np.random.default_rng(seed)
    blobs = gaussian_filter(random.standard_normal(shape), 1.5)
    hr = np.clip(0.5 + 0.2 * blobs / blobs.std(), 0, 1)
    lr = np.clip(gaussian_filter(hr, 1) + 0.08 * random.standard_normal(shape), 0, 1)
    everywhere: NDArray[np.bool_] = np.ones(shape, dtype=bool)
    return RegisteredPair(
        f"toy-{seed}",
        lr.astype(np.float32),
        hr.astype(np.float32),
        everywhere,
        report(magnification),
    )


def lively_network(name: str = "aeanet", seed: int = 0) -> UShape:
    """Untrained, but its attention makes a difference of percents, and what it makes of noise lies
    within 0 to 1.
    """
    torch.manual_seed(seed)
    model = build_model(name).eval()
    noise = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        if isinstance(model, AEANet | GVTNet):
            model.bottom.output.weight *= 30
        model.last.weight.abs_()
        model.last.weight *= 0.7 / model(noise).max()
    return model


def lively(model: UShape, seed: int = 0) -> UShape:
    """Every parameter and running statistic away from its initial value, so that none can be left
    out unnoticed.
    """
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (
                0.1
                * parameter.abs().mean().clamp(min=0.5)
                * torch.randn(parameter.shape, generator=random)
            )
    return model


def tiles_alone(model: UShape, image: NDArray, side: int) -> NDArray:
    """What tiles give that attend to themselves alone: any test of exact tiles must tell it from
    the whole.
    """
    result = np.zeros_like(image)

    def write(rows: slice, columns: slice, region: NDArray) -> None:
        result[rows, columns] = region

    run_tiles(
        model,
        lambda rows, columns: image[rows, columns],
        write,
        image.shape,
        side=side,
        exact=False,
    )
    return result


def uneven_noise(height: int, width: int) -> NDArray[np.float32]:
    """Noise that is darker to the right, so that a tile does not know the whole image by itself."""
    noise = np.random.default_rng(0).random((height, width), np.float32)
    return noise * np.linspace(1, 0.2, width, dtype=np.float32)


BRIEF = ["--steps", "2", "--crop", "16", "--batch", "2"]
"""A training of two steps."""


def assert_one_sentence(result: Result, *words: str, code: int = 1) -> None:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.endswith("."), result.stderr
    for word in words:
        assert word in last, result.stderr
