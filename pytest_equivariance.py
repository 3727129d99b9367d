"""The pytest plugin of `aea_kernels.testing`: the fixture and the marker `equivariance`, their
options, and tests of a network that is named on the command line.

It is a module of its own, because importing anything from `aea_kernels` imports PyTorch, which a
test session that asks for no symmetry should not wait for.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aea_kernels.testing import Errors, Group, Report

DTYPES = ("float16", "bfloat16", "float32", "float64")
OPTIONS = ("tolerance", "dtype", "device")
"""Of the session, and of the marker, which overrides them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    # the bound on errors, for tests with the fixture and for a named network alike
    title = "symmetries of networks, with the fixture `equivariance`"
    group = parser.getgroup("equivariance", title)
    passes = "largest relative error that passes; by default whatever is rounding"
    group.addoption("--equivariance-tolerance", type=_tolerance, metavar="ERROR", help=passes)

    # where it is measured, and in which precision
    place = "of model and input; by default that of the input"
    group.addoption("--equivariance-dtype", choices=DTYPES, help=place)
    group.addoption("--equivariance-device", metavar="DEVICE", help=place)

    # a network without a test file: what a test would say, as options
    named = "a test for each group and layer of this network, and no files if none are named: "
    kinds = "MODULE:FACTORY[(ARGS)], timm:NAME, monai:NAME, torchvision:NAME, hf:NAME, "
    model = f"{named}{kinds}FILE.pt2 or FILE.onnx"
    group.addoption("--equivariance-model", metavar="MODEL", help=model)
    shape = "of its input, 1,3,64,64 by default"
    group.addoption("--equivariance-input", default="1,3,64,64", metavar="SHAPE", help=shape)
    groups = "as d4,translations(4); d4 by default"
    group.addoption("--equivariance-groups", default="d4", metavar="GROUPS", help=groups)
    acts = "how its output transforms, as vector or regular(d4); what is not said is tried"
    group.addoption("--equivariance-acts", metavar="ACTS", help=acts)
    group.addoption("--equivariance-json", metavar="FILE", help="write there what was found")

    # for networks whose errors are not zero, and should not grow
    baseline = "errors on record: a larger one fails, a broken symmetry as large as before does not"
    group.addoption("--equivariance-baseline", metavar="FILE", help=baseline)
    update = "write the baseline"
    group.addoption("--equivariance-update", action="store_true", help=update)


def _tolerance(text: str) -> float:
    """The number that `text` is. Raises ArgumentTypeError where it is none of at least 0."""
    with suppress(ValueError):
        if float(text) >= 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # pytest refuses unknown markers under --strict-markers
    config.addinivalue_line(
        "markers",
        "equivariance(tolerance=None, dtype=None, device=None): a test of symmetries, which "
        "overrides the options of these names; every test with the fixture `equivariance` has it, "
        "so that `-m equivariance` selects them",
    )

    # what is wrong for every test ends the session before the first
    model, baseline, update = (
        config.getoption(f"equivariance_{name}") for name in ("model", "baseline", "update")
    )
    if update and not baseline:
        raise pytest.UsageError("--equivariance-update needs --equivariance-baseline=FILE")
    device = config.getoption("equivariance_device")
    if device is not None:
        _require_device(device)

    # a session that needs neither is not to wait for the import of PyTorch
    if not model and not baseline:
        return
    from aea_kernels.testing.items import Session

    # tests of a group share a report and thus a process; the marker is that of pytest-xdist
    config.pluginmanager.register(Session(config), "equivariance-session")
    config.addinivalue_line("markers", "xdist_group(name): tests that share a process")

    # pytest would otherwise collect its `testpaths` or the current folder, too
    nothing_named = config.args_source is not pytest.Config.ArgsSource.ARGS
    if model and nothing_named:
        config.args = []


def _require_device(name: str) -> None:
    """Raise UsageError where there is no such device."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise pytest.UsageError(f"there is no device {name!r} for symmetries: {reason}") from error


def pytest_itemcollected(item: pytest.Item) -> None:
    if (
        "equivariance" in getattr(item, "fixturenames", ())
        and item.get_closest_marker("equivariance") is None
    ):
        item.add_marker(pytest.mark.equivariance)


@pytest.fixture
def equivariance(request: pytest.FixtureRequest) -> Equivariance:
    """Assertions and reports of symmetries under the session's options; their errors become JUnit
    properties.
    """
    marker = request.node.get_closest_marker("equivariance")
    options = {name: request.config.getoption(f"equivariance_{name}") for name in OPTIONS}
    if marker is not None:
        unknown = [*marker.args, *sorted(set(marker.kwargs) - set(OPTIONS))]
        if unknown:
            raise pytest.UsageError(
                f"the marker equivariance takes tolerance, dtype and device by name, got {unknown}"
            )
        _require_options(marker.kwargs)
        options |= marker.kwargs
    return Equivariance(request.node, **options)


def _require_options(options: dict[str, Any]) -> None:
    """Raise UsageError where an option of the marker has a value that it cannot have."""
    from aea_kernels.testing.checks import require_tolerance

    try:
        require_tolerance(options.get("tolerance"))
    except ValueError as error:
        raise pytest.UsageError(f"the marker equivariance: {error}") from error
    dtype = options.get("dtype")
    if dtype not in (None, *DTYPES):
        raise pytest.UsageError(
            f"the marker equivariance has dtype={dtype!r}, expected one of {', '.join(DTYPES)}"
        )
    if options.get("device") is not None:
        _require_device(options["device"])


class Equivariance:
    """What the fixture `equivariance` gives to a test.

    Attributes:
        tolerance, dtype, device: of the marker, else of the command line, else None, which leaves
            things as they are.
    """

    def __init__(
        self,
        item: pytest.Item,
        *,
        tolerance: float | None,
        dtype: str | None,
        device: str | None,
    ) -> None:
        self.tolerance, self.dtype, self.device = tolerance, dtype, device
        self._item = item

    def assert_equivariant(
        self,
        fn: Callable[..., Any],
        x: Tensor,
        group: Group,
        *,
        tolerance: float | None = None,
        **options: Any,
    ) -> Errors:
        """`aea_kernels.testing.assert_equivariant`, a tolerance given here before that of marker
        and command line.
        """
        return self._require(fn, x, group, tolerance, invariant=False, **options)

    def assert_invariant(
        self,
        fn: Callable[..., Any],
        x: Tensor,
        group: Group,
        *,
        tolerance: float | None = None,
        **options: Any,
    ) -> Errors:
        """`aea_kernels.testing.assert_invariant`, likewise."""
        return self._require(fn, x, group, tolerance, invariant=True, **options)

    def report(
        self, model: nn.Module, x: Tensor, groups: Group | Sequence[Group], **options: Any
    ) -> Report:
        """`aea_kernels.testing.equivariance_report`; of each group, the network's error and the
        layers at fault.
        """
        from aea_kernels.testing import equivariance_report

        moved, x = self._placed(model, x)
        found = equivariance_report(moved, x, groups, **options)
        for group, layers in found.layers.items():
            self._record(f"{group}: error", f"{layers[0].accumulated.error:.3g}")
            culprits = ", ".join(layer.name for layer in found.culprits(group))
            self._record(f"{group}: layers at fault", culprits)
        return found

    def _require(
        self,
        fn: Callable[..., Any],
        x: Tensor,
        group: Group,
        tolerance: float | None,
        *,
        invariant: bool,
        **options: Any,
    ) -> Errors:
        from aea_kernels.testing import assertions, checks, equivariance_error

        # every error goes into the JUnit file, whether the test passes or not
        checks.require_tolerance(tolerance)
        fn, x = self._placed(fn, x)
        errors = equivariance_error(fn, x, group, invariant=invariant, **options)
        working = str(x.dtype).removeprefix("torch.")
        for found in errors.elements:
            for precision, measured in ((working, found.working), ("float64", found.double)):
                if measured is not None:
                    name = f"{errors.group}: {found.element}: {precision}"
                    self._record(name, f"{measured.relative:.3g}")
        self._record(f"{errors.group}: verdict", str(errors.verdict))

        # the test's own tolerance goes before that of marker and command line
        tolerance = self.tolerance if tolerance is None else tolerance
        what = "invariant" if invariant else "equivariant"
        if not self._as_before(errors):
            assertions.require(errors, fn, x, group, what, tolerance, options.get("acts"))
        return errors

    def _as_before(self, errors: Errors) -> bool:
        """Whether the session has a baseline, and the errors are no larger than those in it, or
        recorded now.
        """
        # what holds needs no record
        config = self._item.config
        if not config.getoption("equivariance_baseline") or not errors.verdict.fails:
            return False

        # an element without a number has none to compare: no record makes up for it
        numbers = [e.error for e in errors.elements]
        if not all(map(math.isfinite, numbers)):
            return False
        from aea_kernels.testing.items import BASELINE, RECORD

        # one record for a test and a group, the worst of its elements against it
        baseline, name = config.stash[BASELINE], f"{self._item.nodeid} [{errors.group}]"
        if baseline.update:
            self._item.stash.setdefault(RECORD, {})[name] = numbers
            return True
        complaint = baseline.complaint(name, max(numbers))
        if complaint:
            pytest.fail(f"{errors.group}: {complaint}", pytrace=False)
        return True

    def _placed(self, fn: Any, x: Tensor) -> tuple[Any, Tensor]:
        """fn, a copy where it is a module that has to move, and x, of the wanted dtype and on the
        wanted device.
        """
        import copy

        import torch

        if not isinstance(x, torch.Tensor):
            return fn, x  # the measurement says what is wrong with it
        dtype = x.dtype if self.dtype is None else getattr(torch, self.dtype)
        device = x.device if self.device is None else torch.device(self.device)
        if isinstance(fn, torch.nn.Module) and (self.dtype is not None or self.device is not None):
            fn = copy.deepcopy(fn).to(device, dtype)
        return fn, x.to(device, dtype)

    def _record(self, name: str, value: str) -> None:
        self._item.user_properties.append((f"equivariance: {name}", value))
