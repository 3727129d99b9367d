"""What cannot be computed is refused in one sentence that names the argument; summaries that do not
fit do not add.
"""

from __future__ import annotations

import pytest
import torch
from strategies import HERE

import aea_kernels as aea

X = torch.randn(2, 4, 3, 3)
Q = torch.randn(2, 2, 4, 3)
SUMMARY = aea.summarize(Q, Q)


def block(**options):
    return aea.AugmentedAttention(4, **({"references": 2} | options)).eval()


def with_keys(keys):
    of_keys = block()
    of_keys.keys = keys
    return of_keys(X)


def quantised(t):
    return torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)


def meta(t):
    return t.to("meta")


CASES = {
    "sparse map": (
        lambda: block()(X.to_sparse()),
        "x has layout torch.sparse_coo, expected a dense tensor",
    ),
    "sparse key": (
        lambda: aea.linear_attention(Q, Q.to_sparse(), Q),
        "key has layout torch.sparse_coo, expected a",
    ),
    "sparse moments": (
        lambda: block().moments(X.to_sparse()),
        "x has layout torch.sparse_coo, expected a dense",
    ),
    "quantised map": (lambda: block()(quantised(X)), "x has dtype torch.qint8, expected one of"),
    "quantised relevance": (
        lambda: block().relevance(quantised(X)),
        "x has dtype torch.qint8, expected one of",
    ),
    "whole numbers": (
        lambda: block().moments(X.long()),
        "x has dtype torch.int64, expected one of",
    ),
    "relevance of whole numbers": (
        lambda: block().relevance(X.long()),
        "x has dtype torch.int64, expected one of",
    ),
    "complex numbers": (
        lambda: aea.moments(X + 0j),
        "x has dtype torch.complex64, expected one of",
    ),
    "map without memory": (
        lambda: block()(meta(X)),
        f"x is on meta, expected {HERE} as the weights of the block",
    ),
    "weights without memory": (
        lambda: meta(block())(X),
        f"x is on {HERE}, expected meta as the weights of the block",
    ),
    "query without memory": (
        lambda: aea.linear_attention(meta(Q), Q, Q),
        f"query is on meta, expected {HERE} as the",
    ),
    "no map": (lambda: block()([1.0]), "x is a list, expected a torch.Tensor"),
    "four spatial axes": (
        lambda: block().moments(X[..., None, None]),
        "x is (2, 4, 3, 3, 1, 1), expected (N, 4, *sp",
    ),
    "key of another width": (
        lambda: aea.linear_attention(Q, Q[..., :2], Q),
        "query has shape (2, 2, 4, 3), expected",
    ),
    "heads": (lambda: block(heads=2.0), "heads is 2.0, expected a whole number"),
    "references": (lambda: block(references=2.5), "references is 2.5, expected a whole number"),
    "key channels": (
        lambda: block(key_channels="4"),
        "key_channels is '4', expected a whole number",
    ),
    "groups": (lambda: block(norm="group", groups=2.0), "groups is 2.0, expected a whole number"),
    "scale of each head": (
        lambda: aea.linear_attention(Q, Q, Q, scale=torch.ones(2)),
        "scale has shape (2,), expected one number",
    ),
    "scale of each head of a family": (
        lambda: aea.efficient_attention(Q, Q, Q, scale=torch.ones(2)),
        "scale has shape (2,), expected one number",
    ),
    "keys that are none": (
        lambda: with_keys(SUMMARY),
        "keys are a KeySummary, expected the Moments of feature maps",
    ),
    "keys of other channels": (
        lambda: with_keys(aea.moments(X[:, :3])),
        "keys are of 2 images with 3 channels, exp",
    ),
    "keys elsewhere": (
        lambda: with_keys(aea.moments(meta(X))),
        f"keys.gram is on meta, expected {HERE} as the other",
    ),
    "no summary": (lambda: aea.attend(Q, Q), "summary is a Tensor, expected a KeySummary"),
    "summary of another kind": (
        lambda: aea.attend(Q, aea.moments(X)),
        "summary is a Moments, expected a KeySummary",
    ),
    "summary of a family": (
        lambda: aea.attend_relu(Q, SUMMARY),
        "summary is a KeySummary, expected a ReluSummary",
    ),
    "summary of another width": (
        lambda: aea.attend(Q[..., :2], SUMMARY),
        "summary.state has shape (2, 2, 3, 3), exp",
    ),
    "summary in another dtype": (
        lambda: aea.attend(Q.double(), SUMMARY),
        "summary.state has dtype torch.float32, expected torch.float64 for query in torch.float64",
    ),
    "family's summary in another dtype": (
        lambda: aea.attend_relu(Q.double(), aea.summarize_relu(Q, Q)),
        "summary.sums has dtype torch.float32, expected torch.float64 for query in torch.float64",
    ),
    "summary elsewhere": (
        lambda: aea.attend(meta(Q), SUMMARY),
        f"summary.state is on {HERE}, expected meta as the other",
    ),
    "sum of dtypes": (
        lambda: SUMMARY + aea.summarize(Q.double(), Q.double()),
        "(2, 2, 3, 3) in torch.float32 and (2",
    ),
    "sum of widths": (
        lambda: SUMMARY + aea.summarize(Q[..., :2], Q),
        "(2, 2, 3, 3) in torch.float32 and (2, 2, 3, 2",
    ),
    "sum of batches": (
        lambda: SUMMARY + aea.summarize(torch.cat([Q, Q]), torch.cat([Q, Q])),
        "summaries of 2 and 4 images do not add: expected as many, or 1",
    ),
    "sum of devices": (
        lambda: SUMMARY + aea.summarize(meta(Q), meta(Q)),
        f"summaries on {HERE} and meta do not add",
    ),
    "sum of kinds": (
        lambda: SUMMARY + aea.moments(X),
        "unsupported operand type(s) for +: 'KeySummary' and 'Moments'",
    ),
    "sum with a number": (
        lambda: 1 + SUMMARY,
        "unsupported operand type(s) for +: 'int' and 'KeySummary'",
    ),
    "negative shape": (
        lambda: aea.explain((1, 1, -3, 4)),
        "shape is (1, 1, -3, 4), expected whole numbers, 0 or more",
    ),
    "fractional shape": (
        lambda: aea.explain(block(), (1, 4, 3.5, 3)),
        "shape is (1, 4, 3.5, 3), expected whole",
    ),
    "unknown operator": (
        lambda: aea.explain((1, 1, 3, 4), operator=aea.summarize),
        "operator is 'summarize', exp",
    ),
    "shape that is none": (
        lambda: aea.explain(block(), 5),
        "shape is 5, expected (N, 4, *spatial)",
    ),
    "a tensor as shape": (
        lambda: aea.explain(block(), torch.rand(1, 4, 3)),
        "shape is a Tensor, expected the shape",
    ),
    "a name as dtype": (
        lambda: aea.explain((1, 1, 3, 4), dtype="half"),
        "dtype is 'half', expected a torch.dtype",
    ),
    "a dtype of integers": (
        lambda: aea.explain((1, 1, 3, 4), dtype=torch.int8),
        "dtype is torch.int8, expected one of torch.float32",
    ),
    "neither block nor shape": (
        lambda: aea.explain(torch.nn.ReLU(), (1, 4, 3)),
        "expected an AugmentedAttention or a",
    ),
    "traced block": (
        lambda: torch.jit.trace(block(), X),
        "torch.jit.trace records this attention for one size only",
    ),
    "traced operator": (
        lambda: torch.jit.trace(aea.linear_attention, (Q, Q, Q)),
        "torch.jit.trace records this att",
    ),
    "traced family": (
        lambda: torch.jit.trace(aea.efficient_attention, (Q, Q, Q)),
        "torch.jit.trace records this at",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")  # of torch.jit
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_sentence(case):
    call, sentence = CASES[case]
    with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
        call()
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_sum_adds_summaries_of_every_kind():
    kinds = [
        aea.summarize(Q, Q),
        aea.moments(X),
        aea.summarize_relu(Q, Q),
        aea.summarize_softmax(Q, Q),
    ]
    kinds.append(aea.summarize_channels(Q, Q))
    for summary in kinds:
        for found, expected in zip(
            vars(sum([summary, summary, summary])).values(),
            vars(summary + summary + summary).values(),
            strict=True,
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_relevance_in_another_dtype_than_the_weights():
    assert block().relevance(X.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("old", "now"), [("naive", "reference"), ("modules", "nn"), ("decompositions", "export")]
)
def test_modules_keep_their_old_names_for_a_release(old, now):
    with pytest.warns(DeprecationWarning, match=f"aea_kernels.{old} is now aea_kernels.{now}"):
        assert getattr(aea, old).__name__ == f"aea_kernels.{now}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels is 0, expected at least 1"),
        ({"channels": 6, "references": -1}, "references is -1, expected 0 or more"),
        ({"channels": 6, "heads": 4}, "channels is 6, expected a positive multiple of heads = 4"),
        (
            {"channels": 6, "key_channels": 5},
            "key_channels is 5, expected a positive multiple of heads = 2",
        ),
        (
            {"channels": 6, "value_channels": 5},
            "value_channels is 5, expected a positive multiple of heads = 2",
        ),
    ],
)
def test_wrong_sizes_are_named_in_one_sentence(options, message):
    with pytest.raises(ValueError, match="expected") as error:
        aea.AugmentedAttention(**options)
    assert str(error.value) == message


def test_wrong_inputs_are_named_in_one_sentence():
    block = aea.AugmentedAttention(6)
    with pytest.raises(ValueError, match=r"x is \(2, 5, 3, 3\), expected \(N, 6, \*spatial\)"):
        block(torch.randn(2, 5, 3, 3))
    with pytest.raises(TypeError, match=r"x has dtype torch.int64"):
        block(torch.zeros(2, 6, 3, 3, dtype=torch.int64))
    block.eval().keys = aea.moments(torch.randn(3, 4, 2, 2))
    with pytest.raises(
        ValueError,
        match="keys are of 3 images with 4 channels, expected 1 or 2 images with 6 channels",
    ):
        block(torch.randn(2, 6, 3, 3))
    with pytest.raises(ValueError, match="no references"):
        aea.AugmentedAttention(6, references=0).relevance(torch.randn(1, 6, 2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": True}, "norm is True, expected 'batch', 'group', 'layer', 'rms' or None"),
        (
            {"norm": "instance"},
            "norm is 'instance', expected 'batch', 'group', 'layer', 'rms' or None",
        ),
        ({"norm": "group"}, "groups is 32, expected a divisor of channels = 48"),
        ({"norm": "group", "groups": 0}, "groups is 0, expected at least 1"),
    ],
)
def test_a_wrong_norm_is_named_in_one_sentence(options, message):
    with pytest.raises(ValueError, match="expected") as error:
        aea.AugmentedAttention(48, **options)
    assert str(error.value) == message
