"""The operators on given queries, keys and values against Eqs. 1 to 5 with the map, in float64."""

import pytest
import torch
from hypothesis import strategies as st
from strategies import HERE, for_all, normal, tensors

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
        "references": st.sampled_from([0, 1, 6]),
    }
)


def draw_query_key_value(data, size, dtype=torch.float64):
    def draw(positions, width):
        shape = (size["batch"], size["heads"], positions, width)
        return data.draw(tensors(shape, dtype, requires_grad=True))

    return (
        draw(size["queries"], size["key_width"]),
        draw(size["keys"], size["key_width"]),
        draw(size["keys"], size["value_width"]),
    )


def draw_references(data, size, dtype=torch.float64):
    def draw(width):
        return data.draw(
            tensors((size["heads"], size["references"], width), dtype, ["contiguous"], True)
        )

    return draw(size["key_width"]), draw(size["value_width"])


@for_all(size=sizes, data=st.data(), scale=st.floats(-2, 2))
def test_self_attention_is_equations_1_and_2(size, data, scale):
    testing.assert_parity(
        lambda q, k, v: aea.linear_attention(q, k, v, scale=scale),
        lambda q, k, v: reference.linear_attention(q, k, v, scale=scale),
        *draw_query_key_value(data, size),
        tolerance=1e-12,
    )


@for_all(size=sizes, data=st.data())
def test_reference_attention_is_equation_4(size, data):
    inputs = (*draw_query_key_value(data, size), *draw_references(data, size))
    testing.assert_parity(
        aea.reference_attention, reference.reference_attention, *inputs, tolerance=1e-12
    )


@for_all(size=sizes, data=st.data())
def test_batch_attention_is_equation_5(size, data):
    inputs = draw_query_key_value(data, size)
    testing.assert_parity(aea.batch_attention, reference.batch_attention, *inputs, tolerance=1e-12)


@for_all(size=sizes, data=st.data())
def test_learned_query_attention_is_equation_3(size, data):
    query, key, value = draw_query_key_value(data, size)
    query = query[0].detach().requires_grad_()
    testing.assert_parity(
        aea.learned_query_attention,
        reference.learned_query_attention,
        query,
        key,
        value,
        tolerance=1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@for_all(size=sizes, data=st.data())
def test_error_budget(dtype, size, data):
    more = {"queries": 30, "keys": 30, "key_width": 4, "value_width": 4}  # errors enough to average
    size = size | {name: size[name] + number for name, number in more.items()}
    inputs = (*draw_query_key_value(data, size, dtype), *draw_references(data, size, dtype))
    testing.assert_within_error_budget(
        aea.reference_attention, reference.reference_attention, *inputs
    )


@for_all(size=sizes, data=st.data())
def test_summaries_add_over_any_split_of_the_keys(size, data):
    query, key, value = draw_query_key_value(data, size)
    cut = data.draw(st.integers(0, size["keys"]))
    parts = [
        aea.summarize(key[:, :, part], value[:, :, part])
        for part in (slice(0, cut), slice(cut, None))
    ]
    torch.testing.assert_close(
        aea.attend(query, parts[0] + parts[1]),
        reference.linear_attention(query, key, value),
        rtol=1e-11,
        atol=1e-11,
    )


@for_all(size=sizes, data=st.data())
def test_moments_are_sums_of_homogeneous_outer_products(size, data):
    x = data.draw(tensors((size["batch"], size["key_width"], size["keys"], 2), requires_grad=True))

    def oracle(x):
        xh = torch.cat([x.flatten(2), x.new_ones(len(x), 1, x.shape[2] * x.shape[3])], 1)
        return torch.einsum("bis,bjs->bij", xh, xh)

    testing.assert_parity(lambda x: aea.moments(x).gram, oracle, x, tolerance=1e-12)
    moments = aea.moments(x)
    torch.testing.assert_close(moments.count, x.new_full((len(x),), size["keys"] * 2))
    torch.testing.assert_close(moments.mean, x.flatten(2).mean(2))
    torch.testing.assert_close(moments.sum_over_batch().gram, oracle(x).sum(0, keepdim=True))


def test_boxes_smaller_than_the_map_change_nothing_but_rounding(monkeypatch, backend):
    """Every path through many chunks: inner axes whole, outer axes one by one."""
    if backend == "triton":
        pytest.skip("only the eager backend walks over chunks")
    q, k, v = (normal(3, 2, 1000, 5, seed=seed) for seed in range(3))
    expected = reference.linear_attention(q, k, v)
    monkeypatch.setattr("aea_kernels.backends.eager.walking.CHUNK_BYTES", 4096)
    torch.testing.assert_close(aea.linear_attention(q, k, v), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("empty", ["batch", "queries", "keys", "key channels", "value channels"])
def test_nothing_in_gives_nothing_or_zeros_out(empty, fresh_memory_is_nan):
    sizes = {"batch": 2, "queries": 3, "keys": 4, "key channels": 5, "value channels": 6}
    batch, queries, keys, key_channels, value_channels = (sizes | {empty: 0}).values()
    q, k, v = (
        torch.randn(batch, 2, *shape, requires_grad=True)
        for shape in ((queries, key_channels), (keys, key_channels), (keys, value_channels))
    )
    y = aea.linear_attention(q, k, v)
    assert y.shape == (batch, 2, queries, value_channels)
    assert not y.any()
    y.sum().backward(retain_graph=True)
    assert not any(t.grad.any() for t in (q, k, v))
    again = torch.autograd.grad(y.sum(), (q, k, v), create_graph=True)
    assert not any(t.any() for t in again)


def test_moments_of_no_channels_are_the_number_of_keys(fresh_memory_is_nan):
    x = torch.randn(3, 0, 5)
    assert aea.moments(x).count.tolist() == [5, 5, 5]
    assert aea.moments(x).sum_over_batch().count.tolist() == [15]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query": torch.randn(2, 3, 4)},
            "query has shape (2, 3, 4), expected four axes (B, H, N, E)",
        ),
        (
            {"query": torch.randn(2, 3, 4, 6)},
            "query has shape (2, 3, 4, 6), expected (B, H, N, E) = (2, 3, 4, 5)",
        ),
        (
            {"value": torch.randn(2, 3, 8, 5)},
            "value has shape (2, 3, 8, 5), expected (B, H, L, D) = (2, 3, 7, 5)",
        ),
        (
            {"key": torch.zeros(2, 3, 7, 5, dtype=torch.int64)},
            "key has dtype torch.int64, expected one of",
        ),
        (
            {"query": torch.zeros(2, 3, 4, 5, dtype=torch.float16)},
            "query has dtype torch.float16, expected torch.floa",
        ),
        (
            {"query": torch.zeros(2, 3, 4, 5, device="meta")},
            f"query is on meta, expected {HERE} as the other arguments",
        ),
        ({"key": [1.0]}, "key is a list, expected a torch.Tensor"),
    ],
)
def test_wrong_input_is_named_in_one_sentence(change, message):
    arguments = {
        "query": torch.randn(2, 3, 4, 5),
        "key": torch.randn(2, 3, 7, 5),
        "value": torch.randn(2, 3, 7, 5),
    }
    with pytest.raises((ValueError, TypeError)) as error:
        aea.linear_attention(**(arguments | change))
    assert message in str(error.value)


def test_wrong_references_and_summaries_are_named():
    q = torch.randn(2, 3, 4, 5)
    with pytest.raises(
        ValueError,
        match=r"reference_value has shape \(3, 2, 4\), expected \(H, R, D\) = \(3, 2, 5\)",
    ):
        aea.reference_attention(q, q, q, torch.randn(3, 2, 5), torch.randn(3, 2, 4))
    with pytest.raises(
        ValueError, match=r"\(2, 3, 5, 5\) in torch.float32 and \(2, 3, 5, 5\) in torch.float64"
    ):
        aea.summarize(q, q) + aea.summarize(q.double(), q.double())
    with pytest.raises(
        ValueError,
        match=r"summary.state has shape \(2, 3, 5, 5\), expected \(B, H, D, E\) with B = 1",
    ):
        aea.attend(torch.randn(4, 3, 7, 5), aea.summarize(q, q))
