"""The modules that a block holds are read, and not called: what would compute something else when
it is called is refused in one sentence.
"""

from __future__ import annotations

import pytest
import torch
from strategies import HERE
from torch import nn
from torch.nn.utils import parametrizations, prune

import aea_kernels as aea

X = torch.randn(2, 4, 3, 3, device=HERE)


def block(**modules):
    """A block with some of its modules replaced."""
    held = aea.AugmentedAttention(4, references=2).eval()
    for name, module in modules.items():
        setattr(held, name, module)
    return held


class Adapted(nn.Module):
    """A projection with something added, as adapters wrap it."""

    def __init__(self, base):
        super().__init__()
        self.weight, self.bias, self.more = base.weight, base.bias, nn.Linear(4, 4)


class Doubled(nn.Linear):
    """A projection with something added, as adapters derive it."""

    def forward(self, x):
        return 2 * super().forward(x)


class Activated(nn.BatchNorm2d):
    """A norm with an activation, as timm has it."""

    def forward(self, x):
        return super().forward(x).relu()


def patched():
    """As some libraries put another forward into a module."""
    projection = nn.Linear(4, 4)
    projection.forward = Doubled(4, 4).forward
    return projection


REFUSED = {
    "of processes": (
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(block()),
        "norm is a SyncBatchNorm, expected BatchNorm2d",
    ),
    "wrapped": (
        lambda: block(query=Adapted(nn.Linear(4, 4))),
        "query is a Adapted, expected a torch.nn.Linear with bias",
    ),
    "without bias": (
        lambda: block(query=nn.Linear(4, 4, bias=False)),
        "query is a Linear without bias, expected a torch.nn.Linear with bias",
    ),
    "derived": (
        lambda: block(output=Doubled(4, 4)),
        "output is a Doubled with a forward of its own, expected a torch.nn.Linear",
    ),
    "patched": (
        lambda: block(key=patched()),
        "key is a Linear with a forward of its own, expected a torch.nn.Linear",
    ),
    "pruned": (
        lambda: block(value=prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)),
        "value has a hook that sets its parameters before each call",
    ),
    "quantised": (
        lambda: torch.ao.quantization.quantize_dynamic(block(), {nn.Linear}),
        "query is a Linear, expected a torch.nn.Linear with bias",
    ),
    "norm with more": (
        lambda: block(norm=Activated(4)),
        "norm is a Activated with a forward of its own, expected a torch.nn.BatchNorm2d",
    ),
    "norm of other channels": (
        lambda: block(norm=nn.GroupNorm(4, 8)),
        "norm is for 8 channels, expected 4 as the block",
    ),
    "norm of other axes": (
        lambda: block(norm=nn.LayerNorm((4, 3))),
        "norm is for (4, 3) channels, expected 4 as the block",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_more_than_its_parameters_say_is_refused(name):
    make, message = REFUSED[name]
    for call in (make(), make().relevance):
        with pytest.raises((TypeError, ValueError)) as refused:
            call(X)
        assert str(refused.value).startswith(message)


def test_a_plan_refuses_it_too():
    other = block(norm=nn.InstanceNorm2d(4))
    with pytest.raises(TypeError, match="norm is a InstanceNorm2d, expected BatchNorm2d"):
        aea.explain(other, (1, 4, 3))


def test_what_only_looks_or_is_parametrised_is_taken():
    """Hooks of tools such as torchinfo; parametrisations, whose weight is computed when it is read;
    pruning that was made permanent.
    """
    seen, called = block(), []
    for module in seen.modules():
        module.register_forward_pre_hook(lambda module, _: called.append(module))
    assert seen(X).shape == X.shape
    assert called == [seen]
    seen.eval().relevance(X)
    assert called == [seen]

    plain, orthogonal = block(), block()
    parametrizations.orthogonal(orthogonal.query)
    plain.load_state_dict(
        {k: v for k, v in orthogonal.state_dict().items() if "query" not in k}, strict=False
    )
    plain.query.weight.data.copy_(orthogonal.query.weight)
    plain.query.bias.data.copy_(orthogonal.query.bias)
    torch.testing.assert_close(orthogonal(X), plain(X))

    pruned = block(value=prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5))
    prune.remove(pruned.value, "weight")
    assert (pruned.value.weight == 0).sum() == 8
    assert pruned(X).shape == X.shape
