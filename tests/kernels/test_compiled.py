"""Every kernel as the library would launch it, built without a GPU: what the machine code must and
must not have.

A selection by default, ``--every-kernel`` all of them (minutes).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton
from built_kernel import line, transposes_a_product

from benches.sections.kernels import BUILT_FOR

SHARED_LIMITS = {"75": 64, "80": 163, "86": 99, "90": 227, "100": 227, "120": 99, "gfx942": 64}
"""KiB that a program may have."""
# Triton has no tensor cores of sm_75
TENSOR_CORES = {name: {"mma.sync"} for name in ("80", "86", "120")}
TENSOR_CORES |= {
    "90": {"wgmma.mma_async"},
    "100": {"tcgen05.mma", "mma.sync"},
    "gfx942": {"v_mfma"},
}
PRODUCTS = {"outer", "apply", "features_backward", "matrix_backward"}
OF_FAMILIES = {"phi_outer", "phi_outer_backward", "phi_apply", "phi_matrix_backward"}
PROMISED = {"bfloat16", "float16", "tf32", "bf16x3", "bf16x6"}
"""Ways to multiply, of up to 128 channels, whose kernels hold what they need in registers."""
SPILLS_A_LITTLE = tuple(int(n) for n in triton.__version__.split(".")[:2]) >= (3, 8)
LARGE = PRODUCTS | OF_FAMILIES | {"statistics"}
"""They read feature maps."""
ALGEBRA = {"join_statistics", "reduce_splits", "fold", "scores", "fold_backward"}
ALIGNMENTS = ["--case", "nchw-16", "nchw-1", "channels_last-16"]
ALIGNED = ["--case", "nchw-16", "channels_last-16"]
EVERY_NORM = ["--norm", "batch", "group", "layer", "rms"]
IN_PARTS = ["--channels", "64", "128", "--dtype", "float32", "--precision", "bf16x6", "bf16x3"]
SELECTION = {
    "80": [["--channels", "128", "--dtype", "bfloat16", "--case", "nchw-16"]],
    "90": [
        [
            "--channels",
            "128",
            "--dtype",
            "bfloat16",
            "--case",
            "nchw-16",
            "nchw-1",
            "--norm",
            "batch",
            "layer",
        ]
    ],
    "100": [["--channels", "128", "--dtype", "bfloat16", "--case", "nchw-16"]],
    "gfx942": [["--channels", "64", "--dtype", "bfloat16", "--case", "nchw-16"]],
}
EVERYTHING = {
    "75": [
        ["--channels", "64", "128", "--dtype", "float16", "--case", "nchw-16"],
        ["--families", "--channels", "64", "--dtype", "float16", "--case", "nchw-16"],
    ],
    "80": [
        [*IN_PARTS, "--case", "nchw-16"],
        ["--channels", "64", "128", "--dtype", "bfloat16", *ALIGNMENTS, *EVERY_NORM],
        ["--families", "--channels", "128", "--dtype", "bfloat16", "--case", "nchw-16"],
        [
            "--channels",
            "128",
            "--dtype",
            "float32",
            "--precision",
            "tf32",
            "--case",
            "nchw-1",
            *EVERY_NORM,
        ],
    ],
    "86": [
        ["--channels", "64", "128", "--case", "nchw-16", *EVERY_NORM],
        ["--families", "--channels", "64", "128", "--case", "nchw-16"],
    ],
    "90": [
        [*IN_PARTS, *ALIGNMENTS],
        ["--dtype", "bfloat16"],
        ["--channels", "128", "--dtype", "float16", *ALIGNMENTS],
        ["--channels", "64", "128", "--dtype", "bfloat16", *ALIGNMENTS, *EVERY_NORM],
        [
            "--channels",
            "1",
            "--dtype",
            "bfloat16",
            *ALIGNMENTS,
            *EVERY_NORM,
        ],  # a 1 is a constant to the compiler
        ["--channels", "2", "--dtype", "bfloat16", *ALIGNMENTS, *EVERY_NORM],
        ["--families", "--channels", "64", "128", "--dtype", "bfloat16", *ALIGNED],
        [
            "--families",
            "--channels",
            "64",
            "128",
            "--dtype",
            "float32",
            "--precision",
            "tf32",
            *ALIGNED,
        ],
        ["--families", "--channels", "128", "--dtype", "float16", "--case", "nchw-16"],
        [
            "--channels",
            "32",
            "64",
            "128",
            "--dtype",
            "float32",
            "--precision",
            "ieee",
            "tf32",
            *ALIGNMENTS,
        ],
    ],
    "100": [
        [*IN_PARTS, "--case", "nchw-16"],
        ["--channels", "64", "128", "--dtype", "bfloat16", *ALIGNMENTS],
        ["--channels", "64", "--dtype", "bfloat16", *ALIGNMENTS, *EVERY_NORM],
        ["--channels", "64", "--dtype", "float32", "--precision", "tf32", *ALIGNED, *EVERY_NORM],
        ["--families", "--channels", "64", "128", "--dtype", "bfloat16", *ALIGNED],
        [
            "--families",
            "--channels",
            "64",
            "128",
            "--dtype",
            "float32",
            "--precision",
            "tf32",
            *ALIGNED,
        ],
    ],
    "120": [
        [
            "--channels",
            "64",
            "128",
            "--dtype",
            "float32",
            "--precision",
            "tf32",
            "--case",
            "nchw-16",
        ]
    ],
    "gfx942": [["--channels", "64", "128", "--dtype", "bfloat16", "--case", "nchw-16"]],
}
"""Options of `compiled.py`, a list for each run."""


@pytest.fixture(autouse=True)
def backend():
    """None: a process of its own compiles, since this one interprets."""


def build(*arguments: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("compiled.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def table(request):
    """Rows by architecture, all processes started at once."""
    chosen = EVERYTHING if request.config.getoption("--every-kernel") else SELECTION
    running = [
        (name, build("--json", "--architecture", name, *run))
        for name, runs in chosen.items()
        for run in runs
    ]
    rows = {name: [] for name in chosen}
    for name, process in running:
        rows[name] += [json.loads(line) for line in process.stdout]
        assert process.wait() == 0
    return rows


def test_readme_names_what_kernels_are_built_for():
    assert {f"sm_{name}" for name in EVERYTHING if name.isdigit()} == set(BUILT_FOR)


@pytest.mark.parametrize("architecture", EVERYTHING)
def test_every_kernel_fits_its_machine(table, architecture, request, capsys):
    """With -v or --every-kernel the table is printed."""
    if architecture not in table:
        pytest.skip("built with --every-kernel only")
    rows = table[architecture]
    if request.config.option.verbose > 0 or request.config.getoption("--every-kernel"):
        with capsys.disabled():
            print("", *map(line, rows), sep="\n")
    chosen = EVERYTHING if request.config.getoption("--every-kernel") else SELECTION
    families = any("--families" in run for run in chosen[architecture])
    assert {r["kernel"] for r in rows} >= (LARGE | ALGEBRA) - (set() if families else OF_FAMILIES)
    assert [r for r in rows if r["shared"] > 1024 * SHARED_LIMITS[architecture]] == []
    multiplying = [
        r
        for r in rows
        if r["kernel"] in PRODUCTS | OF_FAMILIES and r["channels"] >= 64 and r["dtype"] != "ieee"
    ]
    if architecture in TENSOR_CORES:
        cores = TENSOR_CORES[architecture]
        assert [r for r in multiplying if not cores & set(r["instructions"])] == []


@pytest.fixture
def promised(table):
    """Rows of kernels that hold what they need in registers: on sm_90 whatever the size and layout
    of the image, elsewhere where maps are read 16 bytes at a time.
    """
    rows = table["90"] + [
        r for name in ("80", "100") for r in table[name] if r["case"].endswith("-16")
    ]
    return [r for r in rows if r["channels"] <= 128 and r["dtype"] in PROMISED]


# what they spill is bounded by the next test
@pytest.mark.skipif(SPILLS_A_LITTLE, reason="Triton 3.8 and newer spill a few bytes")
def test_no_kernel_spills_registers(promised):
    """With one or two channels ptxas limits some kernels to fewer registers of its own accord, and
    needs 8 bytes of stack.
    """
    assert [line(r) for r in promised if r["spilled"] > (8 if r["channels"] <= 2 else 0)] == []


def test_what_is_spilled_costs_next_to_nothing(promised):
    """Triton 3.8 spills up to 168 bytes a thread, 1 % of the instructions of loops; smaller tiles,
    which it can hold, would load matrices twice as often.
    """
    assert [line(r) for r in promised if r["spilling"] > 0.02] == []


def test_no_product_is_transposed(table):
    """Triton 3.4 to 3.7.0 multiplies a transposed product wrongly on Hopper, see versions.py."""
    assert [line(r) for rows in table.values() for r in rows if r["transposes_a_product"]] == []


def test_large_kernels_copy_asynchronously(table):
    """All that can: a copy takes 4 bytes at least, so not single numbers of 16 bits, as in rows of
    an odd length.

    Kernels of 32 channels in channels_last load by way of registers, four programs of them at a
    time. Without tensor cores, arithmetic takes several times as long as memory, and the registers
    are needed for it.
    """
    rows = [
        r
        for r in table["90"]
        if r["kernel"] in LARGE
        and r["channels"] >= 64
        and r["dtype"] != "ieee"
        # two matrices of three parts leave no room for a second stage
        and (r["kernel"], r["dtype"]) != ("features_backward", "bf16x6")
    ]
    aligned = [r for r in rows if r["case"] not in ("nchw-4", "nchw-1", "sliced")]
    assert aligned
    assert [line(r) for r in aligned if not r["asynchronous"]] == []


def test_as_many_programs_are_resident_as_the_table_asks_for(table):
    rows = [r for r in table["90"] if r["dtype"] in PROMISED and r["channels"] <= 128]
    assert [line(r) for r in rows if r["fit"] < r["wanted"]] == []


def test_a_transposed_product_is_found():
    product = "%3 = tt.dot %1, %2, %0, inputPrecision = tf32 : tensor<16x16xf16>"
    rounded = "%4 = arith.truncf %3 : tensor<16x16xf32> to tensor<16x16xf16>"
    assert transposes_a_product("\n".join([product, rounded, "%5 = tt.trans %4 {order = array}"]))
    assert not transposes_a_product("\n".join(["%1 = tt.trans %9 {order = array}", product]))
    loop = ["%8 = scf.for %i = %a to %b step %c iter_args(%sum = %0) -> (tensor<16x16xf32>) {"]
    loop += [product.replace("%0", "%sum"), "scf.yield %3", "}"]
    assert transposes_a_product("\n".join([*loop, "%9 = tt.trans %8 {order = array}"]))


def test_a_new_image_size_compiles_nothing():
    """Of 75 sizes, those of which 8 divides the positions share their kernels, and the others
    theirs.
    """
    process = build("--sizes", "75")
    found = json.loads(process.stdout.read())
    assert process.wait() == 0
    assert found["inference"] <= 6
    assert found["training"] <= 17
    # what `kernel[grid](...)` returns is launched again as Triton launched it
    assert found["launched again"]
