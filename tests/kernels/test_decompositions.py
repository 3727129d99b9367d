"""The blocks and operators in plain operations, as exporters take them: for every size, and as the
equations say.
"""

from __future__ import annotations

import io

import pytest
import torch
from oracle import by_the_equations
from strategies import normal

import aea_kernels as aea
from aea_kernels import export

SHAPES = [(2, 4, 3, 7), (4, 4, 2, 2), (1, 4, 9, 5)]


class All(torch.nn.Module):
    """A block of each norm, one after the other, then an operator of each family."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = torch.nn.Sequential(
            *(
                aea.AugmentedAttention(4, references=3, norm=norm, groups=2)
                for norm in ("batch", "group", "layer", "rms")
            )
        )
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.5)
        self.temperature = torch.nn.Parameter(torch.tensor([0.5, 2.0]))

    def forward(self, x):
        q = self.blocks(x).flatten(2).unflatten(1, (2, 2)).mT  # (B, 2, S, 2)
        k, v = q.flip(1), 1 - q
        return torch.stack(
            [
                aea.linear_attention(q, k, v),
                aea.relu_linear_attention(q, k, v),
                aea.efficient_attention(q, k, v, k[0, :, :1], v[0, :, :1]),
                aea.channel_attention(q, k, v, self.temperature),
            ]
        )


@pytest.fixture(scope="module")
def exported():
    """In plain operations, for every number and size of images; in float32."""
    dynamic = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(All().eval(), (normal(3, 4, 5, 6),), dynamic_shapes=(dynamic,))
    return program.run_decompositions(export.PLAIN)


def assert_right(results):
    """Each operator's result at every size, against the equations in float64: 1e-5 of the largest
    number.
    """
    model = All().eval().double()
    for shape, found in zip(SHAPES, results, strict=True):
        with torch.no_grad(), by_the_equations():
            expected = model(normal(*shape).double())
        error = (found - expected).abs().flatten(1).amax(1) / expected.abs().flatten(1).amax(1)
        assert (error <= 1e-5).all(), (shape, error)


def test_exported_in_operations_that_every_exporter_knows(backend, exported):
    if backend == "triton":
        pytest.skip("what replaces the operators does not depend on the backend")
    assert not [node for node in exported.graph.nodes if str(node.target).startswith("aea.")]
    run = exported.module()
    assert_right(run(normal(*shape)) for shape in SHAPES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_agrees_with_the_equations(backend, exported):
    if backend == "triton":
        pytest.skip("what replaces the operators does not depend on the backend")
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason="the extra export is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    with torch.no_grad():
        program = torch.onnx.export(exported, dynamo=True, optimize=False, verbose=False)
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    assert_right(
        torch.from_numpy(session.run(None, {name: normal(*shape).numpy()})[0]) for shape in SHAPES
    )
