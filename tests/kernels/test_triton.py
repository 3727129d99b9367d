"""What only the Triton kernels have: layouts as strides, paths through the tiles, workspaces,
64-bit offsets.
"""

import copy
import threading

import pytest
import torch
from launches import instead_of_launch, launch
from oracle import block_as_function, oracle
from rounding import assert_same_but_for_rounding
from strategies import normal

import aea_kernels as aea
from aea_kernels import reference, testing
from aea_kernels.backends.triton import kernels, launching, operands, primitives

pytestmark = pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module")

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: (
        torch.cat([x, x], 3).flatten(2).unflatten(2, (x.shape[2], -1))[..., : x.shape[3]]
    ),
    "transposed": lambda x: x.mT.contiguous().mT,
    "expanded": lambda x: x[:1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [False, True])
def test_block_output_and_every_gradient_in_every_layout(layout, training):
    torch.manual_seed(0)
    block = (
        aea.AugmentedAttention(6, references=3, key_channels=4, value_channels=10)
        .double()
        .train(training)
    )
    x = LAYOUTS[layout](normal(3, 6, 11, 13)).requires_grad_()
    testing.assert_parity(
        block_as_function(block, "triton"),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-9,
    )


@pytest.mark.parametrize("channels", [1, 130])
def test_block_of_one_channel_and_of_several_channel_tiles(channels):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(channels, heads=1, references=2).double().train()
    x = normal(2, channels, 5, 9).requires_grad_()
    testing.assert_parity(
        block_as_function(block, "triton"),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-8,
    )


@pytest.mark.parametrize(("keys", "values"), [(4, 64), (64, 4), (64, 64)])
@pytest.mark.parametrize("heads", [1, 2])
def test_keys_and_values_of_more_channels_than_the_feature_map(keys, values, heads):
    """The gradient of the output projection has as many columns as values, the others have those of
    the feature map.
    """
    torch.manual_seed(0)
    block = aea.AugmentedAttention(
        10, heads=heads, references=2, key_channels=keys, value_channels=values
    )
    x = normal(2, 10, 5, 9).requires_grad_()
    block = block.double().train()
    ours, expected = block_as_function(block, "triton"), oracle(block)
    testing.assert_parity(ours, expected, x, *block.parameters(), tolerance=1e-8)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_norm_over_more_channels_than_a_tile_holds_attends_to_keys(norm):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(140, norm=norm, references=2).eval()
    torch.nn.init.normal_(block.output.weight, std=0.3)
    x = normal(2, 140, 3, 5, dtype=torch.float32)
    with torch.no_grad():
        whole = block(x)
        block.keys = block.moments(x)
        torch.testing.assert_close(block(x), whole, rtol=1e-4, atol=1e-4)


def test_statistics_of_more_than_2_to_the_31_positions():
    """The last of nine parts holds three positions, of value 1; the others are zeros."""
    span, parts = 2**28, 9
    partial = torch.zeros(parts, 2, 1)
    partial[-1, 0] = 1
    mean, variance = (torch.empty(1, dtype=torch.float64) for _ in range(2))
    positions = (parts - 1) * span + 3
    launching.launch(
        kernels.join_statistics_kernel,
        1,
        partial.device,
        partial=partial,
        mean=mean,
        variance=variance,
        C=1,
        positions=positions,
        total=positions,
        parts=parts,
        splits=parts,
        span=span,
        BLOCK_P=128,
        BLOCK_C=16,
    )
    assert mean.item() == pytest.approx(3 / positions)


def test_a_plan_in_one_thread_leaves_calls_in_another_alone():
    block, x = aea.AugmentedAttention(4, references=2).eval(), torch.randn(1, 4, 3, 3)
    begun, ended, plans = threading.Event(), threading.Event(), []

    def explaining():
        with launching.recording() as recorded:
            begun.set()
            ended.wait()
        plans.append(recorded)

    with torch.no_grad():
        expected = block(x)
        thread = threading.Thread(target=explaining)
        thread.start()
        begun.wait()
        found = block(x)
        ended.set()
        thread.join()
    assert torch.equal(found, expected)
    assert plans == [[]]


@pytest.mark.parametrize("positions_inner", [False, True])
def test_operators_on_views_of_a_feature_map(positions_inner):
    def draw(seed):
        x = (
            normal(2, 3, 5, 140, seed=seed).mT
            if positions_inner
            else normal(2, 140, 3, 5, seed=seed).transpose(1, 2)
        )
        return x.requires_grad_()

    inputs = [draw(seed) for seed in range(3)]
    for ours, expected in [
        (aea.linear_attention, reference.linear_attention),
        (aea.batch_attention, reference.batch_attention),
    ]:
        testing.assert_parity(ours, expected, *inputs, tolerance=1e-12)


def test_outputs_and_workspaces_poisoned_with_nan_first(monkeypatch):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3).train()
    x = normal(3, 6, 9, 15, dtype=torch.float32).requires_grad_()

    def run():
        y = copy.deepcopy(block)(x)
        return [y, *torch.autograd.grad(y.square().sum(), x)]

    clean = run()

    def poisoned(allocate):
        def wrapper(*arguments, **options):
            fresh = allocate(*arguments, **options)
            return fresh.fill_(torch.nan) if fresh.is_floating_point() else fresh

        return wrapper

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    assert all(torch.equal(a, b) for a, b in zip(clean, run(), strict=True))


def test_64_bit_offsets_give_the_same(monkeypatch):
    block = aea.AugmentedAttention(6, references=3).eval()
    x = normal(2, 6, 9, 15, dtype=torch.float32)
    narrow = block(x)
    layout = operands.Layout
    operands._described.cache_clear()
    monkeypatch.setattr(
        operands, "Layout", lambda inner, flat, wide, unit: layout(inner, flat, True, unit)
    )
    assert_same_but_for_rounding(block(x), narrow)
    operands._described.cache_clear()


def spread(x, strides):
    """x in float16 at these strides; pages between its numbers, which nothing touches, take no
    memory.
    """
    last = sum((n - 1) * stride for n, stride in zip(x.shape, strides, strict=True))
    try:
        memory = torch.empty(last + 1, dtype=torch.float16)
    except RuntimeError as error:
        pytest.skip(f"no room for addresses: {error}")
    return memory.as_strided(x.shape, strides).copy_(x)


@pytest.mark.skipif(
    "config.getoption('--device') == 'compiled'",
    reason="each launch there copies the memory of its tensors, pages that nothing touches too",
)
@pytest.mark.parametrize(("images", "strides"), [(2, (2**31, 0, 8, 1)), (1, (0, 0, 2**26, 1))])
def test_offsets_beyond_2_to_31_elements_of_one_map_alone(images, strides):
    """The other map has 32-bit offsets; a stride of 2^31 has 32 bits too, since it is counted in
    units of 16 bytes.
    """
    x = normal(images, 1, 40, 8, dtype=torch.float16)
    far = spread(x, strides)
    assert_same_but_for_rounding(primitives.outer_sum(far, x), primitives.outer_sum(x, x))


@pytest.mark.parametrize("references", [0, 2])
def test_the_keys_of_one_image_serve_a_batch(references):
    """The moments of one image are a batch of one, which the kernels once took for as many as there
    are images.
    """
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=references).double().eval()
    x = normal(3, 6, 9, 15)
    block.keys = block.moments(x).sum_over_batch()
    with aea.use_backend("eager"):
        expected = block(x)
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(not operands.INTERPRETED, reason="chooses programs in Triton's interpreter")
def test_workspaces_of_more_than_2_to_31_numbers(monkeypatch):
    """Images times C (C + 1) pass 2^31, where no feature map does. Only the programs of the last
    image run, and pages that nothing touches take no memory.
    """
    from triton.runtime.interpreter import interpreter_builder as interpreter

    channels = 46
    images = 2**31 // (channels * (channels + 1)) + 2

    def set_index(x):
        interpreter.grid_idx = (x, 0, 0)

    def of_the_last_image(kernel, programs, device, **arguments):
        chosen = programs // images
        monkeypatch.setattr(
            interpreter, "set_grid_idx", lambda x, y, z: set_index(x + programs - chosen)
        )
        launch(kernel, chosen, device, **arguments)

    torch.manual_seed(0)
    block = aea.AugmentedAttention(channels, references=2, norm=None).eval()
    projections = [p.detach() for name, p in block.named_parameters() if name != "references"]
    x = normal(1, channels, 2, 3, dtype=torch.float32)

    plain = "none", [], 0.0

    def compute(x):
        gram = primitives.moments(x, *plain, block.references.detach(), len(x))
        y, matrix = primitives.attend_to_moments(x, *plain, None, gram, projections, 2, 0.5)
        grad_x, _ = primitives.features_backward(x, x, *plain, False, matrix, gram)
        return [t[-1].clone() for t in (gram, matrix, y, grad_x)]

    expected = compute(x)
    try:
        with instead_of_launch(of_the_last_image):
            found = compute(x.expand(images, -1, -1, -1))
    except RuntimeError as error:
        # some machines grant no addresses beyond their memory: 26 GB of them are needed, and few
        # pages
        pytest.skip(f"no room for addresses: {error}")
    for a, b in zip(found, expected, strict=True):
        assert_same_but_for_rounding(a, b)
