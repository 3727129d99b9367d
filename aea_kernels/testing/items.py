"""Tests of a network that is named on pytest's command line: one for each group and layer.

`pytest_equivariance` loads this only where `--equivariance-model` or `--equivariance-baseline` is
given.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from .baseline import Baseline
from .checks import require_place
from .errors import UnmeasurableError, Verdict
from .named import acts_of, groups_of, input_of, network_of
from .report import Report, equivariance_report
from .results import Errors, Layer
from .symmetry import Group

INPUTS = 3
"""How many inputs a baseline is recorded on."""

WITHOUT_WEIGHTS = (
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.LeakyReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
)
"""Layers that act at each position by itself, or only hold others."""


def matters(module: nn.Module) -> bool:
    """Whether a layer may break a symmetry by itself: it has weights, or no layers and more to do
    than an activation.
    """
    own = any(True for _ in module.parameters(recurse=False))
    return own or (not any(module.children()) and not isinstance(module, WITHOUT_WEIGHTS))


class NamedNetwork:
    """A network, the input and the groups of a session.

    Raises:
        pytest.UsageError: an option names nothing.
    """

    def __init__(self, config: pytest.Config) -> None:
        def option(name: str) -> Any:
            return config.getoption(f"equivariance_{name}")

        # an option that names nothing ends the session before the first test
        try:
            self.name: str = option("model")
            self.network = network_of(self.name)
            self.groups = groups_of(option("groups"))
            self.acts = acts_of(option("acts")) if option("acts") else None
            self.shape = option("input")
            input_of(self.shape)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error

        # network and input are of one device and dtype
        self.tolerance: float | None = option("tolerance")
        self.place = option("device") or "cpu", getattr(torch, option("dtype") or "float32")
        self.network.to(*self.place)
        self._reports: dict[tuple[str, int], Report | str] = {}

    @cached_property
    def layers(self) -> list[str]:
        """The names of those that get a test, "" first for the network."""
        return [name for name, part in self.network.named_modules() if not name or matters(part)]

    def report(self, group: Group, seed: int = 0) -> Report:
        """The report on one group. Raises UnmeasurableError or ValueError."""
        # one report serves the tests of all layers, so a failure is kept as well
        key = group.name, seed
        if key not in self._reports:
            x = input_of(self.shape, seed).to(*self.place)
            try:
                with torch.no_grad():
                    found = equivariance_report(self.network, x, group, acts=self.acts, seed=seed)
                self._reports[key] = found
            except ValueError as error:
                self._reports[key] = str(error)

        # each test raises the sentence as an error of its own
        report = self._reports[key]
        if isinstance(report, str):
            raise UnmeasurableError(report)
        return report


class LayerItem(pytest.Item):
    """One layer, or the whole network, under one group."""

    def __init__(self, *, named: NamedNetwork, group: Group, layer: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.named, self.group, self.layer = named, group, layer
        self.add_marker(pytest.mark.equivariance)
        self.add_marker(pytest.mark.xdist_group(f"{named.name} {group.name}"))

    def runtest(self) -> None:
        # the tables belong to the test of the network, so a group has them once
        report = self.named.report(self.group)
        if not self.layer:
            self.add_report_section("call", "symmetries", str(report))

        # of several calls of a layer the worst counts
        layer = self._worst_call(report)
        title = self.layer or "the network"
        if layer is None:
            # the network does not run this layer on its example, so nothing of it can be measured
            pytest.skip(f"{title} is not called")

        # kept for JSON, which has no infinity and no NaN
        errors = self._errors(layer)
        worst = errors.worst
        found = self.stash[FOUND] = {
            "model": self.named.name,
            "group": self.group.name,
            "layer": self.layer,
            "error": worst.error if math.isfinite(worst.error) else None,
            "verdict": str(worst.verdict),
            "acts": errors.acts,
            "cause": layer.cause,
        }
        for name in ("error", "verdict"):
            self.user_properties.append((f"equivariance: {name}", str(found[name])))

        # a complaint fails the test; without one it passes if something was measured
        complaint = self._complaint(report, layer)
        if complaint:
            found["complaint"] = complaint
            raise BrokenSymmetry(complaint)
        if worst.verdict is Verdict.UNMEASURED:
            # neither right nor wrong: a pass would claim a symmetry that no number shows
            pytest.skip(f"{title} is not measured: {worst.reason}")

    def _worst_call(self, report: Report) -> Layer | None:
        """The layer's worst call, None where it is not called; of the network the first."""
        if not self.layer:
            return report.layer(self.group, "")
        calls = [
            layer
            for layer in report.layers[self.group.name]
            if layer.name.partition("#")[0] == self.layer
        ]
        return max(calls, key=lambda c: (c.own.verdict.fails, c.own.error), default=None)

    def _errors(self, layer: Layer) -> Errors:
        """A layer's own; those that have accumulated where the network is tested."""
        return layer.own if self.layer else layer.accumulated

    def _complaint(self, report: Report, layer: Layer) -> str:
        # without a number there is nothing to compare, with a record or with a tolerance
        errors = self._errors(layer)
        worst, broken = errors.worst, self._is_broken(errors)
        measured = math.isfinite(worst.error)
        baseline = self.config.stash.get(BASELINE, None) if measured else None
        tolerance = self.named.tolerance if measured else None

        # recorded whether it is broken or not: later runs compare with it
        if baseline is not None and baseline.update:
            self.stash[RECORD] = {self.nodeid: self._on_several_inputs()}
            return ""

        # what is broken passes while it has not grown beyond the record
        if not broken:
            return ""
        if baseline is not None:
            grown = baseline.complaint(self.nodeid, worst.error)
            return f"{grown}. {self._first(report)}" if grown else ""

        # a layer answers for its own error; of the network the first layer at fault is named
        what = worst.reason or f"{worst.element} gives a relative error of {worst.error:.2g}"
        if tolerance is not None:
            what += f", which exceeds {tolerance:.2g}"
        if self.layer:
            return f"{layer.title} breaks {self.group.name} by itself: {what}: {_cause(layer)}"
        return f"not equivariant to {self.group.name}: {what}. {self._first(report)}"

    def _is_broken(self, errors: Errors) -> bool:
        """By the tolerance in place of the verdict, where there is one and a number to compare."""
        worst, tolerance = errors.worst, self.named.tolerance
        if tolerance is not None and math.isfinite(worst.error):
            return worst.error > tolerance
        return worst.verdict.fails

    def _on_several_inputs(self) -> list[float]:
        found = []
        for seed in range(INPUTS):
            layer = self._worst_call(self.named.report(self.group, seed))
            if layer is not None and math.isfinite(self._errors(layer).error):
                found.append(self._errors(layer).error)
        return found

    def _first(self, report: Report) -> str:
        # as their tests judge them; errors that each pass by the tolerance may still add up
        broken = [c for c in report.layers[self.group.name] if self._is_broken(c.own)]
        culprits = broken or report.culprits(self.group)
        if not culprits:
            return "No layer breaks it by itself"
        return f"The first layer that breaks it: {culprits[0].title}: {_cause(culprits[0])}"

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, BrokenSymmetry | UnmeasurableError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _cause(layer: Layer) -> str:
    """Of its own error, which a tolerance may refuse although the verdict finds no fault in it."""
    return layer.cause or f"its error is {layer.own.verdict}"


class BrokenSymmetry(AssertionError):
    """What an item found."""


BASELINE = pytest.StashKey[Baseline]()
FOUND = pytest.StashKey[dict[str, Any]]()
"""What an item of a named network found."""
RECORD = pytest.StashKey[dict[str, list[float]]]()
"""What a test adds to the baseline."""


class Session:
    """The hooks of a session whose options name a network or a baseline."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.found: list[dict[str, Any]] = []

        # files are written at the end: that they can be is known before the first test
        path, update = (config.getoption(f"equivariance_{n}") for n in ("baseline", "update"))
        written = [config.getoption("equivariance_json"), path if update else None]
        try:
            for name in written:
                if name:
                    require_place(self._path(name))
            if path:
                config.stash[BASELINE] = Baseline(self._path(path), update=update)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error

        # with pytest-xdist the main process alone writes, from what the others report
        self.baseline = config.stash.get(BASELINE, None)
        self.is_worker = hasattr(config, "workerinput")

    def _path(self, name: str) -> Path:
        return self.config.invocation_params.dir / name

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        if not self.config.getoption("equivariance_model"):
            return
        named = NamedNetwork(self.config)
        several = []
        for group in named.groups:
            for layer in named.layers:
                name = f"{named.name} [{group.name}] {layer or '(network)'}"
                rest = {"name": name, "nodeid": name, "named": named}
                several.append(LayerItem.from_parent(session, group=group, layer=layer, **rest))
        items[:0] = several

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, Any]:
        report = yield
        if call.when == "call":
            # as attributes of the report they come from the processes of pytest-xdist, too
            report.symmetry = item.stash.get(FOUND, None)
            report.symmetry_record = item.stash.get(RECORD, {})
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = getattr(report, "symmetry", None)
        self.found += [found] if found else []
        if self.baseline is not None:
            self.baseline.errors |= getattr(report, "symmetry_record", {})

    def pytest_sessionfinish(self) -> None:
        if self.is_worker:
            return
        path = self.config.getoption("equivariance_json")
        if path:
            text = json.dumps(self.found, indent=1, allow_nan=False)
            self._path(path).write_text(text + "\n", encoding="utf-8")
        if self.baseline is not None and self.baseline.update:
            self.baseline.save()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Annotations and a summary, where GitHub runs the session."""
        if not os.environ.get("GITHUB_ACTIONS"):
            return
        for found in self.found:
            if "complaint" in found:
                message = found["complaint"].replace("%", "%25")
                terminalreporter.write_line(f"::error title=symmetry::{message}")
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary and self.found:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown(self.found))


def markdown(found: list[dict[str, Any]]) -> str:
    """A table of what the items found."""
    lines = ["| network | group | layer | relative error | |", "|---|---|---|---|---|"]
    for row in found:
        error = "" if row["error"] is None else f"{row['error']:.2g}"
        verdict = f"**{row['verdict']}**" if "complaint" in row else row["verdict"]
        name = row["layer"] or "(network)"
        lines.append(f"| {row['model']} | {row['group']} | {name} | {error} | {verdict} |")
    return "\n".join(lines) + "\n"
