"""What the READMEs say of the kernel library."""

from __future__ import annotations

from typing import Any

from aea_kernels.conversion.table import RECOGNISERS

from .. import report
from ..record import read

BOTTOM = "236 x 320 positions, 128 channels, 2 heads, 64 references, float32"
"""The feature map at the bottom of the network, for a 1280x944 image."""
FORWARD, BOTH = (
    "block | bottom | float32 | forward",
    "block | bottom | float32 | forward + backward",
)
BUILT_FOR = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
"""NVIDIA's architectures for which `tests/kernels/test_compiled.py` builds the kernels."""


# ---- README.md -----------------------------------------------------------------------------------


def attention_table() -> str:
    """Time of the block on a CPU, forward and with its gradients."""
    # contenders that could run; the map could not, and its reason has the bytes
    record = read("cpu")
    forward, both = (record["groups"][group] for group in (FORWARD, BOTH))
    names = [name for name in forward if "median" in forward[name]]
    rows = [
        ["forward", *(_time(forward[name]) for name in names)],
        ["forward + backward", *(_time(both[name]) for name in names)],
    ]
    needed = forward["map (naive, NonLocal2d)"]["status"]
    return (
        f"**Attention.** The block (*{report.ours(forward)}*) and the same block as one writes it "
        f"in PyTorch (*plain eager*), {BOTTOM}, {_machine(record)}. As the equations are written "
        f"it cannot run there: {needed}.\n\n"
        f"{report.markdown(['', *map(report.contender, names)], rows)}"
    )


def gpu_paragraph() -> str:
    """What was shown of the kernels, and where."""
    # two records: as compiled for a GPU but run on a CPU, and the one run on a GPU
    compiled, run = read("compiled-ir"), read("NVIDIA-H200-quick")
    passed, number = compiled["tests"]["passed"], sum(compiled["tests"].values())
    searched = compiled["launches"] - compiled["too_large"]
    groups = [run["groups"][group] for group in (FORWARD, BOTH)]
    times = " and ".join(_time(group[report.ours(group)]) for group in groups)
    (_, host), _ = _scaling_of_ours(run)

    # what was shown, and with the same weight what was not
    return (
        f"**GPU.** What was shown of the Triton kernels, and where. In Triton's interpreter, on a "
        f"CPU, the tests compare every kernel with float64. As they are compiled for "
        f"{compiled['target']}, also on a CPU, {len(compiled['kernels'])} kernels ran "
        f"{compiled['launches']:,} times, {searched:,} of them searched for races and for accesses "
        f"out of bounds, and {passed} of {number} tests passed (torch {compiled['torch']}, Triton "
        f"{compiled['triton']}, at {compiled['commit']}). For {', '.join(BUILT_FOR[:-1])} and "
        f"{BUILT_FOR[-1]} they are built, the last without the other families, and not run. "
        f"On a GPU they ran once, on an {run['device']} (torch {run['torch']}, Triton "
        f"{run['triton']}, at {run['commit']}): the block of the table above took {times}, forward "
        f"and with gradients. That is wall time of launches without a CUDA graph, of which the "
        f"host alone takes up to {host:.2f} ms, with float32 multiplied exactly. What failed there "
        f"is mended, but that and all later changes, the kernels as the default among them, have "
        f"not run on a GPU."
    )


def converting_table() -> str:
    """Whole networks before and after the conversion, forward."""
    record = read("cpu-networks")
    head, times, memory = [""], ["time"], ["memory"]
    for (name, size, *rest), before, after in report.pairs(record, "network"):
        if rest == ["forward"] and name not in (column.partition(",")[0] for column in head):
            head.append(f"{name}, {size}")
            times.append(f"{_time(before)} → {_time(after)}")
            memory.append(f"{_megabytes(before)} → {_megabytes(after)} MB")
    return (
        f"**Networks with attention in them.** Prediction before → after the conversion, "
        f"{_machine(record)}. MONAI's DiffusionModelUNet had softmax attention.\n\n"
        f"{report.markdown(head, [times, memory])}"
    )


def symmetries_table() -> str:
    """Which symmetries hold for well-known attention blocks."""
    networks = read("symmetries")["networks"]
    groups = list(next(iter(networks.values())))
    rows = [[group, *(_symmetry(found[group]) for found in networks.values())] for group in groups]
    return (
        "**Symmetries.** What the report says of networks with random weights. In training the "
        "block lets the images of a batch attend to one another, as the paper has it.\n\n"
        f"{report.markdown(['', *networks], rows)}"
    )


def _symmetry(found: dict[str, Any]) -> str:
    """Whether a symmetry holds, and which layers break it otherwise."""
    culprits = found["culprits"]
    if not culprits:
        return "holds"
    first = f"`{culprits[0]}`" if culprits[0] else "the block"
    return f"broken by {first}" + (f" and {len(culprits) - 1} more" if culprits[1:] else "")


def _time(result: dict[str, Any]) -> str:
    return report.shown_time(result["median"])


def _megabytes(result: dict[str, Any]) -> str:
    return f"{result['bytes'] / 1e6:,.0f}"


def _machine(record: dict[str, Any]) -> str:
    return f"on {record['threads']} threads of a CPU ({record['device']})"


# ---- aea_kernels/README.md -----------------------------------------------------------------------


def supported_table() -> str:
    """What `aea.convert` recognises."""
    rows = []
    for known in RECOGNISERS:
        classes = ", ".join(f"`{name}`" for name in known.classes)
        results = "the same" if known.exact else "others, with `retrain=True`"
        rows.append(
            [known.package, f"{classes} {known.only}".rstrip(), f"`{known.operators}`", results]
        )
    return report.markdown(["from", "class", "replaced by", "results"], rows)


# ---- benches/README.md ---------------------------------------------------------------------------


def block_section() -> str:
    """The block at the bottom of the network on a CPU."""
    record = read("cpu")
    bottom = [group for group in record["groups"] if group.startswith("block | bottom | float32")]
    slope = report.slope(_curve_of_ours(record))
    return (
        f"{BOTTOM}; CPU: {record['device']}, {record['threads']} threads, torch "
        f"{record['torch']}, `python -m benches` at {record['commit']}. Time grows with the number "
        f"of positions to the power {slope:.2f}.\n\n{report.table(record, bottom)}"
    )


def h200_section() -> str:
    """The first record of a GPU, and what its times are made of."""
    # of the operator one table; of the block how its time grows; of the network one number
    record = read("NVIDIA-H200-quick")
    operator = "operator | bottom | float32 | forward"
    groups = [group for group in record["groups"] if group.startswith(operator)]
    small, large = _scaling_of_ours(record)
    network = record["groups"]["model | inference, 1280 x 944"]["aeanet"]

    return (
        f"Equation 4 on {BOTTOM}, on one {record['device']}, torch {record['torch']}, triton "
        f"{record['triton']}, `python -m benches --device cuda --quick` at {record['commit']}, "
        f"before any tuning. *aea* is the Triton kernels. AEANet as a whole takes "
        f"{report.shown_time(network['median'])} and {network['bytes'] / 2**30:.2f} GiB for "
        f"1280 x 944 px.\n\n"
        f"{report.table(record, groups, only_measured=True)}\n\n"
        f"Not measured: {_absent(record, groups)}.\n\n"
        f"The times are wall time of calls from Python, without a CUDA graph, and float32 is "
        f"multiplied exactly. The host, which launches the kernels, has the larger part of them: "
        f"the block takes {small[0]:.2f} to {small[1]:.2f} ms on every map of 32 x 32 to "
        f"128 x 128 positions (32 channels), where the GPU has next to nothing to do. Only larger "
        f"maps wait for the GPU: 1024 x 1024 takes {large:.2f} ms."
    )


def _curve_of_ours(record: dict[str, Any]) -> list[tuple[int, float]]:
    curves = report.scaling(record)
    return curves[report.ours(curves)]


def _scaling_of_ours(record: dict[str, Any]) -> tuple[tuple[float, float], float]:
    """Least and most time, ms, of the block on maps up to 128 x 128, and that on 1024 x 1024."""
    curve = dict(_curve_of_ours(record))
    small = [milliseconds for side, milliseconds in curve.items() if side <= 128]
    return (min(small), max(small)), curve[1024]


def _absent(record: dict[str, Any], groups: list[str]) -> str:
    """The contenders that could not run, with the reasons."""
    reasons = {
        name: result["status"]
        for group in groups
        for name, result in record["groups"][group].items()
        if "status" in result
    }
    return "; ".join(f"{name} ({reason})" for name, reason in reasons.items())


def networks_section() -> str:
    """Networks of other people before and after the conversion."""
    record = read("cpu-networks")
    return (
        f"{record['device']}, {record['threads']} threads, torch {record['torch']}, float32, "
        f"`python -m benches --suite networks` at {record['commit']}.\n\n"
        f"{report.conversions(record)}"
    )
