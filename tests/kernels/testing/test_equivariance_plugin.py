"""The pytest plugin as a user has it: through its entry point, in a session of its own."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest
import torch

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
        return "".join(capsys.readouterr())

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


MARKED = "import pytest, torch\n@pytest.mark.equivariance({})\ndef test_it(equivariance): pass\n"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("dtype='float99'", "has dtype='float99', expected one of float16, bfloat16"),
        ("dtype=torch.float64", "has dtype=torch.float64, expected one of float16"),
        ("tolerance='x'", "tolerance is 'x', expected a number of at least 0"),
        ("tolerance=-1", "tolerance is -1, expected a number of at least 0"),
        ("device='nowhere'", "there is no device 'nowhere' for symmetries"),
    ],
)
def test_a_value_of_the_marker_that_is_none_is_told(session, option, message):
    assert message in session(tests=MARKED.format(option))


CALLED = """
import torch
from aea_kernels.testing import d4
X = torch.rand(1, 2, 6, 6)
def test_it(equivariance):
    equivariance.{}
"""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("assert_equivariant(torch.relu, (X,), d4)", "x is tuple, expected a floating-point"),
        ("report(torch.nn.ReLU(), [X], d4)", "x is list, expected a floating-point"),
        ("assert_equivariant(torch.relu, X, 'd4')", "group is 'd4', expected a group"),
        ("assert_invariant(torch.relu, X, d4, tolerance=-1)", "tolerance is -1, expected a"),
    ],
)
def test_what_the_fixture_is_given_is_told(session, call, message):
    assert f"ValueError: {message}" in session(tests=CALLED.format(call))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device cuda")
@pytest.mark.parametrize("options", [[], ["--equivariance-model=torch.nn:ReLU"]])
def test_a_session_on_a_device_that_is_not_there(session, options):
    ran = session("--equivariance-device=cuda", *options)
    assert "ERROR: there is no device 'cuda' for symmetries" in ran
    assert "INTERNALERROR" not in ran
    assert "Traceback" not in ran


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


NETWORK = """
from torch import nn

def network(faulty=True, gain=1.0):
    local = nn.Conv2d(2, 2, 3, padding=1)
    layers = [nn.Conv2d(1, 2, 1), nn.ReLU(), local if faulty else nn.Tanh(), nn.Conv2d(2, 1, 1)]
    nn.init.normal_(local.weight, std=0.1 * gain)
    return nn.Sequential(*layers)
"""
NAME = "network_of_a_user:network"


@pytest.fixture
def named(session, tmp_path):
    """A session with a network named on its command line; without files, unless one is named."""
    (tmp_path / "network_of_a_user.py").write_text(NETWORK, encoding="utf-8")
    sys.modules.pop("network_of_a_user", None)

    def run(model, *options):
        shape = "--equivariance-input=1,1,8,8"
        return session(f"--equivariance-model={model}", shape, *options)

    return run


def test_a_named_network_is_tested_layer_by_layer(named, tmp_path):
    ran = named(NAME, "--equivariance-groups=flips", "--equivariance-json=found.json")
    assert "2 failed" in ran
    assert "no network" not in ran
    assert f"{NAME} [flips] (network)" in ran
    assert "The first layer that breaks it: '2' (Conv2d): its kernel is not symmetric" in ran

    found = {row["layer"]: row for row in json.loads((tmp_path / "found.json").read_text())}
    assert {name for name, row in found.items() if "complaint" in row} == {"", "2"}
    assert found["0"]["verdict"] in ("exact", "rounding")
    cases = properties(tmp_path)
    assert cases[f"{NAME} [flips] 2"]["equivariance: verdict"] == "broken"


def test_a_named_network_that_holds_and_files_beside_it(named):
    ran = named(f"{NAME}(faulty=False)", "-m", "equivariance", "test_user.py")
    assert "1 failed, 7 passed, 1 deselected" in ran


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("network_of_a_user:nothing", [], "has no attribute 'nothing'"),
        ("nothing", [], "expected MODULE:FACTORY"),
        (f"{NAME}(x)", [], "are no Python literals"),
        (NAME, ["--equivariance-groups=d5"], "d5 is unknown"),
        (NAME, ["--equivariance-groups=translations"], "one needs arguments"),
        (NAME, ["--equivariance-acts=d4()"], "an act is 'd4()'"),
        (NAME, ["--equivariance-input=1x1"], "expected its shape, as 1,3,64,64"),
        (NAME, ["--equivariance-acts=regular"], "acts has the function regular: call it"),
        (NAME, ["--equivariance-update"], "needs --equivariance-baseline=FILE"),
        (NAME, ["--equivariance-device=nowhere"], "there is no device 'nowhere' for symmetries"),
        (NAME, ["--equivariance-json=missing/x.json"], "there is no folder"),
        (NAME, ["--equivariance-tolerance=-1"], "'-1' is no number of at least 0"),
        (NAME, ["--equivariance-tolerance=nan"], "'nan' is no number of at least 0"),
    ],
)
def test_what_names_nothing_is_told(named, model, options, message):
    assert message in named(model, *options)


def test_errors_on_record(named, tmp_path, monkeypatch):
    """They may not grow beyond their spread, and what holds passes."""
    options = ["--equivariance-groups=flips", "--equivariance-baseline=errors.json"]
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert "has no record of it: --equivariance-update writes one" in named(NAME, *options)
    assert "4 passed" in named(NAME, *options, "--equivariance-update")
    recorded = json.loads((tmp_path / "errors.json").read_text())["errors"]
    assert len(recorded[f"{NAME} [flips] 2"]) == 3
    assert "4 passed" in named(NAME, *options)

    # a larger error than on record, of the same names
    larger = {name: [error / 2 for error in errors] for name, errors in recorded.items()}
    text = json.dumps({"format": 1, "errors": larger})
    (tmp_path / "errors.json").write_text(text, encoding="utf-8")
    ran = named(NAME, *options)
    assert "2 failed, 2 passed" in ran
    assert "the relative error has grown to" in ran
    assert "::error title=symmetry::the relative error has grown" in ran
    assert f"| {NAME} | flips | 2 |" in summary.read_text(encoding="utf-8")
    (tmp_path / "errors.json").write_text("[]", encoding="utf-8")
    assert "is no baseline of errors" in named(NAME, *options)


SEEDED = """
torch.manual_seed(0)
CONV = nn.Conv2d(2, 2, 3, padding=1)

"""


def test_an_assertion_on_record(session, tmp_path):
    options = ["-k", "test_fails", "--equivariance-baseline=errors.json"]
    tests = TESTS.replace("nn.Conv2d(2, 2, 3, padding=1), torch.rand(1", "CONV, torch.rand(1")
    tests = tests.replace("def test_holds", f"{SEEDED}def test_holds")
    assert "1 failed" in session(*options, tests=tests)
    assert "1 passed" in session(*options, "--equivariance-update", tests=tests)
    assert "1 passed" in session(*options, tests=tests)
    text = (tmp_path / "errors.json").read_text()
    assert "test_user.py::test_fails [rotations and flips]" in text


ONE_ELEMENT = """
import torch
from aea_kernels.testing import flips

def broken(x):
    # the flip of axis 3 alone brings 3.0 to the first place
    y = x.cumsum(2) + x.cumsum(3)
    return y * float("nan") if {nan} and x[0, 0, 0, 0] == 3 else y

def test_it(equivariance):
    equivariance.assert_equivariant(broken, torch.arange(16.0).view(1, 1, 4, 4), flips)
"""


def test_an_element_that_has_become_nan_fails_against_any_record(session, tmp_path):
    """As it does without a baseline, although the other element has not grown."""
    finite, nan = ONE_ELEMENT.format(nan=False), ONE_ELEMENT.format(nan=True)
    told = "under the flip of axis 3 the output is not finite"
    recorded, update = ["--equivariance-baseline=errors.json"], "--equivariance-update"
    assert told in session(tests=nan)
    assert "1 passed" in session(*recorded, update, tests=finite)
    assert "1 passed" in session(*recorded, tests=finite)
    before = (tmp_path / "errors.json").read_text()

    # neither compared nor recorded
    for options in (recorded, [*recorded, update]):
        ran = session(*options, tests=nan)
        assert "1 failed" in ran
        assert told in ran
    assert (tmp_path / "errors.json").read_text() == before


SLOPE = """
import torch
from torch import nn

class Slope(nn.Module):
    # off by a few rounding errors of whatever dtype it computes in
    def forward(self, x):
        return x * (1 + 8 * torch.finfo(x.dtype).eps * torch.arange(8, dtype=x.dtype))

def network():
    return nn.Sequential(nn.Conv2d(1, 1, 1), Slope())
"""


def test_a_tolerance_below_rounding(session, tmp_path):
    """A layer that exceeds it says so, and the network names that layer."""
    (tmp_path / "network_that_rounds.py").write_text(SLOPE, encoding="utf-8")
    named = ["--equivariance-model=network_that_rounds:network", "--equivariance-input=1,1,8,8"]
    options = [*named, "--equivariance-groups=flips", "--equivariance-json=found.json"]
    assert "3 passed" in session(*options)
    assert "2 failed, 1 passed" in session(*options, "--equivariance-tolerance=1e-15")
    rows = json.loads((tmp_path / "found.json").read_text())
    complaints = {row["layer"]: row["complaint"] for row in rows if "complaint" in row}

    gives = r"flip of axis 3 gives a relative error of \S+, which exceeds 1e-15"
    own = rf"'1' \(Slope\) breaks flips by itself: {gives}: its error is rounding"
    first = r"The first layer that breaks it: '1' \(Slope\): its error is rounding"
    assert complaints.keys() == {"", "1"}
    assert re.fullmatch(own, complaints["1"])
    assert re.fullmatch(rf"not equivariant to flips: {gives}\. {first}", complaints[""])
