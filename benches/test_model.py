"""The networks on a whole 1280x944 image and in a training step, with the attention's share of the
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from aea_kernels import AugmentedAttention
from aeanet import build_model

from .conftest import Race, normal
from .timing import timed

thorough = pytest.mark.thorough
# a CPU has neither TF32 nor graphs, and is slower in 16 bits than in 32
ON_GPU = [thorough, pytest.mark.on("cuda")]
NETWORKS = ["aeanet", pytest.param("gvtnet", marks=thorough), pytest.param("unet", marks=thorough)]


@pytest.fixture
def arithmetic(precision: str, race: Race) -> Iterator[None]:
    """float32, float32 by TF32 products, or bfloat16 where autocast says so."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium" if precision == "tf32" else before[0])
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    with torch.autocast(
        race.device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    ):
        yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "captured", [False, pytest.param(True, marks=ON_GPU)], ids=["calls", "CUDA graph"]
)
@pytest.mark.parametrize(
    "precision", ["float32", *(pytest.param(p, marks=ON_GPU) for p in ("tf32", "bfloat16"))]
)
@pytest.mark.parametrize(
    "training", [False, pytest.param(True, marks=thorough)], ids=["inference", "training step"]
)
def test_model(race: Race, name: str, training: bool, precision: str, captured: bool) -> None:
    torch.manual_seed(0)
    model = build_model(name).to(race.device).train(training)
    shape = (8, 1, 128, 128) if training else (1, 1, 944, 1280)
    x = normal(*shape, dtype=torch.float32, device=race.device)

    def infer(x: torch.Tensor) -> Any:
        with torch.inference_mode():
            return model(x)

    def step(x: torch.Tensor) -> Any:
        model.zero_grad()
        torch.nn.functional.mse_loss(model(x), x).backward()

    run = step if training else infer
    attention = [m for m in model.modules() if isinstance(m, AugmentedAttention)]
    if attention and not training:
        with timed(model) as whole, timed(attention[0]) as part:
            for _ in range(2):  # the first call warms up
                run(x)
        race.benchmark.extra_info["attention_share"] = part.seconds / whole.seconds
    case = ["training step, 8 of 128 x 128" if training else "inference, 1280 x 944"]
    case += [precision] * (precision != "float32") + ["CUDA graph"] * captured
    race.run(f"model | {', '.join(case)}", name, lambda: (run, [(x,)]), captured=captured)
