"""The pytest plugin as a user has it: through its entry point, in a session of its own."""

import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest

TESTS = """
import pytest, torch
from torch import nn
from aea_kernels.testing import d4, permutations

def test_holds(equivariance):
    equivariance.assert_equivariant(nn.Conv2d(2, 2, 1), torch.rand(1, 2, 6, 6), permutations)

def test_fails(equivariance):
    equivariance.assert_equivariant(nn.Conv2d(2, 2, 3, padding=1), torch.rand(1, 2, 6, 6), d4)

def test_invariant(equivariance):
    equivariance.assert_invariant(nn.AdaptiveAvgPool2d(1), torch.rand(1, 2, 6, 6), permutations)

@pytest.mark.equivariance(tolerance=10.0, dtype="float64")
def test_marked(equivariance):
    network = nn.Conv2d(2, 2, 3, padding=1)
    errors = equivariance.assert_equivariant(network, torch.rand(1, 2, 6, 6), d4)
    assert str(errors.dtype) == "torch.float64"

def test_report(equivariance):
    network = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1))
    assert equivariance.report(network, torch.rand(1, 2, 6, 6), d4).culprits(d4)

def test_of_something_else():
    pass
"""


@pytest.fixture
def session(tmp_path, monkeypatch, capsys):
    """A session of pytest within this process, which has PyTorch already; what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*options, tests=TESTS):
        (tmp_path / "test_user.py").write_text(tests, encoding="utf-8")
        own = [
            "--rootdir",
            ".",
            "--import-mode",
            "importlib",
            "-p",
            "no:cacheprovider",
            "--junitxml",
            "junit.xml",
        ]
        sys.modules.pop("test_user", None)  # of an earlier session
        pytest.main([*own, *options])
        return capsys.readouterr().out

    return run


def properties(folder):
    cases = xml.parse(folder / "junit.xml").getroot().iter("testcase")
    return {
        c.get("name"): {p.get("name"): p.get("value") for p in c.iter("property")} for c in cases
    }


def test_fixture_marker_and_junit(session, tmp_path):
    ran = session("-m", "equivariance")
    assert "1 failed, 4 passed, 1 deselected" in ran
    assert "its kernel is not symmetric under the" in ran

    found = properties(tmp_path)
    assert found["test_holds"]["equivariance: permutations of the positions: verdict"] in (
        "exact",
        "rounding",
    )
    assert (
        float(found["test_fails"]["equivariance: rotations and flips: flip of axis 2: float64"])
        > 1e-3
    )
    assert (
        float(found["test_fails"]["equivariance: rotations and flips: flip of axis 2: float32"])
        > 1e-3
    )
    assert "equivariance: rotations and flips: flip of axis 2: float64" in found["test_marked"]
    assert found["test_report"]["equivariance: rotations and flips: layers at fault"] == "0"


def test_options_hold_for_the_session_and_the_marker_goes_before_them(session, tmp_path):
    ran = session(
        "--equivariance-tolerance",
        "10",
        "--equivariance-dtype",
        "bfloat16",
        "--equivariance-device",
        "cpu",
    )
    assert "6 passed" in ran
    assert any(name.endswith(": bfloat16") for name in properties(tmp_path)["test_holds"])
    assert not any(name.endswith(": bfloat16") for name in properties(tmp_path)["test_marked"])


def test_a_marker_that_is_misspelt_is_told(session):
    ran = session(
        tests="import pytest\n@pytest.mark.equivariance(tolerence=1)\n"
        "def test_it(equivariance): pass\n"
    )
    assert (
        "the marker equivariance takes tolerance, dtype and device by name, got ['tolerence']"
        in ran
    )


def test_a_session_without_symmetries_loads_no_torch(tmp_path):
    """In a process of its own."""
    (tmp_path / "test_user.py").write_text(
        "import sys\ndef test_it(): pass\nassert 'pytest_equivariance' in sys.modules\n"
        "assert 'torch' not in sys.modules\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 test collected" in ran.stdout, ran.stdout + ran.stderr
