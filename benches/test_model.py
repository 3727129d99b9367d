"""The networks on a whole 1280x944 image and in a training step, with the attention's share of the
time.
"""

from __future__ import annotations

import pytest

from aea_kernels import AugmentedAttention

from .cases import MODEL_SHAPES, arithmetic, model_case, model_group
from .racing import Race
from .timing import timed

thorough = pytest.mark.thorough
# a CPU has neither TF32 nor graphs, and is slower in 16 bits than in 32
ON_GPU = [thorough, pytest.mark.on("cuda")]
NETWORKS = ["aeanet", pytest.param("gvtnet", marks=thorough), pytest.param("unet", marks=thorough)]


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
    with arithmetic(precision, race.device):
        model, (run, inputs) = model_case(race.device, name, MODEL_SHAPES[training], training)
        attention = [m for m in model.modules() if isinstance(m, AugmentedAttention)]
        if attention and not training:
            with timed(model) as whole, timed(attention[0]) as part:
                for _ in range(2):  # the first call warms up
                    run(*inputs[0])
            race.benchmark.extra_info["attention_share"] = part.seconds / whole.seconds
        group = model_group(precision, training, captured)
        race.run(group, name, lambda: (run, inputs), captured=captured)
