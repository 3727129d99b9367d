"""How converted modules are called: names of arguments, and hooks on their parts."""

from collections.abc import Callable

import originals_families as families
import originals_nonlocal as nonlocal_blocks
import pytest
import torch
from equality import randomised
from torch import nn
from torch.nn.utils import prune

import aea_kernels as aea

SIZE = (2, 6, 5, 7)


class Named(families.LinearAttention):
    def forward(self, fmap, scale=1.0):
        return super().forward(fmap) * scale


def test_the_input_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = randomised(Named(6, 2, 4)), torch.randn(SIZE, dtype=torch.float64)
    expected, doubled = module(fmap=x), module(fmap=x, scale=2)
    report = aea.convert(nn.Sequential(module))
    torch.testing.assert_close(module(fmap=x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)
    for y in (module(fmap=x, scale=2), module(x, scale=2), module(x, 2), module(scale=2, fmap=x)):
        assert torch.equal(y, doubled)

    # errors are the original's own
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'fmap'"):
        module()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        module(x, other=1)

    # by its name it still goes to the sums
    monkeypatch.setattr(Named, "forward", lambda *_, **__: None)
    assert module(fmap=x) is not None
    report.revert()
    assert module(fmap=x) is None


def gradients(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module(x).sum(), x)[0]


REGISTER = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_backward_hook",
)


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook:FutureWarning")
@pytest.mark.parametrize("register", REGISTER)
def test_a_part_with_hooks_of_any_kind_is_called(register: str) -> None:
    """Before the conversion, so the module is left alone; and on a projection afterwards."""
    module, x = randomised(families.LinearAttention(6, 2, 4)), torch.randn(SIZE).double()
    seen: list[str] = []
    handle = getattr(module.to_qkv, register)(lambda *_: seen.append("run"))
    (entry,) = aea.convert(module, strict=False).modules
    assert entry.why == "to_qkv has hooks, which would not run"
    handle.remove()

    aea.convert(module)
    gradients(module, x)
    assert seen == []
    getattr(module.to_qkv, register)(lambda *_: seen.append("run"))
    gradients(module, x)
    assert seen == ["run"]


RECOMPUTED: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda part: prune.random_unstructured(part, "weight", 0.5),
    "pruned bias": lambda part: prune.random_unstructured(part, "bias", 0.5),
    "weight norm": nn.utils.weight_norm,
    "spectral norm": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", RECOMPUTED)
def test_weights_that_hooks_recompute_are_never_old(name: str, compiled: bool) -> None:
    module = randomised(nonlocal_blocks.NONLocalBlock2D(6)).eval()
    x = torch.randn(SIZE, dtype=torch.float64)
    report = aea.convert(module)
    keys = module.summarize(x)
    module(x)
    RECOMPUTED[name](module.theta)
    module(x)
    with torch.no_grad():
        for parameter in module.theta.parameters():
            parameter.mul_(-3)

    torch._dynamo.reset()
    called = torch.compile(module, fullgraph=True, backend="aot_eager") if compiled else module
    found = called(x)
    module.keys = keys
    with pytest.raises(ValueError, match="keys are set, and hooks recompute a weight"):
        module(x)
    report.revert()
    torch.testing.assert_close(found, module(x), rtol=1e-10, atol=1e-10)


def test_the_sums_are_back_once_pruning_is_made_permanent() -> None:
    module = randomised(nonlocal_blocks.NONLocalBlock2D(6)).eval()
    x = torch.randn(SIZE, dtype=torch.float64)
    aea.convert(module)
    prune.random_unstructured(module.theta, "weight", 0.5)
    expected = module(x)
    prune.remove(module.theta, "weight")
    module.keys = module.summarize(x)
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)
