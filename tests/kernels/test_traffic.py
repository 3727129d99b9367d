"""What the kernels load and store, counted in Triton's interpreter, is what `explain` states and
the README claims.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from launches import MODULES, launch

import aea_kernels as aea
from aea_kernels.backends.triton import operands
from aea_kernels.explain import Plan

# a GPU's loads cannot be counted, and where Triton is missing there are none
interpreter = pytest.importorskip(
    "triton.runtime.interpreter", reason="counts in Triton's interpreter"
).interpreter_builder
pytestmark = [
    pytest.mark.skipif(not operands.INTERPRETED, reason="counts in Triton's interpreter"),
    pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module"),
]


class Traffic:
    """Bytes of each launch: read and written of tensors as large as the input, and written of
    everything else.

    An address counts once for each program: a second load in the same program comes from the cache.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, like: torch.Tensor) -> None:
        self.launches: list[str] = []
        self._large: list[tuple[int, int]] = []
        self._seen: dict[tuple[int, str], dict[int, list[np.ndarray]]] = defaultdict(
            lambda: defaultdict(list)
        )

        def recorded(kernel, programs, device, **arguments):
            self.launches.append(kernel.fn.__name__)
            tensors = [a.pointer for a in arguments.values() if isinstance(a, operands.FeatureMap)]
            self._large = [
                (
                    t.untyped_storage().data_ptr(),
                    t.untyped_storage().data_ptr() + t.untyped_storage().nbytes(),
                )
                for t in tensors
                if t.numel() == like.numel() and t.dtype == like.dtype
            ]
            launch(kernel, programs, device, **arguments)

        load, store = interpreter.create_masked_load, interpreter.create_masked_store

        def counting_load(pointers, mask, *rest):
            self._count("read", pointers, mask)
            return load(pointers, mask, *rest)

        def counting_store(pointers, value, mask, *rest):
            self._count("written", pointers, mask)
            return store(pointers, value, mask, *rest)

        for module in MODULES:
            monkeypatch.setattr(module, "launch", recorded)
        monkeypatch.setattr(interpreter, "create_masked_load", counting_load)
        monkeypatch.setattr(interpreter, "create_masked_store", counting_store)

    def _count(self, kind: str, pointers, mask) -> None:
        inside = mask.data.astype(bool)
        addresses = np.broadcast_to(pointers.data, inside.shape)[inside].astype(np.uint64)
        size = pointers.get_element_ty().primitive_bitwidth // 8
        large = np.zeros(len(addresses), bool)
        for first, last in self._large:
            large |= (addresses >= first) & (addresses < last)
        program = interpreter.grid_idx[0]
        for name, chosen in ((kind, large), (kind + " workspace", ~large)):
            self._seen[len(self.launches) - 1, name][program].append(
                addresses[chosen] * np.uint64(8) + np.uint64(size - 1)
            )

    def bytes(self, launch: int, kind: str) -> int:
        """Addresses and sizes travel as one number: 8 * address + size - 1."""
        unique = [np.unique(np.concatenate(parts)) for parts in self._seen[launch, kind].values()]
        return sum(int((numbers % np.uint64(8) + np.uint64(1)).sum()) for numbers in unique)

    def rows(self) -> list[tuple[int, int, int]]:
        kinds = ("read", "written", "written workspace")
        return [tuple(self.bytes(i, kind) for kind in kinds) for i in range(len(self.launches))]


def expected(plan: Plan) -> list[tuple[int, int, int]]:
    return [
        (
            round(launch.reads * plan.tensor_bytes),
            round(launch.writes * plan.tensor_bytes),
            launch.workspace,
        )
        for launch in plan.launches
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("channels", [20, 130])
def test_block_inference(monkeypatch, dtype, channels):
    block = aea.AugmentedAttention(channels, references=3).eval()
    x = torch.randn(2, channels, 15, 17).to(dtype)
    plan = aea.explain(block, x.shape, dtype=dtype)
    traffic = Traffic(monkeypatch, x)
    block(x)
    assert (plan.reads, plan.writes) == ((2, 1) if channels <= 128 else (5, 1))
    assert traffic.rows() == expected(plan)


@pytest.mark.parametrize(
    ("norm", "dtype", "forward", "tensors"),
    [
        ("batch", torch.bfloat16, 4, 11),
        ("batch", torch.float32, 4, 11),
        (None, torch.bfloat16, 3, 8),
        (None, torch.float32, 3, 8),
        ("group", torch.float32, 3, 8),
        ("layer", torch.float32, 3, 8),
        ("rms", torch.bfloat16, 3, 8),
    ],
)
def test_block_forward_and_backward(monkeypatch, norm, dtype, forward, tensors):
    """Two reads and a write forward, and no pass more with a norm that has no activation."""
    block = aea.AugmentedAttention(20, references=3, norm=norm, groups=4).train()
    x = torch.randn(3, 20, 15, 17).to(dtype).requires_grad_()
    dy = torch.randn_like(x)
    plan = aea.explain(block, x.shape, dtype=dtype, backward=True)
    traffic = Traffic(monkeypatch, x)
    block(x).backward(dy)
    assert plan.reads + plan.writes == tensors
    assert traffic.rows() == expected(plan)
    until_y = traffic.launches.index("apply_kernel") + 1
    assert (
        sum(read + written for read, written, _ in traffic.rows()[:until_y]) == forward * x.nbytes
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_operators_move_4_tensors_and_7_more(monkeypatch, dtype):
    q, k, v = (torch.randn(2, 2, 190, 24).to(dtype).requires_grad_() for _ in range(3))
    dy = torch.randn_like(q)
    plan = aea.explain(tuple(q.shape), dtype=dtype, backward=True)
    traffic = Traffic(monkeypatch, q)
    aea.linear_attention(q, k, v).backward(dy)
    moved = np.array(traffic.rows())[:, :2].sum(1) / plan.tensor_bytes
    forward = traffic.launches.index("apply_kernel") + 1
    assert moved[:forward].sum() == 4
    assert moved.sum() == 11
    assert sorted(traffic.rows()) == sorted(expected(plan))


@pytest.mark.parametrize("family", ["relu", "efficient", "channel"])
def test_the_other_families_move_as_much(monkeypatch, family):
    q, k, v = (torch.randn(2, 2, 190, 24).to(torch.bfloat16).requires_grad_() for _ in range(3))
    dy = torch.randn_like(q)
    operator = {
        "relu": aea.relu_linear_attention,
        "efficient": aea.efficient_attention,
        "channel": aea.channel_attention,
    }[family]
    plan = aea.explain(tuple(q.shape), operator=operator, dtype=q.dtype, backward=True)
    temperature = [torch.ones(2)] if family == "channel" else []
    traffic = Traffic(monkeypatch, q)
    operator(q, k, v, *temperature).backward(dy)
    moved = np.array(traffic.rows())[:, :2].sum(1) / q.nbytes
    last = "apply_kernel" if family == "channel" else "phi_apply_kernel"
    forward = traffic.launches.index(last) + 1
    assert moved[:forward].sum() == 4
    assert moved.sum() == 11
    assert sorted(traffic.rows()) == sorted(expected(plan))


def test_the_count_notices_a_read_too_many(monkeypatch):
    block = aea.AugmentedAttention(20, references=3).eval()
    x = torch.randn(2, 20, 15, 17)
    traffic = Traffic(monkeypatch, x)
    block(x)
    aea.moments(x)
    assert sum(row[0] for row in traffic.rows()) == 3 * math.prod(x.shape) * 4
