"""`explain` against counts by hand, and the choice of backend."""

import sys
from types import SimpleNamespace

import pytest
import torch

import aea_kernels as aea
from aea_kernels import backends, testing
from aea_kernels.backends.devices import DEVICES, HOST_SECONDS
from aea_kernels.backends.triton import tiles
from aea_kernels.block.route import route
from aea_kernels.core.precision import multiplication
from aea_kernels.explain import OPERATORS

pytestmark = pytest.mark.parametrize("backend", ["auto"], indirect=True, scope="module")


def test_the_networks_bottom_at_1280x944():
    """75,520 positions of 128 channels, 64 references, 2 heads."""
    plan = aea.explain(aea.AugmentedAttention(128), (1, 128, 236, 320), bandwidth=1e12)
    assert (plan.reads, plan.writes) == (2, 1)
    assert plan.bytes_moved == 3 * 128 * 75520 * 4
    assert plan.map_bytes == 75520 * (75520 + 64) * 2 * 4
    assert plan.floor_seconds == pytest.approx(3 * 128 * 75520 * 4 / 1e12)
    assert plan.flops == pytest.approx(4 * 75520 * 128 * 128, rel=0.01)
    assert plan.saved_bytes == 0
    assert "45.7 GB" in str(plan)


@pytest.mark.parametrize(
    ("norm", "kernels", "chunks"), [("batch", 11, 12), (None, 8, 8), ("group", 8, 8), ("rms", 8, 8)]
)
def test_a_training_step_moves_8_tensors_or_11_with_batch_statistics(norm, kernels, chunks):
    """The eager backend writes dx before it knows what the statistics send back, so one tensor
    more.
    """
    for backend, tensors in (("triton", kernels), ("eager", chunks)):
        with aea.use_backend(backend):
            plan = aea.explain(
                aea.AugmentedAttention(16, norm=norm, groups=4),
                (2, 16, 8, 8),
                backward=True,
                dtype=torch.bfloat16,
            )
        assert plan.reads + plan.writes == tensors
        assert plan.bytes_moved == tensors * 2 * 16 * 64 * 2


def test_operators_move_4_tensors_and_7_more():
    for operator in OPERATORS:
        assert aea.explain((1, 2, 100, 64), operator=operator).bytes_moved == 4 * 2 * 100 * 64 * 4
        assert (
            aea.explain((1, 2, 100, 64), operator=operator, backward=True).bytes_moved
            == 11 * 2 * 100 * 64 * 4
        )


@pytest.mark.parametrize("device", [None, "h100"])
@pytest.mark.parametrize("backward", [False, True])
def test_an_empty_call_moves_nothing(device, backward):
    block = aea.AugmentedAttention(4)
    plans = [
        aea.explain(block, shape, backward=backward, device=device)
        for shape in [(0, 4, 3), (2, 4, 0)]
    ]
    for operator in OPERATORS:
        shapes = [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)]
        plans += [
            aea.explain(shape, operator=operator, backward=backward, device=device)
            for shape in shapes
        ]
    assert [plan.bytes_moved for plan in plans] == [0] * len(plans)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape is \(1, 5, 2\), expected \(N, 4, \*spatial\)"):
        aea.explain(aea.AugmentedAttention(4), (1, 5, 2))
    with pytest.raises(ValueError, match=r"shape is \(1, 2\), expected \(B, H, N, E\)"):
        aea.explain((1, 2))


def test_a_backend_is_chosen_for_a_block_of_code_or_from_then_on(monkeypatch):
    q = torch.randn(1, 1, 3, 2)
    calls = []
    state = torch.zeros(1, 1, 2, 2)
    monkeypatch.setattr(
        "aea_kernels.backends.triton.outer_sum", lambda *a: calls.append(1) or state
    )
    with aea.use_backend("triton"):
        aea.linear_attention(q, q, q)
    aea.linear_attention(q, q, q)
    assert calls == [1]


def test_auto_is_triton_on_cuda_and_eager_elsewhere(monkeypatch):
    names = [backends.resolved("auto", torch.device(device)) for device in ("cpu", "cuda", "meta")]
    assert names == ["eager", "triton", "eager"]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backends.primitives("auto", torch.device("cuda")).__name__.endswith(".triton")
    assert backends.primitives("auto", torch.device("cpu")) is backends.eager


def test_a_backend_that_cannot_run_raises(monkeypatch):
    q = torch.randn(1, 1, 3, 2, device="cpu")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with (
        aea.use_backend("triton"),
        pytest.raises(RuntimeError, match="'triton' cannot run on cpu: it needs a CUDA"),
    ):
        aea.linear_attention(q, q, q)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, "aea_kernels.backends.triton", None)
    with (
        aea.use_backend("triton"),
        pytest.raises(RuntimeError, match="backend 'triton' cannot run: import of"),
    ):
        aea.linear_attention(q, q, q)
    with pytest.raises(ValueError, match="backend is 'cuda', expected one of 'auto'"):
        aea.use_backend("cuda")


@pytest.mark.parametrize(
    ("channels", "keys", "dtype", "expected"),
    [
        (128, 128, torch.float32, "fold"),
        (512, 16, torch.float32, "project"),
        (512, 512, torch.float32, "fold"),
    ],
)
def test_the_route_is_the_cheaper_of_the_two(channels, keys, dtype, expected):
    block = aea.AugmentedAttention(channels, key_channels=keys, value_channels=keys)
    plan = aea.explain(block, (1, channels, 100, 100), dtype=dtype)
    assert plan.route == expected


@pytest.mark.parametrize(
    ("kernels", "setting", "expected"),
    [
        (True, "highest", "fold"),
        (True, "medium", "fold"),
        (False, "highest", "project"),  # PyTorch multiplies on ordinary units there
        (False, "medium", "fold"),
    ],
)
def test_the_route_knows_how_float32_is_multiplied(kernels, setting, expected):
    """Keys and values of 16 channels beside 256: projecting moves four times as much, and folding
    multiplies 16 times as much, which takes tensor cores less time than the memory.
    """
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        sizes = 256, 16, 16, 1
        assert route(*sizes, torch.float32, torch.device("cuda"), kernels) == expected
        aea.set_ieee_products(True)
        taken = route(*sizes, torch.float32, torch.device("cuda"), kernels)
        assert taken == ("project" if setting == "highest" else "fold")
    finally:
        aea.set_ieee_products(False)
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("setting", "products"), [("highest", "bf16x6"), ("high", "bf16x3"), ("medium", "tf32")]
)
def test_float32_is_multiplied_as_pytorch_is_told(setting, products, monkeypatch):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        assert multiplication(torch.float32, 90) == products
        assert multiplication(torch.bfloat16, 90) == "16-bit"
        assert multiplication(torch.float32, 75) == "ieee"
        aea.set_ieee_products(True)
        asked = "ieee" if setting == "highest" else products
        assert multiplication(torch.float32, 90) == asked
        aea.set_ieee_products(False)
        assert multiplication(torch.float32, 90) == products
        monkeypatch.setattr(torch.version, "hip", "6.4")
        assert multiplication(torch.float32, 90) == "ieee"
    finally:
        aea.set_ieee_products(False)
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("architecture", "shared"), [(80, 163), (86, 99), (89, 99), (90, 227), (100, 227), (120, 99)]
)
@pytest.mark.parametrize("mode", ["16-bit", "tf32"])
def test_what_a_backward_kernel_holds_fits_into_shared_memory(architecture, shared, mode):
    """Two matrices and, with a norm over channels, three tiles of feature maps: more than a GeForce
    card has.
    """
    numbers = 0
    for channels in (64, 128, 256):
        planned_tiles = tiles.tiles_for("features_backward", channels, mode, True, architecture)
        numbers = max(
            numbers,
            2 * planned_tiles.block_a * planned_tiles.block_k
            + 3 * planned_tiles.block_a * planned_tiles.block_s,
        )
    assert numbers * (2 if mode == "16-bit" else 4) <= shared * 1024


@pytest.mark.parametrize(("switch", "products"), [("tf32", "tf32"), ("ieee", "bf16x6")])
def test_float32_is_multiplied_as_the_newer_switch_says(switch, products):
    """After it PyTorch raises where it is asked by the older one."""
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = switch
        assert multiplication(torch.float32, 90) == products
        aea.explain(aea.AugmentedAttention(4), (1, 4, 3), device="h100")
        on_gpu = SimpleNamespace(dtype=torch.float32, is_cuda=True)
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        assert testing.errors.rounding_error(on_gpu) == (2**-10 if switch == "tf32" else 2**-23)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_splits_cover_every_position_once():
    for positions, block, programs, places in [
        (1, 64, 1, 528),
        (75520, 64, 1, 132),
        (10_000, 32, 3, 7),
        (0, 64, 1, 4),
    ]:
        splits, steps = tiles.split_positions(positions, block, programs, places)
        assert (splits - 1) * steps * block < max(positions, 1) <= splits * steps * block


def test_no_number_of_images_leaves_a_third_of_the_multiprocessors_idle():
    """From 67 to 131 images, 132 multiprocessors once got one program an image."""
    blocks = -(-75520 // 64)
    for images in range(1, 400):
        splits, steps = tiles.split_positions(75520, 64, images, 132)
        rounds = -(-images * splits // 132)
        assert images * blocks / 132 > 0.67 * rounds * steps


def test_tests_on_a_device_run_with_its_own_number_of_multiprocessors(monkeypatch):
    """The few multiprocessors that the tests take in the interpreter once held on a GPU too."""
    launching = pytest.importorskip(
        "aea_kernels.backends.triton.launching", reason="the package triton is missing"
    )
    found = SimpleNamespace(major=10, minor=0, multi_processor_count=148)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    assert launching.device_of(torch.device("cpu")) == tiles.H100 == (90, 2)
    assert launching.device_of(torch.device("cuda", 17)) == (100, 148)


def test_a_plan_for_a_gpu_that_is_not_there():
    plan = aea.explain(
        aea.AugmentedAttention(128), (1, 128, 236, 320), dtype=torch.bfloat16, device="h200"
    )
    assert plan.bandwidth == 4.8e12
    assert [launch.name for launch in plan.launches] == ["outer", "reduce_splits", "fold", "apply"]
    assert (plan.reads, plan.writes) == (2, 1)
    assert "capture the call in a CUDA graph" in str(plan)
    large = aea.explain(
        aea.AugmentedAttention(64), (8, 64, 944, 1280), dtype=torch.bfloat16, device="h200"
    )
    assert "CUDA graph" not in str(large)
    with pytest.raises(ValueError, match="device is 'h300', expected one of a10, a100, "):
        aea.explain((1, 2, 100, 64), device="h300")


@pytest.mark.parametrize(
    ("positions", "dtype", "products", "expected"),
    [
        (16, torch.bfloat16, 1, "host"),
        (1024, torch.bfloat16, 1, "memory"),
        (1024, torch.float32, 6, "arithmetic"),
    ],
)
def test_what_the_sums_wait_for(positions, dtype, products, expected):
    """Of a square map of 128 channels, against the data sheet of an H200 by hand."""
    plan = aea.explain(
        aea.AugmentedAttention(128), (1, 128, positions, positions), dtype=dtype, device="h200"
    )
    outer = plan.launches[0]
    number = 128 * positions**2
    assert outer.flops == 2 * 128 * number
    seconds = {
        "host": HOST_SECONDS,
        "memory": outer.reads * number * dtype.itemsize / 4.8e12,
        "arithmetic": outer.flops * products / 989e12,
    }
    assert max(seconds, key=seconds.__getitem__) == expected
    assert outer.waits_for == expected
    assert f"waits for {expected}" in str(plan)
    with aea.use_backend("eager"):
        plan = aea.explain(aea.AugmentedAttention(4), (1, 4, 3))
    assert "waits for" not in str(plan)


def test_what_is_read_from_shared_memory():
    """Of a tile of 128 x 64 over 32 numbers, on 8 warps."""
    tile = tiles.Tiles(128, 32, 64, 8, 2, 1)
    plan = tiles.LaunchPlan("apply", 1, 1, 1, tile, "16-bit", True, 0, 0, 2 * 128 * 32 * 64)
    rows, columns = 128 * 32 * 2, 32 * 64 * 2  # bytes of the two factors
    assert tiles.shared_bytes(plan, 80) == 2 * rows + 4 * columns
    assert tiles.shared_bytes(plan, 90) == rows + 2 * columns
    assert tiles.shared_bytes(plan, 100) == rows + columns
    in_parts = plan._replace(precision="bf16x6")
    assert tiles.shared_bytes(in_parts, 90) == 6 * tiles.shared_bytes(plan, 90)


def test_ordinary_units_multiply_as_fast_as_the_data_sheets_say():
    for name, flops in {
        "a100": 19.5e12,
        "h100": 67e12,
        "l40s": 91.6e12,
        "rtx3090": 35.6e12,
    }.items():
        assert DEVICES[name].flops("ieee", 4) == pytest.approx(flops, rel=0.01)
    assert DEVICES["a100"].flops("ieee", 8) == pytest.approx(9.7e12, rel=0.01)
    assert DEVICES["h100"].flops("bf16x6", 4) == pytest.approx(165e12, rel=0.01)


def test_a_training_step_is_12_launches():
    plan = aea.explain(aea.AugmentedAttention(64), (8, 64, 64, 64), backward=True, device="h100")
    assert len(plan.launches) == 12
