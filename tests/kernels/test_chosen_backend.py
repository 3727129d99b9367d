"""Who computes with "auto", and why."""

from __future__ import annotations

from subprocess import CalledProcessError
from types import SimpleNamespace

import pytest
import torch

import aea_kernels as aea
from aea_kernels import backends

pytestmark = pytest.mark.parametrize("backend", ["auto"], indirect=True, scope="module")

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def nothing_chosen():
    """No choice from before, and none for later tests."""
    backends._choice_on_cuda.cache_clear()
    yield
    backends._choice_on_cuda.cache_clear()


def test_triton_computes_on_cuda_even_where_no_card_is_at_hand():
    assert aea.chosen_backend(CUDA).name == "triton"
    assert aea.chosen_backend("cpu") == ("eager", "the kernels are for CUDA devices")
    with aea.use_backend("eager"):
        assert str(aea.chosen_backend(CUDA)) == "eager: use_backend asks for it"


def show_cards(monkeypatch, *capabilities):
    """Let PyTorch see cards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)


class Driver:
    """Stands for that of Triton, which is made when it is first asked for."""

    def __init__(self, error=None):
        self.error = error

    @property
    def active(self):
        if self.error is not None:
            raise self.error
        return SimpleNamespace(utils="built")


@pytest.mark.parametrize(
    ("capabilities", "name", "reason"),
    [
        ([(9, 0)], "triton", "sm_90, with Triton"),
        ([(7, 5)], "triton", "sm_75, with Triton"),
        ([(9, 0), (7, 0)], "eager", "a card here is sm_70, and the kernels need sm_75 or later"),
    ],
)
def test_an_old_card_gets_eager(monkeypatch, capabilities, name, reason):
    show_cards(monkeypatch, *capabilities)
    monkeypatch.setattr("triton.runtime.driver", Driver())
    choice = aea.chosen_backend(CUDA)
    assert choice.name == name
    assert choice.reason.startswith(reason)


def test_without_triton_and_on_other_makers_cards_eager_computes(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(backends, "find_spec", lambda name: None)
        assert "triton is not installed" in aea.chosen_backend(CUDA).reason
    backends._choice_on_cuda.cache_clear()
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert aea.chosen_backend(CUDA).name == "eager"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Failed to find C compiler.\nSet CC."), "Failed to find C compiler."),
        (RuntimeError("0 active drivers ([])."), "0 active drivers ([])."),
        (CalledProcessError(1, ["gcc"]), "Command '['gcc']' returned non-zero exit status 1."),
        (ImportError("libtriton.so: undefined symbol"), "libtriton.so: undefined symbol"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_where_triton_cannot_launch_kernels_eager_computes(monkeypatch, error, reason):
    show_cards(monkeypatch, (9, 0))
    monkeypatch.setattr("triton.runtime.driver", Driver(error))
    where = "Triton cannot launch kernels here, for which it needs a C compiler and Python.h"
    assert aea.chosen_backend(CUDA) == ("eager", f"{where}: {reason}")


def test_tritons_driver_is_left_alone_where_there_is_no_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("triton.runtime.driver", Driver(RuntimeError("asked for")))
    assert aea.chosen_backend(CUDA).name == "triton"
