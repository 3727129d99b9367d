"""What is read of a kernel that was built: its registers, shared memory and instructions, and what
Triton's own form of it does.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton

ARCHITECTURES: dict[str, tuple[str, Any]] = {
    n: ("cuda", int(n)) for n in ("75", "80", "86", "90", "100", "120")
}
ARCHITECTURES["gfx942"] = "hip", "gfx942"
INSTRUCTIONS = r"wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_mfma"
SHARED_PER_SM = {
    "75": 64 * 1024,
    "80": 164 * 1024,
    "86": 100 * 1024,
    "90": 228 * 1024,
    "100": 228 * 1024,
    "120": 100 * 1024,
}


def describe(name: str, wanted: int, kernel: Any, architecture: str) -> dict[str, Any]:
    """One row of the table."""
    kind, _ = ARCHITECTURES[architecture]
    text = kernel.asm["ptx" if kind == "cuda" else "amdgcn"]
    row = {
        "kernel": name,
        "architecture": architecture,
        "shared": kernel.metadata.shared,
        "instructions": sorted(set(re.findall(INSTRUCTIONS, text))),
        "asynchronous": "cp.async" in text,
        "transposes_a_product": transposes_a_product(kernel.asm["ttir"]),
        "wanted": wanted,
        "fit": None,
    }
    if kind != "cuda":
        registers = max(int(n) for n in re.findall(r"\.vgpr_count:\s+(\d+)", text))
        spilled = int(re.findall(r"\.private_segment_fixed_size:\s+(\d+)", text)[0])
        return row | {"registers": registers, "spilled": spilled, "spilling": None}
    registers, spilled = _resources(kernel.asm["cubin"])
    spilling = _spilling(kernel.asm["cubin"]) if spilled else 0.0
    warps = kernel.metadata.num_warps
    fit = min(
        65536 // (-(-registers // 8) * 8 * 32 * warps),
        SHARED_PER_SM[architecture] // (kernel.metadata.shared + 1024),
        64 // warps,
    )
    return row | {"registers": registers, "spilled": spilled, "spilling": spilling, "fit": fit}


def transposes_a_product(text: str) -> bool:
    """Whether Triton's IR of a kernel transposes anything that comes from a product of matrices.

    All results of a loop count as from a product where one is in it.
    """
    products: set[str] = set()
    loops: list[list[str]] = []
    for statement in map(str.strip, text.splitlines()):
        found = re.match(r"(%\w+)(?::\d+)? = (\S+) (.*)", statement)
        result, operation, rest = found.groups() if found else ("", "", statement)
        used = set(re.findall(r"%\w+", rest))
        if operation == "tt.trans" and used & products:
            return True
        if operation == "tt.dot" or used & products:
            # what a loop carries comes from a product too
            products |= {result, *(name for loop in loops for name in loop)}
        if statement.endswith("{"):
            carried = re.findall(r"(%\w+) = %", rest) if operation == "scf.for" else []
            loops.append([result, *carried])
        elif statement.startswith("}") and loops:
            loops.pop()
            if statement.endswith("{"):  # } else {
                loops.append([])
    return False


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    report = _cuobjdump("-res-usage", cubin)
    found = re.search(r"REG:(\d+) STACK:(\d+)", report)
    assert found is not None, report
    return int(found[1]), int(found[2])


def _spilling(cubin: bytes) -> float:
    """Which part of the instructions inside loops reads or writes what does not fit into
    registers.
    """
    code = re.findall(r"/\*([0-9a-f]{4,})\*/ +([^;]+);", _cuobjdump("-sass", cubin))
    instructions = [(int(address, 16), text.strip()) for address, text in code]
    loops = []
    for address, text in instructions:
        jump = re.search(r"\bBRA\b.* 0x([0-9a-f]+)$", text)
        if jump and int(jump[1], 16) < address:
            loops.append(range(int(jump[1], 16), address + 1))
    inside = [text for address, text in instructions if any(address in loop for loop in loops)]
    local = [text for text in inside if re.search(r"\b(LDL|STL)\b", text)]
    return len(local) / max(1, len(inside))


def _cuobjdump(option: str, cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run([tool, option, path], capture_output=True, text=True, check=True)
    return done.stdout


def line(row: dict[str, Any]) -> str:
    """One kernel as a line of a table."""
    where = f"{row['architecture']:>6} {row['channels']:>4} {row['dtype']:<9}{row['case']:<17}"
    registers = f"{row['registers']:>4} registers {row['spilled']:>5} B spilled"
    if row["spilling"]:
        registers += f" ({row['spilling']:.1%} of its loops)"
    fit = f"{row['shared']:>7} B shared {row['fit'] or '?':>3} fit ({row['wanted'] or '-'} wanted)"
    copies = " async " if row["asynchronous"] else "       "
    instructions = ", ".join(row["instructions"])
    return f"{where}{row['kernel']:<20}{registers} {fit}{copies}{instructions}"
