"""Every kernel as the library would launch it, built without a GPU: no spills, shared memory enough, tensor cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from compiled import line

SHARED_LIMITS = {"80": 163 * 1024, "90": 227 * 1024, "100": 227 * 1024, "gfx942": 64 * 1024}
"""Bytes that a program may have."""
TENSOR_CORES = {"80": {"mma.sync"}, "90": {"wgmma.mma_async"}, "100": {"tcgen05.mma", "mma.sync"}, "gfx942": {"v_mfma"}}
PRODUCTS = {"outer", "apply", "features_backward", "matrix_backward"}
SELECTION = {
    "80": ["--channels", "128", "--dtype", "bfloat16"],
    "90": ["--channels", "64", "128", "--dtype", "bfloat16", "float32", "--precision", "ieee", "tf32"],
    "100": ["--channels", "128", "--dtype", "bfloat16"],
    "gfx942": ["--channels", "64", "--dtype", "bfloat16"],
}


@pytest.fixture(autouse=True)
def backend():
    """None: a process of its own compiles, since this one interprets."""


@pytest.fixture(scope="module")
def table(request):
    """Rows by architecture, all processes started at once."""
    everything = request.config.getoption("--every-kernel")
    script = Path(__file__).with_name("compiled.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    running = {}
    for architecture, selection in SELECTION.items():
        command = [sys.executable, str(script), "--json", "--architecture", architecture]
        running[architecture] = subprocess.Popen(
            command + ([] if everything else selection), env=environment, stdout=subprocess.PIPE, text=True
        )
    rows = {name: [json.loads(line) for line in process.stdout] for name, process in running.items()}
    assert all(process.wait() == 0 for process in running.values())
    return rows


@pytest.mark.parametrize("architecture", SELECTION)
def test_every_kernel_fits_its_machine(table, architecture, request, capsys):
    """With -v or --every-kernel the table is printed."""
    rows = table[architecture]
    if request.config.option.verbose > 0 or request.config.getoption("--every-kernel"):
        with capsys.disabled():
            print("", *map(line, rows), sep="\n")
    assert {r["kernel"] for r in rows} >= PRODUCTS | {"statistics", "join_statistics", "gather", "fold"}
    assert [r for r in rows if r["shared"] > SHARED_LIMITS[architecture]] == []
    # gfx942 is built, not supported: there the backward kernel spills at 128 channels of 16 bits
    assert [r for r in rows if r["spilled"] and architecture != "gfx942"] == []
    multiplying = [r for r in rows if r["kernel"] in PRODUCTS and r["channels"] >= 64 and r["dtype"] != "ieee"]
    assert [r for r in multiplying if not TENSOR_CORES[architecture] & set(r["instructions"])] == []
