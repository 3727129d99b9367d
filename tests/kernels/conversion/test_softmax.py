"""Softmax blocks replaced with `retrain=True`: what the original gives when its softmax is a
division, in float64.
"""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from types import ModuleType

import originals_softmax as originals
import pytest
import torch
from equality import TOLERANCE, deviations, gradients, randomised
from torch import nn

import aea_kernels as aea
from aea_kernels import reference, testing
from aea_kernels.conversion.softmax import TokenAttention


def monai(module: str) -> ModuleType:
    # the library that these blocks come from is in the extra foreign, which the tests of the others
    # do not need
    pytest.importorskip(
        "einops", reason="the package einops, which MONAI's attention needs, is not installed"
    )
    return pytest.importorskip(
        f"monai.networks.{module}", reason="the package monai is not installed"
    )


def monai_block(dimension: int, **options: object) -> nn.Module:
    return monai("blocks").SpatialAttentionBlock(dimension, 8, norm_num_groups=2, **options)


def sablock(**options: object) -> nn.Module:
    return monai("blocks").SABlock(8, 2, **options)


def diffusers_attention(**options: object) -> nn.Module:
    # the library that these blocks come from is in the extra foreign, which the tests of the others
    # do not need
    module = pytest.importorskip(
        "diffusers.models.attention_processor", reason="the package diffusers is not installed"
    )
    return module.Attention(8, heads=2, dim_head=4, **options)


BLOCK = {"norm_num_groups": 2, "residual_connection": True, "bias": True}
MAP, TOKENS = (2, 8, 3, 5), (2, 9, 8)
CASES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], type | None]] = {
    "MONAI 1d": ((2, 8, 9), partial(monai_block, 1), aea.AugmentedAttention),
    "MONAI 2d, heads": (MAP, partial(monai_block, 2, num_head_channels=4), aea.AugmentedAttention),
    "MONAI 3d, combined": (
        (2, 8, 2, 3, 4),
        partial(monai_block, 3, use_combined_linear=True),
        aea.AugmentedAttention,
    ),
    "MONAI, no output projection": (
        MAP,
        partial(monai_block, 2, include_fc=False),
        aea.AugmentedAttention,
    ),
    "SABlock": (TOKENS, partial(sablock, qkv_bias=True), aea.AugmentedAttention),
    "SABlock, wide heads": (
        TOKENS,
        partial(sablock, dim_head=6, use_combined_linear=False),
        aea.AugmentedAttention,
    ),
    "diffusers block": (MAP, partial(diffusers_attention, **BLOCK), aea.AugmentedAttention),
    "diffusers block on tokens": (
        TOKENS,
        partial(diffusers_attention, **BLOCK),
        aea.AugmentedAttention,
    ),
    "diffusers, rescaled": (
        MAP,
        partial(diffusers_attention, rescale_output_factor=2.0, **BLOCK),
        None,
    ),
    "diffusers tokens": (TOKENS, diffusers_attention, None),
    "diffusers tokens, norms": (TOKENS, partial(diffusers_attention, qk_norm="layer_norm"), None),
    "guided diffusion": (
        MAP,
        partial(originals.AttentionBlock, 8, 2, groups=4),
        aea.AugmentedAttention,
    ),
    "guided diffusion, new order": (
        MAP,
        partial(originals.AttentionBlock, 8, 2, True, 4),
        aea.AugmentedAttention,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_starts_from_the_norm_and_the_projections(name: str) -> None:
    shape, make, cls = CASES[name]
    original = randomised(make())
    replaced = copy.deepcopy(original)
    (entry,) = aea.convert(replaced, retrain=True).modules
    assert entry.result == "retrain"
    assert cls is None or isinstance(replaced, cls)
    x = torch.randn(shape, dtype=torch.float64)
    with originals.NoSoftmax():
        y, expected = gradients(original, x)
    y_replaced, got = gradients(replaced, x)
    pairs = deviations({"y": y_replaced, "x": got["input"]}, {"y": y, "x": expected["input"]})
    assert {name: error for name, error in pairs if error > TOLERANCE} == {}


RENAMED = [name for name, (_, _, cls) in CASES.items() if cls is not None]


@pytest.mark.parametrize("name", RENAMED)
def test_a_checkpoint_from_before_the_conversion_loads(name: str) -> None:
    """As if the network that it is from had been converted; so it does into a copy and into what
    was pickled.
    """
    make = CASES[name][1]
    original, network = (nn.ModuleDict({"block": randomised(make())}) for _ in range(2))
    checkpoint = copy.deepcopy(original.state_dict())
    for converted in (original, network):
        aea.convert(converted, retrain=True)
    own, expected = copy.deepcopy(network.state_dict()), original.state_dict()
    assert not torch.equal(own["block.query.weight"], expected["block.query.weight"])
    for loaded in (network, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        names = list(checkpoint)
        loaded.load_state_dict(checkpoint)
        assert list(checkpoint) == names
        torch.testing.assert_close(loaded.state_dict(), expected, rtol=0, atol=0)
        loaded.load_state_dict(own)
        torch.testing.assert_close(loaded.state_dict(), own, rtol=0, atol=0)


def test_a_checkpoint_that_does_not_fit_is_refused() -> None:
    block = randomised(originals.AttentionBlock(8, 2, groups=4))
    checkpoint = copy.deepcopy(block.state_dict())
    report = aea.convert(block, retrain=True)
    before = copy.deepcopy(block.state_dict())

    # of another size: a line for each parameter, and the block, or a copy of it, stays as it is
    wider = originals.AttentionBlock(16, 2, groups=4).state_dict()
    twins = [copy.deepcopy(block), pickle.loads(pickle.dumps(block))]
    for refusing in (block, *map(randomised, twins)):
        kept = copy.deepcopy(refusing.state_dict())
        with pytest.raises(
            RuntimeError,
            match=r"qkv.weight: it is \(48, 16, 1\) in the checkpoint, but was \(24, 8, 1\)",
        ) as refused:
            refusing.load_state_dict(wider)
        lines = str(refused.value).splitlines()[1:]
        named = {line.removeprefix("\tsize mismatch for ").partition(":")[0] for line in lines}
        assert named == wider.keys()
        assert all(torch.equal(t, kept[name]) for name, t in refusing.state_dict().items())

    # incomplete, with more than the original had
    without = {name: weight for name, weight in checkpoint.items() if name != "qkv.bias"}
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"qkv.weight"'):
        block.load_state_dict(without)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"other"'):
        block.load_state_dict({**checkpoint, "other": torch.zeros(1)})

    block.load_state_dict(before)
    report.revert()
    block.load_state_dict(checkpoint)
    assert torch.equal(block.qkv.weight, checkpoint["qkv.weight"])


def test_reverted_and_applied_again() -> None:
    block = randomised(originals.AttentionBlock(8, 2, groups=4)).eval()
    x = torch.randn(MAP, dtype=torch.float64)
    seen = []
    block.register_forward_hook(lambda *_: seen.append(1))
    network = nn.Sequential(block)
    with originals.NoSoftmax():
        expected, names = block(x), list(network.state_dict())
    report = aea.convert(network, retrain=True)
    assert network[0] is block
    assert isinstance(block, aea.AugmentedAttention)
    assert not block.training
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-10)

    report.revert()
    assert type(block) is originals.AttentionBlock
    assert list(network.state_dict()) == names
    with originals.NoSoftmax():
        assert torch.equal(network(x), expected)

    report.apply()
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-10)
    assert len(seen) == 4
    with pytest.raises(ValueError, match="replaced exactly now, so there is nothing to check"):
        report.check(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tokens_keep_the_digits_of_a_small_result(dtype: torch.dtype) -> None:
    block = TokenAttention(32, references=0, batch_aware=False, norm=None)
    nn.init.uniform_(block.output.weight, -0.01, 0.01)
    parts = [block.query, block.key, block.value, block.output]
    weights = [
        p.detach().to(dtype).requires_grad_() for part in parts for p in (part.weight, part.bias)
    ]

    def converted(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(block, dict(zip(names, weights, strict=True)), (x,))

    def plain(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        inner = [nn.functional.linear(x, weights[i], weights[i + 1]) for i in (0, 2, 4)]
        query, key, value = (t.unflatten(2, (2, -1)).transpose(1, 2) for t in inner)
        attended = (
            reference.linear_attention(query, key, value, scale=block.scale)
            .transpose(1, 2)
            .flatten(2)
        )
        return nn.functional.linear(attended, weights[6], weights[7])

    names = [
        f"{name}.{part}"
        for name in ("query", "key", "value", "output")
        for part in ("weight", "bias")
    ]
    x = torch.randn(2, 100, 32).to(dtype).requires_grad_()
    testing.assert_within_error_budget(converted, plain, x, *weights)


def test_hooks_of_both_directions_stay() -> None:
    block, x = originals.AttentionBlock(8, 2, groups=4), torch.randn(MAP, requires_grad=True)
    seen: list[str] = []
    block.register_forward_hook(lambda *_: seen.append("forward"), always_call=True)
    block.register_full_backward_pre_hook(lambda *_: seen.append("before"))
    block.register_full_backward_hook(lambda *_: seen.append("after"))
    report = aea.convert(block, retrain=True)
    block.register_full_backward_hook(lambda *_: seen.append("later"))

    for change in (report.revert, report.apply):
        block(x).sum().backward()
        assert seen == ["forward", "before", "after", "later"]
        seen.clear()
        change()
    with pytest.raises(ValueError, match="x is"):
        block(x[0])
    assert seen == ["forward"]


def test_without_retrain_they_are_left_alone() -> None:
    block = originals.AttentionBlock(8, groups=4)
    with pytest.raises(
        ValueError, match="softmax over positions is no sum over the keys; retrain=True replaces it"
    ):
        aea.convert(block)
    assert type(block) is originals.AttentionBlock


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(sablock, dropout_rate=0.1), "drop_weights drops 0.1 of the scores"),
        (partial(sablock, causal=True, sequence_length=9), "it has causal, which needs the map"),
        (partial(sablock, save_attn=True), "it has save_attn, which needs the map"),
        (
            partial(sablock, rel_pos_embedding="decomposed", input_size=(3, 3)),
            "rel_positional_embedding",
        ),
        (partial(sablock, hidden_input_size=6, include_fc=False), "other channels than its input"),
        (
            partial(diffusers_attention, cross_attention_dim=4),
            "attends to the keys of another input",
        ),
        (partial(diffusers_attention, is_causal=True), "it is causal"),
        (partial(diffusers_attention, kv_heads=1), "several queries share a head of keys"),
        (partial(originals.EncoderAttentionBlock, 8), "keys of an encoder"),
    ],
)
def test_what_cannot_be_a_sum_is_left_alone(make: Callable[[], nn.Module], reason: str) -> None:
    module = make()
    cls = type(module)
    (entry,) = aea.convert(module, retrain=True, strict=False).modules
    assert entry.result == "left alone"
    assert reason in entry.why
    assert type(module) is cls


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (sablock, {"x": TOKENS, "attn_mask": (2, 9)}, "attn_mask is given"),
        (
            diffusers_attention,
            {"hidden_states": TOKENS, "attention_mask": (2, 1, 9)},
            "attention_mask is given",
        ),
        (
            partial(diffusers_attention, **BLOCK),
            {"hidden_states": TOKENS, "encoder_hidden_states": TOKENS},
            "encoder_hidden_states is given",
        ),
    ],
)
def test_a_mask_or_other_keys_are_refused(
    make: Callable[[], nn.Module], arguments: dict[str, tuple[int, ...]], message: str
) -> None:
    module = make()
    aea.convert(module, retrain=True)
    with pytest.raises(ValueError, match=message):
        module(**{name: torch.ones(shape) for name, shape in arguments.items()})


def test_cross_attention_by_the_processor() -> None:
    """Where a user asks for it, the processor takes the keys of another input."""
    module = randomised(diffusers_attention(cross_attention_dim=4))
    x, context = torch.randn(TOKENS, dtype=torch.float64), torch.randn(2, 5, 4, dtype=torch.float64)
    with originals.NoSoftmax():
        expected = module(x, encoder_hidden_states=context)
    module.set_processor(aea.LinearAttentionProcessor())
    torch.testing.assert_close(
        module(x, encoder_hidden_states=context), expected, rtol=1e-10, atol=1e-10
    )


def test_a_whole_unet_of_monai_trains() -> None:
    unet = monai("nets").DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(8, 16),
        attention_levels=(False, True),
        num_res_blocks=1,
        num_head_channels=8,
        norm_num_groups=4,
    )
    report = aea.convert(unet, retrain=True)
    assert {entry.class_name for entry in report.replaced} == {"SpatialAttentionBlock"}
    assert len(report.replaced) == len(report.modules) > 2

    y = unet(torch.randn(2, 1, 16, 24), timesteps=torch.tensor([1, 5]))
    assert y.shape == (2, 1, 16, 24)
    y.square().sum().backward()
    blocks = [module for module in unet.modules() if isinstance(module, aea.AugmentedAttention)]
    assert all(block.norm.weight.grad is not None for block in blocks)
