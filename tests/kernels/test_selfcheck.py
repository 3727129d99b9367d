"""That a kernel which is wrong is noticed before its first use by "auto"."""

from __future__ import annotations

import threading
import warnings
from subprocess import CalledProcessError
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from strategies import normal
from triton.runtime.errors import OutOfResources

import aea_kernels as aea
from aea_kernels import backends, verify
from aea_kernels.backends import eager, selfcheck
from aea_kernels.backends.samples import samples
from aea_kernels.backends.triton import kernels, launching, primitives
from aea_kernels.backends.triton.versions import RefusedError

pytestmark = pytest.mark.parametrize("backend", ["auto"], indirect=True, scope="module")

CUDA = torch.device("cuda")
OUTER_SUM = selfcheck.Use("outer_sum", "", torch.device("cpu"), torch.float32, "ieee")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path):
    """No verdicts from before; new ones are written to a folder of the test."""
    monkeypatch.setattr(selfcheck, "_verdicts", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def kernels_here(monkeypatch):
    """ "auto" is Triton for the tensors of the test, in the interpreter, as on a card."""
    monkeypatch.setattr(
        backends, "resolved", lambda name, device: "triton" if name == "auto" else name
    )


# ---- faults --------------------------------------------------------------------------------------


@triton.jit
def _mask_that_misses_one(x, channels, s):
    return (channels < x.channels)[:, None] & (s < kernels.tile.positions_of(x) - 1)[None, :]


@triton.jit
def _product_that_forgets(a, b, result, MATH: tl.constexpr):
    return tl.dot(a.to(MATH.FACTOR), b.to(MATH.FACTOR), out_dtype=MATH.ACC)


@triton.jit
def _product_that_is_no_number(a, b, result, MATH: tl.constexpr):
    return result + float("nan")


FAULTS = {
    "a wrong mask": (kernels.tile, "tile_mask", _mask_that_misses_one),
    "a dropped term": (kernels.apply, "matmul", _product_that_forgets),
    "no number": (kernels.outer, "matmul", _product_that_is_no_number),
}


@pytest.fixture
def ieee_products():
    aea.set_ieee_products(True)
    yield
    aea.set_ieee_products(False)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("ieee_products")
def test_a_planted_fault_turns_to_eager_with_one_warning(fault, monkeypatch, kernels_here):
    module, name, faulty = FAULTS[fault]
    monkeypatch.setattr(module, name, faulty)
    torch.manual_seed(0)
    # more channels than a slice of `apply` has on ordinary units: a product has something to
    # forget
    block = aea.AugmentedAttention(40, references=3).eval()
    x = normal(2, 40, 9, 15, dtype=torch.float32)
    with torch.no_grad(), aea.use_backend("eager"):
        expected = block(x)
    with torch.no_grad(), pytest.warns(RuntimeWarning, match="aea_kernels.verify") as told:
        torch.testing.assert_close(block(x), expected)
    assert all("PyTorch computes it instead" in str(warning.message) for warning in told)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        block(x)


def test_right_kernels_are_used_without_a_word(monkeypatch, kernels_here):
    launched = []
    launch = launching.launch
    monkeypatch.setattr(launching, "launch", lambda *a, **k: launched.append(a) or launch(*a, **k))
    q = normal(1, 2, 30, 4, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = aea.linear_attention(q, q, q)
    torch.testing.assert_close(ours, aea.reference.linear_attention(q, q, q))
    assert set(selfcheck._verdicts.values()) == {""}
    assert len(launched) > 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfResources(240_000, 232_448, "shared memory"), "out of resource"),
        (RuntimeError("PassManager::run failed\nmore"), "PassManager::run failed; PyTorch"),
        (CalledProcessError(1, ["gcc"]), "Command '.'gcc'.' returned non-zero"),
        (RefusedError("ptxas 12.8.93: set TRITON_PTXAS_PATH"), "ptxas 12.8.93: set TRITON_PTXAS"),
    ],
)
def test_a_kernel_that_cannot_be_built_gives_its_result_by_eager(
    error, reason, monkeypatch, kernels_here
):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(launching, "launch", fail)
    q = normal(1, 2, 30, 4, dtype=torch.float32)
    with pytest.warns(RuntimeWarning, match=f"cannot be built or launched: {reason}"):
        ours = aea.linear_attention(q, q, q)
    torch.testing.assert_close(ours, aea.reference.linear_attention(q, q, q))
    with aea.use_backend("triton"), pytest.raises(type(error)):
        primitives.outer_sum(q, q)


def test_a_launch_that_fails_later_turns_to_eager_too(monkeypatch, kernels_here):
    q = normal(1, 2, 30, 4, dtype=torch.float32)
    aea.linear_attention(q, q, q)

    def fail(*arguments, **options):
        raise OutOfResources(240_000, 232_448, "shared memory")

    monkeypatch.setattr(launching, "launch", fail)
    with pytest.warns(RuntimeWarning, match="out of resource"):
        aea.linear_attention(q, q, q)


def test_nothing_is_checked_while_a_graph_is_captured(monkeypatch, kernels_here):
    monkeypatch.setattr(selfcheck, "capturing", lambda device: True)
    q = normal(1, 2, 30, 4, dtype=torch.float32)
    aea.linear_attention(q, q, q)
    assert selfcheck._verdicts == {}


# ---- verdicts on disk ----------------------------------------------------------------------------

USE = selfcheck.Use("moments", "batch", CUDA, torch.float32, "ieee")


def test_a_verdict_is_asked_once_for_a_machine(monkeypatch):
    asked = []
    monkeypatch.setattr(selfcheck, "verdict", lambda use: asked.append(use) or "is wrong")
    monkeypatch.setattr(selfcheck, "machine_key", lambda device: "a card")
    assert [selfcheck._recall(USE) for _ in range(2)] == ["is wrong", "is wrong"]
    monkeypatch.setattr(selfcheck, "machine_key", lambda device: "another card")
    selfcheck._recall(USE)
    assert asked == [USE, USE]


def test_what_could_not_be_built_is_tried_again_by_the_next_process(monkeypatch):
    found = ["cannot be built or launched: out of memory", ""]
    monkeypatch.setattr(selfcheck, "verdict", lambda use: found.pop(0))
    monkeypatch.setattr(selfcheck, "machine_key", lambda device: "a card")
    assert [selfcheck._recall(USE) for _ in range(3)] == [
        "cannot be built or launched: out of memory",
        "",
        "",
    ]


@pytest.mark.parametrize("content", ["", "no JSON", "[1]"])
def test_a_damaged_file_of_verdicts_is_none(monkeypatch, content):
    monkeypatch.setattr(selfcheck, "verdict", lambda use: "")
    monkeypatch.setattr(selfcheck, "machine_key", lambda device: "a card")
    selfcheck.cache_file().parent.mkdir(parents=True)
    selfcheck.cache_file().write_text(content)
    assert selfcheck._recall(USE) == ""
    assert selfcheck._read() == {"a card": {"moments batch torch.float32 ieee": ""}}


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(selfcheck, "verdict", lambda use: "")
    monkeypatch.setattr(selfcheck, "machine_key", lambda device: "a card")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert selfcheck._recall(USE) == ""


def test_without_a_home_directory_verdicts_are_not_kept(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(selfcheck, "verdict", lambda use: "")
    monkeypatch.setattr(selfcheck, "machine_key", lambda device: "a card")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(selfcheck.Path, "home", no_home)
    assert selfcheck._recall(USE) == ""


def test_threads_that_write_at_the_same_time_do_not_share_a_file(monkeypatch):
    parts, together = [], threading.Barrier(2, timeout=30)

    def replace(part, file):
        together.wait()  # both have written, and none is done
        parts.append(part.name)

    monkeypatch.setattr(selfcheck.Path, "replace", replace)
    threads = [threading.Thread(target=selfcheck._write, args=({},)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(parts)) == 2


# ---- python -m aea_kernels.verify ----------------------------------------------------------------


def some(dtype, device):
    """Few samples, as the interpreter is slow."""
    few = ("outer_sum", "apply_to_features")
    return [s for s in samples(dtype, device) if s.operator in few and not s.wide]


def test_verify_prints_a_table_and_exits_with_1_on_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(verify, "samples", some)
    monkeypatch.setattr(verify, "parsed", lambda: SimpleNamespace(device="cpu"))
    assert verify.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "All kernels agree with PyTorch."
    assert sum(line.endswith("right") for line in lines) == 2 * 5
    monkeypatch.setattr(kernels.outer, "matmul", _product_that_is_no_number)
    assert verify.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "5 faults"


def test_a_fault_between_slices_shows_on_wide_maps_alone(monkeypatch):
    monkeypatch.setattr(kernels.apply, "matmul", _product_that_forgets)
    uses = [
        selfcheck.Use("apply_to_features", "", torch.device("cpu"), torch.bfloat16, "16-bit", wide)
        for wide in (False, True)
    ]
    assert [bool(selfcheck.verdict(use)) for use in uses] == [False, True]
    assert selfcheck.use_of(
        "apply_to_features", [torch.empty(1, 129, 2, dtype=torch.bfloat16)]
    ).wide


def test_every_operator_has_a_sample():
    known = {sample.operator for sample in samples(torch.float32, torch.device("cpu"))}
    assert known == set(backends.triton.__all__)


@pytest.mark.filterwarnings("ignore:The kernel of attend_to_moments")
def test_layer_norm_over_more_channels_than_a_slice_is_right(kernels_here):
    """A slice does not have the mean of all channels."""
    x = normal(1, 132, 3, 5, dtype=torch.float32)
    u = torch.nn.functional.layer_norm(x.flatten(2).mT, (132,)).mT
    uh = torch.cat([u, torch.ones_like(u[:, :1])], 1)
    affine = torch.eye(133)[-1].expand(1, 2, 133).clone()
    affine[:, 0] = 1 - affine[:, 0]
    given = affine, uh @ uh.mT, [torch.eye(132), torch.zeros(132)] * 4, 2, 0.5
    y, matrix = torch.ops.aea.attend_to_moments(x, "layer", [], 1e-5, *given, "auto")
    torch.testing.assert_close(y, x + (matrix @ uh).view_as(x), rtol=1e-5, atol=1e-5)


def test_a_kernel_without_a_sample_is_not_called_right(monkeypatch, kernels_here):
    def others(dtype, device):
        return [s for s in samples(dtype, device) if s.operator != "outer_sum"]

    monkeypatch.setattr(selfcheck, "samples", others)
    q = normal(1, 2, 30, 4, dtype=torch.float32)
    with pytest.warns(RuntimeWarning, match="outer_sum for torch.float32 cannot be checked"):
        ours = aea.linear_attention(q, q, q)
    torch.testing.assert_close(ours, aea.reference.linear_attention(q, q, q))
    unsampled = [use.operator for use, wrong in selfcheck._verdicts.items() if wrong]
    assert unsampled == ["outer_sum"]


def test_verify_without_a_gpu_says_what_to_do(monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(verify, "parsed", lambda: SimpleNamespace(device=None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert verify.main() == 2
    assert "TRITON_INTERPRET=1" in capsys.readouterr().out


# ---- where a check might disturb what is at work -------------------------------------------------


def test_the_check_is_not_seen_by_torch_func_and_takes_no_random_numbers(kernels_here):
    q = normal(3, 1, 2, 30, 4, dtype=torch.float32)
    state = torch.get_rng_state()
    ours = torch.func.vmap(aea.linear_attention, randomness="error")(q, q, q)
    expected = torch.stack([aea.reference.linear_attention(x, x, x) for x in q])
    torch.testing.assert_close(ours, expected)
    assert set(selfcheck._verdicts.values()) == {""}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_check_of_a_backward_pass_records_no_derivatives(kernels_here):
    q = normal(1, 2, 30, 4, dtype=torch.float32).requires_grad_()
    (ours,) = torch.autograd.grad(aea.linear_attention(q, q, q).square().sum(), q)
    with aea.use_backend("eager"):
        (expected,) = torch.autograd.grad(aea.linear_attention(q, q, q).square().sum(), q)
    torch.testing.assert_close(ours, expected)
    assert {"outer_sum", "apply_matrix"} <= {use.operator for use in selfcheck._verdicts}


def test_a_compiled_call_checks_when_it_runs(kernels_here):
    q = normal(1, 2, 30, 4, dtype=torch.float32)
    compiled = torch.compile(aea.linear_attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, q, q), aea.reference.linear_attention(q, q, q))
    assert {use.operator for use in selfcheck._verdicts} == {"outer_sum", "apply_matrix"}


def test_the_check_is_made_whatever_the_default_device_is():
    with torch.device("meta"):  # as "cuda" would be, beside a generator that is on the CPU
        assert selfcheck.verdict(OUTER_SUM) == ""


@pytest.mark.parametrize("warn_only", [False, True])
def test_the_check_may_use_what_is_not_deterministic(warn_only, monkeypatch):
    compute = eager.outer_sum

    def nondeterministic(a, b):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))  # as products by cuBLAS on a GPU
        return compute(a, b)

    monkeypatch.setattr(eager, "outer_sum", nondeterministic)
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert selfcheck.verdict(OUTER_SUM) == ""
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)
