"""What every kernel test shares: the backends under test."""

import os
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

import aea_kernels as aea
from aea_kernels.core import known_calls

if find_spec("triton") is None:  # Triton exists for Linux only: there are no kernels to test
    collect_ignore_glob = [f"test_{what}*.py" for what in ("compiled", "gpu", "planning")]
    collect_ignore_glob += [
        f"test_{what}*.py" for what in ("sanitizer", "traffic", "triton", "versions")
    ]


@pytest.fixture(params=["eager", "triton"], scope="module", autouse=True)
def backend(request):
    """The same suite for every backend; the oracle is called by its own name and needs none.

    In the interpreter there are few multiprocessors, so that each program walks over several tiles
    and an image has several splits. A device has its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "eager":
            # Triton exists for Linux only; the eager backend needs none
            interpreter = pytest.importorskip(
                "triton.runtime.interpreter", reason="the package triton is not installed"
            )
            if os.environ.get("TRITON_INTERPRET") == "1":
                replace_language_once(interpreter, patch)
            patch.setattr("aea_kernels.backends.triton.tiles.H100", (90, 2))
        with aea.use_backend(request.param):
            yield request.param


@pytest.fixture(autouse=True)
def first_calls():
    """No test sees the traces of another, which may have put something in place of a function."""
    known_calls.forget()


@pytest.fixture
def fresh_memory_is_nan():
    """What is read before it is written shows in results, by PyTorch's own means."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


def replace_language_once(interpreter, patch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter replaces the functions of `triton.language` for every function that a
    kernel calls, in some milliseconds. In a launch once is enough for all functions that see the
    same modules of it.
    """
    replace_language, language = interpreter._patch_lang, interpreter.tl
    replaced: set[tuple[bool, bool]] = set()

    def replace(fn):
        seen = list(fn.__globals__.values())
        modules = any(v is language for v in seen), any(v is language.core for v in seen)
        if modules in replaced:
            return SimpleNamespace(restore=lambda: None)
        outermost = not replaced
        replaced.add(modules)
        scope = replace_language(fn)

        def restore():
            scope.restore()
            if outermost:
                replaced.clear()

        return SimpleNamespace(restore=restore)

    patch.setattr(interpreter, "_patch_lang", replace)
