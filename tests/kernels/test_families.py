"""The other families of operators against their papers' equations with the map, in float64."""

import pytest
import torch
from hypothesis import strategies as st
from strategies import for_all, normal, tensors

import aea_kernels as aea
from aea_kernels import reference, testing

sizes = st.fixed_dictionaries(
    {
        "batch": st.sampled_from([1, 2, 3]),
        "heads": st.integers(1, 3),
        "queries": st.integers(1, 70),
        "keys": st.integers(1, 70),
        "key_width": st.integers(1, 9),
        "value_width": st.integers(1, 9),
    }
)
FAMILIES = ["relu", "efficient", "memory", "channel"]
OPERATORS = {
    "relu": aea.relu_linear_attention,
    "efficient": aea.efficient_attention,
    "memory": aea.efficient_attention,
    "channel": aea.channel_attention,
}


def oracle(family):
    return getattr(reference, OPERATORS[family].__name__)


def draw_inputs(family, data, size, dtype=torch.float64):
    def draw(positions, width):
        shape = (size["batch"], size["heads"], positions, width)
        return data.draw(tensors(shape, dtype, requires_grad=True))

    def draw_shared(*shape):
        return data.draw(
            tensors((size["heads"], *shape), dtype, ["contiguous"], requires_grad=True)
        )

    queries, width = size["queries"], size["key_width"]
    if family == "channel":
        return *(draw(queries, width) for _ in range(3)), draw_shared()
    inputs = (
        draw(queries, width),
        draw(size["keys"], width),
        draw(size["keys"], size["value_width"]),
    )
    if family == "memory":
        return *inputs, draw_shared(4, width), draw_shared(4, size["value_width"])
    return inputs


def anchored(function):
    """With sums of queries and keys: gradients that vanish are compared on a scale of one."""

    def compute(query, key, *rest):
        return (
            function(query, key, *rest)
            + query.sum(-1, keepdim=True)
            + key.sum((2, 3), keepdim=True)
        )

    return compute


@pytest.mark.parametrize("family", FAMILIES)
@for_all(interpreted=3, size=sizes, data=st.data())
def test_output_and_every_gradient(family, size, data):
    inputs = draw_inputs(family, data, size)
    testing.assert_parity(
        anchored(OPERATORS[family]), anchored(oracle(family)), *inputs, tolerance=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["relu", "efficient", "channel"])
@for_all(interpreted=1, size=sizes, data=st.data())
def test_error_budget(family, dtype, size, data):
    more = {"queries": 30, "keys": 30, "key_width": 4, "value_width": 4}  # errors enough to average
    size = size | {name: size[name] + number for name, number in more.items()}
    options = {"eps": 1e-2} if family == "relu" else {}  # float16 takes the default for zero
    inputs = draw_inputs(family, data, size, dtype)
    if family == "channel":
        inputs[3].requires_grad_(False)  # one number a head: no errors to average
    testing.assert_within_error_budget(
        lambda *inputs: OPERATORS[family](*inputs, **options),
        lambda *inputs: oracle(family)(*inputs, **options),
        *inputs,
    )


@pytest.mark.parametrize("family", ["relu", "efficient", "channel"])
@for_all(interpreted=1, data=st.data(), positions=st.integers(1, 60), batch=st.integers(1, 3))
def test_equivariant_to_permutations(family, data, positions, batch):
    x = data.draw(tensors((batch, 4, positions)))
    weights = [normal(2, 3, 4, seed=seed) for seed in range(3)]
    shared = (normal(2, seed=3),) if family == "channel" else ()

    def function(x):
        projected = [torch.einsum("hec,bcs->bhse", weight, x) for weight in weights]
        return OPERATORS[family](*projected, *shared).mT

    testing.assert_permutation_equivariant(function, x, positions=[-1], tolerance=1e-10)


# ---- summaries -----------------------------------------------------------------------------------


def summarize_and_attend(family, heads=1):
    """Of the keys (key, value), or for channels of (query, key); attend(query or value,
    summary).
    """
    if family == "channel":
        temperature = normal(heads, seed=9)
        return aea.summarize_channels, lambda value, summary: aea.attend_channels(
            value, summary, temperature
        )
    if family == "relu":
        return aea.summarize_relu, aea.attend_relu
    return aea.summarize_softmax, aea.attend_softmax


@pytest.mark.parametrize("family", ["relu", "efficient", "channel"])
@for_all(
    interpreted=2,
    data=st.data(),
    positions=st.integers(1, 70),
    magnitude=st.sampled_from([0.0, 30.0, 1e4]),
)
def test_summaries_of_splits_are_that_of_the_whole(family, data, positions, magnitude):
    """Of any split, also into nothing; keys of the parts may be far apart, and gradients go through
    the sum.
    """
    query, key, value = (
        data.draw(tensors((2, 1, positions, 3), requires_grad=True)) for _ in range(3)
    )
    cut = data.draw(st.integers(0, positions))
    offset = torch.zeros(positions, 1, dtype=torch.float64)
    offset[cut:] = magnitude * data.draw(st.sampled_from([-1, 1]))
    summarize, attend = summarize_and_attend(family)
    ours = {"channel": lambda q, k, v: (v, q, k)}.get(family, lambda q, k, v: (q, k, v))

    def in_parts(query, key, value):
        asking, *summed = ours(query, key + offset if family == "efficient" else key, value)
        parts = [
            summarize(*(t[:, :, part] for t in summed))
            for part in (slice(0, cut), slice(cut, None))
        ]
        return attend(asking, parts[0] + parts[1])

    def whole(query, key, value):
        if family == "channel":
            return reference.channel_attention(query, key, value, normal(1, seed=9))
        return oracle(family)(query, key + offset if family == "efficient" else key, value)

    testing.assert_parity(anchored(in_parts), anchored(whole), query, key, value, tolerance=1e-10)


@pytest.mark.parametrize("family", ["relu", "efficient", "channel"])
def test_a_summary_of_the_batch_is_that_of_one_image_with_all_positions(family):
    query, key, value = (normal(3, 2, 11, 4, seed=seed) for seed in range(3))
    key = key + 50 * normal(3, 1, 1, 1, seed=4)
    summarize, attend = summarize_and_attend(family, heads=2)
    asking, *summed = (value, query, key) if family == "channel" else (query, key, value)
    together = attend(asking, summarize(*summed).sum_over_batch())
    one = summarize(*(t.transpose(0, 1).flatten(1, 2)[None] for t in summed))
    torch.testing.assert_close(together, attend(asking, one), rtol=1e-11, atol=1e-11)


def test_keys_of_minus_infinity_have_no_weight():
    query, key, value = (normal(2, 1, 40, 3, seed=seed) for seed in range(3))
    masked = key.clone()
    masked[:, :, :33] = -torch.inf
    torch.testing.assert_close(
        aea.efficient_attention(query, masked, value),
        aea.efficient_attention(query, key[:, :, 33:], value[:, :, 33:]),
    )


def test_sums_beyond_the_range_of_float16():
    """70 keys of 1,000 each and values of 30 sum up to 2e6, where float16 ends at 65,504."""
    query, key, value = (normal(1, 1, 70, 4, seed=seed).abs() for seed in range(3))
    inputs = [
        (unit * t).half().requires_grad_() for unit, t in ((1, query), (1000, key), (30, value))
    ]
    y = aea.relu_linear_attention(*inputs)
    expected = reference.relu_linear_attention(*(t.double() for t in inputs))
    torch.testing.assert_close(y.double(), expected, rtol=4e-3, atol=0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), inputs))


@pytest.mark.parametrize("family", ["relu", "efficient", "channel"])
def test_heads_wider_than_a_tile(backend, family):
    """Kernels walk over the channels of a head in slices, and take several passes backward."""
    if backend == "eager":
        pytest.skip("has no tiles of channels")
    inputs = [normal(1, 1, 21, 130, seed=seed).requires_grad_() for seed in range(3)]
    shared = (normal(1, seed=4),) if family == "channel" else ()
    testing.assert_parity(OPERATORS[family], oracle(family), *inputs, *shared, tolerance=1e-10)


def test_outputs_and_workspaces_poisoned_with_nan_first(monkeypatch, backend):
    if backend == "eager":
        pytest.skip("its operations have no workspaces of their own")
    inputs = [
        normal(1, 2, 70, 5, seed=seed, dtype=torch.float32).requires_grad_() for seed in range(3)
    ]

    def run():
        y = aea.relu_linear_attention(*inputs) + aea.efficient_attention(*inputs)
        y = y + aea.channel_attention(*inputs, inputs[0][0, :, 0, 0].detach())
        return [y, *torch.autograd.grad(y.square().sum(), inputs)]

    clean = run()
    allocate = torch.Tensor.new_empty

    def poisoned(*arguments, **options):
        fresh = allocate(*arguments, **options)
        return fresh.fill_(torch.nan) if fresh.is_floating_point() else fresh

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    assert all(torch.equal(a, b) for a, b in zip(clean, run(), strict=True))


# ---- the ends of the domain ----------------------------------------------------------------------


def test_boxes_smaller_than_the_map_change_nothing_but_rounding(monkeypatch, backend):
    if backend == "triton":
        pytest.skip("only the eager backend walks over chunks")
    inputs = [normal(3, 2, 1000, 5, seed=seed).requires_grad_() for seed in range(3)]
    monkeypatch.setattr("aea_kernels.backends.eager.walking.CHUNK_BYTES", 4096)
    for family in ("relu", "efficient", "channel"):
        shared = (normal(2, seed=4),) if family == "channel" else ()
        testing.assert_parity(OPERATORS[family], oracle(family), *inputs, *shared, tolerance=1e-10)


@pytest.mark.parametrize("empty", ["batch", "queries", "keys", "width", "values"])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_in_gives_nothing_or_zeros_out(family, empty, fresh_memory_is_nan):
    sizes = {"batch": 2, "queries": 3, "keys": 4, "width": 5, "values": 5} | {empty: 0}
    batch, queries, keys, width, values = sizes.values()
    keys, values = (queries, width) if family == "channel" else (keys, values)
    q, k, v = (
        torch.randn(batch, 2, *shape, requires_grad=True)
        for shape in ((queries, width), (keys, width), (keys, values))
    )
    memory = [torch.randn(2, 3, width), torch.randn(2, 3, values)]
    shared = {"channel": [torch.ones(2)], "memory": memory}.get(family, [])
    y = OPERATORS[family](q, k, v, *shared)
    assert y.shape == (batch, 2, queries, values)
    if family in ("relu", "efficient"):
        assert not y.any()
    y.sum().backward(retain_graph=True)
    assert all(t.grad.isfinite().all() for t in (q, k, v))
    again = torch.autograd.grad(y.sum(), (q, k, v), create_graph=True)
    for found, first in zip(again, (q, k, v), strict=True):
        torch.testing.assert_close(found.detach(), first.grad)


def test_keys_have_a_gradient_by_their_sum_where_values_have_no_channels():
    key, value = normal(1, 2, 7, 5).requires_grad_(), normal(1, 2, 7, 0)
    aea.summarize_relu(key, value).sums.sum().backward()
    torch.testing.assert_close(key.grad, (key > 0).to(key.dtype))


def test_channels_of_zeros_have_no_direction():
    """Their length is eps, as in `torch.nn.functional.normalize`; nothing is divided by zero,
    forward or backward.
    """
    q, k, v = (normal(1, 2, 9, 4, seed=seed) for seed in range(3))
    q[..., 1], k[..., 2] = 0, 0
    inputs = [t.requires_grad_() for t in (q, k, v)]
    y, expected = (
        f(*inputs, torch.ones(2).double(), eps=1e-3)
        for f in (aea.channel_attention, reference.channel_attention)
    )
    torch.testing.assert_close(y, expected)
    for a, b in zip(
        *(torch.autograd.grad(t.square().sum(), inputs) for t in (y, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda q: aea.relu_linear_attention(q, q, q[..., :3, :]),
            "value has shape (2, 3, 3, 5), expected (B, H, L, D) = (2, 3, 4, 5)",
        ),
        (
            lambda q: aea.efficient_attention(q, q, q, q[0]),
            "memory_value is None while memory_key is given, expected both or neither",
        ),
        (
            lambda q: aea.efficient_attention(q, q, q, q[0], q[0, :, :2]),
            "memory_value has shape (3, 2, 5), expected (H, R, D) = (3, 4, 5)",
        ),
        (
            lambda q: aea.channel_attention(q, q, q[:, :, :2], torch.ones(3)),
            "value has shape (2, 3, 2, 5), expected (B, H, N, E) = (2, 3, 4, 5)",
        ),
        (
            lambda q: aea.channel_attention(q, q, q, torch.ones(3, 1, 1)),
            "temperature has shape (3, 1, 1), expected (H,) = (3,)",
        ),
        (
            lambda q: aea.channel_attention(q, q, q, 1.0),
            "temperature is a float, expected a torch.Tensor",
        ),
        (
            lambda q: aea.attend_relu(q[:, :2], aea.summarize_relu(q, q)),
            "summary.sums has shape (2, 3, 5, 6), expected (B, H, E, D + 1) "
            "with B = 1 or 2, H = 2, E = 5 as in query",
        ),
        (
            lambda q: aea.attend_channels(q[..., :2], aea.summarize_channels(q, q), torch.ones(3)),
            "summary.products has shape (2, 3, 5, 5), expected (B, H, E, E) "
            "with B = 1 or 2, H = 3, E = 2 as in value",
        ),
        (
            lambda q: aea.summarize_softmax(q, q) + aea.summarize_softmax(q.double(), q.double()),
            "(2, 3, 5, 6) in torch.float32 and (2, 3, 5, 6) in torch.float64 "
            "are of different keys: no sum",
        ),
    ],
)
def test_wrong_input_is_named_in_one_sentence(call, message):
    q = torch.randn(2, 3, 4, 5)
    with pytest.raises((ValueError, TypeError)) as error:
        call(q)
    assert message in str(error.value)
