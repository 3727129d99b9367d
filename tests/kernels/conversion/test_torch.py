"""Converted modules as the rest of PyTorch sees them: compiled, exported, copied, pickled, in a
process group.
"""

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import originals_families as families
import originals_nonlocal as nonlocal_blocks
import originals_softmax as softmax_blocks
import pytest
import torch
from equality import gradients, randomised
from test_converted_families import sana, sana_multiscale
from test_nonlocal import mmcv_block
from torch import nn

import aea_kernels as aea
from aea_kernels.testing.strategies import normal

MAP, TOKENS = (2, 6, 4, 6), (2, 9, 6)
MODULES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "mmcv": (MAP, partial(mmcv_block, 2, 6)),
    "mmcv pooled, bn": (MAP, partial(mmcv_block, 2, 6, sub_sample=True, norm_cfg={"type": "BN2d"})),
    "alexhex": (MAP, partial(nonlocal_blocks.NONLocalBlock2D, 6)),
    "SlowFast": (
        (2, 6, 2, 4, 4),
        partial(nonlocal_blocks.Nonlocal, 6, 4, (1, 2, 2), "dot_product"),
    ),
    "LiteMLA": (MAP, partial(families.LiteMLA, 6, 6, dim=3)),
    "SANA multiscale": (MAP, sana_multiscale),
    "SANA": (TOKENS, sana),
    "LinearAttention": (MAP, partial(families.LinearAttention, 6, heads=2, dim_head=4)),
    "Restormer": (MAP, partial(families.Attention, 6, 2, True)),
    "XCA": (TOKENS, partial(families.XCA, 6, 2)),
}


@pytest.fixture(params=MODULES)
def converted(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    shape, make = MODULES[request.param]
    module = randomised(make())
    aea.convert(module)
    return module, torch.randn(shape, dtype=torch.float64)


def test_compiled_without_a_break(converted: tuple[nn.Module, torch.Tensor]) -> None:
    """In training; `test_exported` traces prediction."""
    module, x = converted
    torch._dynamo.reset()
    y, expected = gradients(copy.deepcopy(module), x)
    y_compiled, got = gradients(torch.compile(module, fullgraph=True, backend="aot_eager"), x)
    torch.testing.assert_close(y_compiled, y, rtol=1e-12, atol=1e-12)
    got = {name.removeprefix("_orig_mod."): gradient for name, gradient in got.items()}
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_a_retrained_block_is_compiled_for_prediction() -> None:
    """Without gradients torch.compile traces the Function's forward by itself."""
    module, x = (
        softmax_blocks.AttentionBlock(6, 2, groups=3).double().eval(),
        torch.randn(MAP, dtype=torch.float64),
    )
    aea.convert(module, retrain=True)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), module(x), rtol=1e-12, atol=1e-12)


def test_exported(converted: tuple[nn.Module, torch.Tensor]) -> None:
    module, x = converted
    module.eval()
    program = torch.export.export(module, (x,))
    torch.testing.assert_close(program.module()(x), module(x), rtol=1e-12, atol=1e-12)


def test_copied_pickled_and_saved(converted: tuple[nn.Module, torch.Tensor]) -> None:
    module, x = converted
    module.eval()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved):
        assert type(other) is type(module)
        assert torch.equal(other(x), module(x))


@pytest.mark.parametrize("name", MODULES)
def test_weights_go_back_and_forth(name: str) -> None:
    shape, make = MODULES[name]
    original, fresh = randomised(make()).eval(), make().double().eval()
    aea.convert(fresh)
    assert list(fresh.state_dict()) == list(original.state_dict())
    fresh.load_state_dict(original.state_dict())
    again = make().double().eval()
    again.load_state_dict(fresh.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.equal(again(x), original(x))


class Sum(nn.ModuleDict):
    def forward(self, x):
        return sum(block(x) for block in self.values())


def test_in_a_process_group(tmp_path: Path) -> None:
    """DistributedDataParallel over one process: each parameter has the gradient that it has
    without.
    """
    names = ("alexhex", "LinearAttention", "LiteMLA")
    network = Sum({name: randomised(MODULES[name][1]()) for name in names})
    aea.convert(network)
    x = torch.randn(MAP, dtype=torch.float64)
    y, expected = gradients(copy.deepcopy(network), x)

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        parallel = nn.parallel.DistributedDataParallel(network)
        weights = normal(*y.shape, dtype=y.dtype, seed=1)
        (parallel(x) * weights).sum().backward()
        # where it is the last to hold the group, its end waits for a thread that waits for Python
        del parallel
    finally:
        torch.distributed.destroy_process_group()
    got = {name: parameter.grad for name, parameter in network.named_parameters()}
    torch.testing.assert_close(got, {name: expected[name] for name in got}, rtol=1e-10, atol=1e-10)
