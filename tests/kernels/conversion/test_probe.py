"""What `aea.convert` tries on a module before it decides: that nothing of it stays, and what it
finds out.
"""

import copy
import threading

import originals_families as families
import originals_nonlocal as nonlocal_blocks
import pytest
import torch
from equality import randomised
from torch import nn

import aea_kernels as aea

SIZE = (2, 6, 8, 8)


class Storing(families.LinearAttention):
    """Stores all that a forward may store: a table of the first size and dtype, numbers, tensors,
    results with a history, a part, and objects that nothing can copy.

    `added` times its input more than what is known: with 0 it is replaced.
    """

    def __init__(self, added: float) -> None:
        super().__init__(6, 2, 4)
        self.added, self.calls, self.seen, self.table = added, 0, [], None
        self.total, self.lock = torch.zeros(()), threading.Lock()
        self.kept = {"result": torch.ones(2, requires_grad=True) * 2, "lock": self.lock}
        self.parts, self.outside = [self.to_qkv], [nn.BatchNorm2d(6)]
        self.address = self.outside[0].weight.data_ptr()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("late", None)

    def forward(self, x):
        if self.table is None:
            self.table = torch.ones_like(x[:1])
        self.calls += 1
        self.seen.append(tuple(x.shape))
        self.total += 1
        self.steps += 1
        self.late = x.mean()
        self.to_out.last = x
        self.to_out[0].train()
        self.again = nn.Identity()
        assert self.parts[0] is self.to_qkv
        (outside,) = self.outside
        outside.running_mean += 1
        assert outside.weight.data_ptr() == self.address  # not copied: it may be large
        return (super().forward(x) + self.added * x) * self.table


def state(module: nn.Module) -> dict[str, object]:
    """Everything that the module and its parts hold, but for parameters and hooks."""
    held: dict[str, object] = {}
    for name, part in module.named_modules():
        held |= {f"{name}:{key}": value for key, value in vars(part).items() if key[0] != "_"}
        held |= {f"{name}:{key}": value for key, value in part._buffers.items()}
        held |= {f"{name}:{key}": value for key, value in part._modules.items()}
    return held


@pytest.mark.parametrize(("added", "result"), [(0.0, "exact"), (1.0, "left alone")])
def test_nothing_that_is_stored_stays(added: float, result: str) -> None:
    module = Storing(added).eval()
    held = state(module)
    statistics = module.outside[0].running_mean
    numbers = copy.deepcopy([module.seen, module.total, module.steps])
    (entry,) = aea.convert(nn.Sequential(module), strict=False).modules
    assert entry.result == result

    assert state(module).keys() == held.keys()
    assert all(value is held[name] for name, value in state(module).items())
    assert [module.seen, module.total, module.steps] == numbers
    assert not statistics.any()
    y = module(torch.randn(SIZE))
    assert y.shape == SIZE
    assert y.dtype == torch.float32


def test_a_check_stores_nothing() -> None:
    module, x = Storing(0.0), torch.randn(SIZE)
    report = aea.convert(module)
    assert report.check(x) < 1e-12
    assert (module.table, module.calls, module.seen) == (None, 0, [])
    assert module.steps == 0
    report.revert()
    assert module(x).dtype == torch.float32


class Failing(families.LinearAttention):
    def forward(self, x):
        self.calls = 1
        self.eval()
        raise RuntimeError("of the module")


def test_nor_where_the_module_fails() -> None:
    module = Failing(6, 2, 4).train()
    (entry,) = aea.convert(module, strict=False).modules
    assert entry.why == "it does not run on (2, 6, 5, 6): of the module"
    assert not hasattr(module, "calls")
    assert all(part.training for part in module.modules())


class Windowed(families.Attention):
    """Attends in windows of 16, as at test time in image restoration."""

    def forward(self, x):
        columns = [
            torch.cat([super(Windowed, self).forward(t) for t in c.split(16, 2)], 2)
            for c in x.split(16, 3)
        ]
        return torch.cat(columns, 3)


class Limited(families.LinearAttention):
    def forward(self, x):
        return super().forward(x.clamp(-10, 10))


class Pooled(families.LiteMLA):
    """Averages over pairs of positions above a size."""

    def forward(self, x):
        if x[0, 0].numel() < 1000:
            return super().forward(x)
        return super().forward(nn.functional.avg_pool2d(x, (1, 5))).repeat_interleave(5, 3)


@pytest.mark.parametrize(
    "module",
    [Windowed(6, 2, False), Limited(6, 2, 4), Pooled(6, 6, dim=3)],
    ids=lambda module: type(module).__name__,
)
def test_what_only_a_large_input_shows(module: nn.Module) -> None:
    (entry,) = aea.convert(randomised(module), strict=False).modules
    assert entry.result == "left alone"
    assert "random numbers of shape (1, 6, 40, 35) its results differ by" in entry.why


class EmbeddedGaussian(nonlocal_blocks.NONLocalBlock2D):
    softmax = staticmethod(torch.softmax)

    def forward(self, x):
        query, key, value = (part(x).flatten(2) for part in (self.theta, self.phi, self.g))
        y = value @ self.softmax(query.mT @ key, -1).mT
        return x + self.W(y.unflatten(2, x.shape[2:]))


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(
    "softmax", [torch.softmax, torch.Tensor.softmax, nn.functional.softmax, nn.Softmax]
)
def test_a_softmax_is_named(softmax: object, pooled: bool) -> None:
    module = EmbeddedGaussian(6, sub_sample=pooled)
    if softmax is nn.Softmax:
        module.softmax = lambda scores, axis: nn.Softmax(axis)(scores)
    else:
        module.softmax = softmax
    (entry,) = aea.convert(randomised(module), strict=False).modules
    assert entry.why == "softmax over positions is no sum over the keys"


def test_what_has_more_than_a_softmax_is_not_called_one() -> None:
    class Scaled(EmbeddedGaussian):
        def forward(self, x):
            return super().forward(x) - x

    (entry,) = aea.convert(randomised(Scaled(6)), strict=False).modules
    assert entry.why.startswith("it computes something else: on random numbers of shape (2, 6, 5")
