"""Whether a kernel computes on this machine what PyTorch does: asked once, before its first use.

The first call of an operator by "auto" runs a small call of the same kind through both backends and
compares the errors of both against float64. Where the kernel fails, a warning says so once, and
eager computes. Verdicts are kept for the process; those on numbers are kept on disk too, by card,
driver, compilers and the source of the kernels.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.precision import multiplication
from . import eager
from .samples import Sample, is_wide, kind_of, samples

BUDGET, DIGITS = 3, 2
"""An error may be so many times that of PyTorch in the same dtype, and so many of the unit in which
factors of products are rounded.
"""

UNITS = {"ieee": 2**-23, "bf16x6": 2**-23, "bf16x3": 2**-16, "tf32": 2**-10}
"""Of float32 by way of multiplying, relative."""

WRONG = "is wrong"
"""So a verdict on numbers begins."""


class Use(NamedTuple):
    """What is checked by itself."""

    operator: str
    kind: str
    device: torch.device
    dtype: torch.dtype
    mode: str
    """Of `core.precision.multiplication`."""
    wide: bool = False
    """Whether it reads maps in slices of channels."""


_verdicts: dict[Use, str] = {}
"""Empty where the kernel is right, else what is wrong with it."""


def call(operator: str, inputs: Sequence[Any]) -> Any:
    """The operator by its kernel if that is right here, else by eager."""
    # at the first use: the verdict, from a check or from the file
    use = use_of(operator, inputs)
    if use not in _verdicts:
        if capturing(use.device):  # nothing else may run; a graph is captured after a first call
            return kernel(operator)(*inputs)
        _verdicts[use] = _recall(use)
        if _verdicts[use]:
            _warn(use)

    # a kernel that passed the check may still not be built or launched for larger maps
    if not _verdicts[use]:
        try:
            return kernel(operator)(*inputs)
        except kernel_errors() as error:
            _verdicts[use] = f"cannot be built or launched: {first_line(error)}"
            _warn(use)
    return getattr(eager, operator)(*inputs)


def use_of(operator: str, inputs: Sequence[Any]) -> Use:
    dtype = map_dtype(inputs)
    products, wide = multiplication(dtype), is_wide(operator, inputs)
    return Use(operator, kind_of(inputs), inputs[0].device, dtype, products, wide)


def map_dtype(arguments: Sequence[Any]) -> torch.dtype:
    """That of the feature maps: sums and matrices are never narrower."""
    dtypes = [given.dtype for given in arguments if isinstance(given, Tensor)]
    return min(dtypes, key=lambda dtype: dtype.itemsize)


def kernel(operator: str) -> Callable[..., Any]:
    """What launches the kernels of an operator."""
    found: Callable[..., Any] = getattr(import_module(".triton", __package__), operator)
    return found


@cache
def kernel_errors() -> tuple[type[Exception], ...]:
    """What is raised where a kernel cannot be built or launched."""
    from triton.errors import TritonError

    from .triton.versions import RefusedError

    return TritonError, RefusedError


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def capturing(device: torch.device) -> bool:
    """Whether launches go to a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _warn(use: Use) -> None:
    kind = f" ({use.kind})" if use.kind else ""
    warnings.warn(
        f"The kernel of {use.operator}{kind} for {use.dtype} {_verdicts[use]}; PyTorch computes "
        "it instead. Please send us the output of `python -m aea_kernels.verify`.",
        RuntimeWarning,
        stacklevel=4,
    )


# ---- the comparison ------------------------------------------------------------------------------


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """cuBLAS computes what the kernels are compared with, and PyTorch refuses that where algorithms
    must be deterministic and CUBLAS_WORKSPACE_CONFIG is not set. Kernels need no cuBLAS.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def verdict(use: Use) -> str:
    """Empty where the kernels of a use agree with float64, else what is wrong."""
    asked = use.operator, use.kind, use.wide
    fitting = [
        sample
        for sample in samples(use.dtype, use.device)
        if (sample.operator, sample.kind, sample.wide) == asked
    ]

    # a kernel of which nothing was compared is not known to be right
    if not fitting:
        return "cannot be checked, as there is no sample of such a call"

    for sample in fitting:
        wrong = fault(sample, use.mode)
        if wrong:
            return wrong
    return ""


@torch.no_grad()
@_any_algorithm()
def fault(sample: Sample, mode: str) -> str:
    """Empty where the kernel agrees with float64 on a sample, else what is wrong."""
    # the error of PyTorch in the same dtype is the measure for that of the kernel
    plain = _tensors(getattr(eager, sample.operator)(*sample.arguments))
    exact = _tensors(getattr(eager, sample.operator)(*_in_float64(sample.arguments)))

    # not to be built is a fault too: without a compiler, or where one fails, Triton raises errors
    # of many kinds
    try:
        found = _tensors(kernel(sample.operator)(*sample.arguments))
    except Exception as error:
        return f"cannot be built or launched: {first_line(error)}"

    # a kernel may err a few times as much as PyTorch, and by the rounding of its factors
    unit = max(UNITS.get(mode, 0.0), torch.finfo(map_dtype(sample.arguments)).eps)
    for ours, theirs, right in zip(found, plain, exact, strict=True):
        if not right.numel():
            continue
        off, allowed = _error(ours, right), BUDGET * _error(theirs, right) + DIGITS * unit
        # a NaN is not below what is allowed, and so a fault
        if not off <= allowed:
            return f"{WRONG} by {off:.1g} of the largest number, where {allowed:.1g} is allowed"
    return ""


def _error(found: Tensor, right: Tensor) -> float:
    """The largest difference, relative to the largest number; NaN where a number is none."""
    difference = (found.double() - right).abs().max()
    return float(difference / right.abs().max().clamp(min=torch.finfo(torch.float64).tiny))


def _tensors(results: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else list(results)


def _in_float64(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.double()
    if isinstance(argument, list | tuple):
        return type(argument)(_in_float64(part) for part in argument)
    return argument


# ---- on disk -------------------------------------------------------------------------------------


def _recall(use: Use) -> str:
    """The verdict on disk, or a new one, which is written there."""
    # only verdicts on cards are kept in the file
    if use.device.type != "cuda":
        return verdict(use)

    # in the file verdicts stand by machine, then by use
    machine = machine_key(use.device)
    width = ["wide"] if use.wide else []
    name = " ".join(map(str, (use.operator, use.kind, use.dtype, use.mode, *width)))
    known = _read().get(machine, {})
    if name not in known:
        found = verdict(use)
        # what keeps a kernel from being built, such as full memory, may be gone the next time
        if not found or found.startswith(WRONG):
            everything = _read()  # other processes may have written since
            everything.setdefault(machine, {})[name] = found
            _write(everything)
        return found
    return str(known[name])


def cache_file() -> Path:
    """Where verdicts are kept.

    Raises:
        RuntimeError: the user has no home directory.
    """
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "aea_kernels" / "selfcheck.json"


def machine_key(device: torch.device) -> str:
    """Card, driver, compilers and kernels: a verdict holds for all of them together."""
    versions = import_module(".triton.versions", __package__)
    properties = torch.cuda.get_device_properties(device)
    architecture = 10 * properties.major + properties.minor
    parts = {
        "card": properties.name,
        "driver": torch._C._cuda_getDriverVersion(),  # type: ignore[attr-defined]
        "torch": torch.__version__,
        "triton": metadata.version("triton"),
        "ptxas": versions.assembler(architecture),
        "kernels": _source_hash(),
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items())


@cache
def _source_hash() -> str:
    """Of the files of the Triton backend."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).with_name("triton").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _read() -> dict[str, dict[str, str]]:
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # the last where nobody knows a home directory
        return {}
    return found if isinstance(found, dict) else {}


def _write(verdicts: dict[str, dict[str, str]]) -> None:
    """Other processes see the old file or the new one; where it cannot be written, none."""
    try:
        file = cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        # threads of a process may write at the same time too
        part = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
        part.write_text(json.dumps(verdicts, indent=1), encoding="utf-8")
        part.replace(file)
    except (OSError, RuntimeError):
        return
