"""Which versions of ptxas are warned of, on which cards; versions are faked."""

import warnings

import pytest
import torch

from aea_kernels.backends.triton import launching, versions


@pytest.fixture(autouse=True)
def backend():
    """None: nothing is computed."""


@pytest.fixture
def ptxas(monkeypatch):
    """Sets the version that Triton's ptxas says it has."""

    def fake(version: str) -> None:
        text = f"Cuda compilation tools, release {version[:4]}, V{version}\n"
        monkeypatch.setattr(
            "triton.backends.nvidia.compiler.get_ptxas_version", lambda architecture: text
        )
        versions.assembler.cache_clear()

    yield fake
    versions.assembler.cache_clear()


@pytest.mark.parametrize("version", ["12.8.93", "12.9.86", "13.1.80"])
def test_hopper_is_warned_of_a_ptxas_before_13_3(ptxas, version):
    ptxas(version)
    with pytest.warns(RuntimeWarning, match=f"^ptxas {version}, which builds kernels for sm_90"):
        versions.check(90)


@pytest.mark.parametrize(
    ("version", "architecture"),
    [("13.3.33", 90), ("14.0.1", 90), ("12.8.93", 80), ("12.8.93", 89), ("13.1.80", 100)],
)
def test_others_are_not(ptxas, version, architecture):
    ptxas(version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        versions.check(architecture)


def test_a_refused_version_raises(ptxas, monkeypatch):
    ptxas("12.8.93")
    refused = versions.FAULTS[0]._replace(refused=True)
    monkeypatch.setattr(versions, "FAULTS", (refused,))
    with pytest.raises(RuntimeError, match=r"set TRITON_PTXAS_PATH to a ptxas of CUDA 13\.3"):
        versions.check(90)


def test_a_version_that_cannot_be_told_is_passed_over(monkeypatch):
    monkeypatch.setattr("triton.backends.nvidia.compiler.get_ptxas_version", lambda _: "nothing")
    versions.assembler.cache_clear()
    assert versions.assembler(90) is None
    versions.check(90)
    versions.assembler.cache_clear()


def test_the_first_launch_on_a_card_checks_and_the_next_does_not(ptxas, monkeypatch):
    ptxas("12.8.93")
    seen = []
    monkeypatch.setattr(versions, "check", seen.append)

    class Properties:
        major, minor, multi_processor_count = 9, 0, 132

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: Properties)
    launching._properties.cache_clear()
    device = torch.device("cuda", 5)
    assert [launching.device_of(device) for _ in range(3)] == [(90, 132)] * 3
    assert seen == [90]
    launching._properties.cache_clear()
