"""The report: own and accumulated errors, before and after a training, its table, file and plot."""

import json
import math
import sys
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from aea_kernels.testing import (
    Group,
    Report,
    averaged_kernels,
    d4,
    equivariance_report,
    flips,
    scale,
    translations,
)
from aea_kernels.testing.axis_groups import AxisElement
from aea_kernels.testing.strategies import normal


@pytest.fixture
def network():
    layers = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 1, 3, padding=1),
    ]
    return nn.Sequential(*layers)


X = normal(2, 1, 16, 16, dtype=torch.float32).sigmoid()


def test_own_and_accumulated_errors_are_what_they_say(network):
    """Against the definition, by hand, in float64."""
    report = equivariance_report(network.eval(), X, flips)
    model, x = network.double().requires_grad_(False), X.double()

    def error(got, expected):
        return float((got - expected).abs().max() / expected.abs().max())

    before = model[:3](x)
    for place, axis in enumerate([2, 3]):
        own = error(model[3](before.flip(axis)), model[3](before).flip(axis))
        accumulated = error(model(x.flip(axis)), model(x).flip(axis))
        layer = report.layer(flips, "3")
        assert layer.own.elements[place].double.relative == pytest.approx(own, rel=1e-6)
        assert layer.accumulated.elements[place].double.relative == pytest.approx(
            accumulated, rel=1e-6
        )
        off, expected = model(x.flip(axis)) - model(x).flip(axis), model(x)
        decibels = 20 * math.log10(float(expected.norm() / off.norm()))
        assert layer.accumulated.elements[place].double.decibels == pytest.approx(
            decibels, rel=1e-6
        )


def test_the_model_stays_as_it_was(network):
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    equivariance_report(network, X, [d4, translations(2)])
    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(
        m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__
        for m in network.modules()
    )


def test_before_and_after_a_training(network):
    network = averaged_kernels(network, d4)
    before = equivariance_report(network.eval(), X, d4)
    assert not before.culprits(d4)

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (network.train()(X) - X.roll(1, 3)).square().mean().backward()
        optimizer.step()
    after = equivariance_report(network.eval(), X, d4)
    assert [layer.name for layer in after.culprits(d4)] == ["0", "3"]
    text = after.against(before)
    assert "rounding, now broken" in text or "exact, now broken" in text
    assert (
        len([line for line in text.splitlines() if line.startswith(("0 ", "1 ", "2 ", "3 "))]) == 4
    )


def test_the_table_names_every_layer_and_every_fault(network):
    report = equivariance_report(network.eval(), X, [d4, translations(2)], sizes=[8, 9])
    text = str(report)
    assert "evaluation mode" in text
    for line in (
        "rotations and flips: every one of the 2 sizes from 8 to 9 is legal",
        "no layer breaks it by itself",
    ):
        assert line in text
    assert "  '3' (Conv2d): its kernel is not symmetric under the" in text


def test_json_comes_back_as_it_was(network, tmp_path):
    report = equivariance_report(network.eval(), X, [d4, scale(2.0)], sizes=[8])
    report.save(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert saved["groups"][d4.name][0]["class"] == "Sequential"
    loaded = Report.load(tmp_path / "report.json")
    assert str(loaded) == str(report)
    assert loaded.to_dict() == report.to_dict()
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="is no report of equivariance_report"):
        Report.load(tmp_path / "report.json")


def test_one_plot_with_a_panel_for_each_group(network, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    report = equivariance_report(network.eval(), X, [d4, translations(2)])
    figure = report.plot()
    assert [axes.get_title() for axes in figure.axes] == list(report.layers)
    accumulated, own = figure.axes[0].get_lines()
    assert len(own.get_ydata()) == len(accumulated.get_ydata()) == len(report.layers[d4.name])
    drawn = [max(layer.own.error, 1e-17) for layer in report.layers[d4.name]]
    assert list(own.get_xdata()) == drawn
    assert figure.axes[0].yaxis_inverted()  # the first layer is at the top
    figure.savefig(tmp_path / "report.png")


def test_a_notebook_shows_the_tables_with_names_escaped():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<b>&", nn.Conv2d(1, 1, 3, padding=1))

        def forward(self, x):
            return self.get_submodule("<b>&")(x)

    report = equivariance_report(Network().eval(), X, [d4, flips])
    shown = ElementTree.fromstring(f"<div>{report._repr_html_()}</div>")
    tables = {table.findtext("caption"): table for table in shown.iter("table")}
    for group, layers in report.layers.items():
        names = [row[0].text for row in tables[group].iter("tr")]
        assert names == ["layer", *(layer.name or "(network)" for layer in layers)]
        assert "<b>&" in names
    assert shown.findtext("p") == str(report).splitlines()[0]
    culprits = [row[0].text for row in shown.iter("tr") if row[0].text.endswith("(Conv2d)")]
    assert culprits == ["'<b>&' (Conv2d)"] * 2


def test_a_plot_without_matplotlib_is_one_sentence(monkeypatch):
    report = equivariance_report(nn.Identity(), X, d4)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^a plot needs the package matplotlib: pip install"):
        report.plot()


def test_channels_may_be_as_many_as_rows_and_columns():
    """Then shapes do not tell (N, C, H, W) from (N, H, W, C): what made a tensor does."""

    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.act, self.down = (
                nn.LayerNorm(4),
                nn.Linear(4, 8),
                nn.GELU(),
                nn.Linear(8, 4),
            )

        def forward(self, x):
            return self.down(self.act(self.up(self.norm(x.permute(0, 2, 3, 1))))).permute(
                0, 3, 1, 2
            )

    network = nn.Sequential(nn.MaxPool2d(2), ChannelsLast())
    for dtype in (torch.float32, torch.float64):
        report = equivariance_report(network.to(dtype), torch.rand(1, 4, 8, 8, dtype=dtype), d4)
        assert not report.culprits(d4), str(report)


def test_a_module_that_is_called_twice_is_measured_twice():
    shared = nn.Conv2d(1, 1, 3, padding=1)
    report = equivariance_report(nn.Sequential(shared, nn.ReLU(), shared), X, flips)
    assert [layer.name for layer in report.culprits(flips)] == ["0", "0#2"]


class Raises(nn.Module):
    def forward(self, x):
        raise RuntimeError("not for this x")


class FallsBack(nn.Module):
    """`first` raises behind its first layer, and the network takes `second` in its place."""

    def __init__(self, second):
        super().__init__()
        self.first, self.second = nn.Sequential(nn.ReLU(), Raises()), second

    def forward(self, x):
        try:
            return self.first(x)
        except RuntimeError:
            return self.second(x)


def test_a_layer_that_raises_has_returned_nothing():
    """The others are as in a network without it."""
    second = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 3, padding=1))
    report = equivariance_report(FallsBack(second), X, flips)
    alone = equivariance_report(second, X, flips)
    assert [layer.name for layer in report.layers["flips"]] == [
        *("", "first.0", "second", "second.0", "second.1")
    ]
    for name in ("", "0", "1"):
        found = report.layer(flips, f"second.{name}" if name else "second")
        expected = alone.layer(flips, name)
        assert found.own.elements == expected.own.elements
        assert found.accumulated.elements == expected.accumulated.elements
        assert found.cause == expected.cause
    network = report.layer(flips, "")
    assert network.accumulated.elements == alone.layer(flips, "").accumulated.elements
    assert not network.own.verdict.fails


@dataclass(frozen=True)
class Flip(AxisElement):
    called: str = ""

    @property
    def name(self):
        return self.called


class NamedFlips(Group):
    name = "flips of our own"

    def __init__(self, *names):
        self.names = names

    def elements(self, shape, generator):
        return [Flip((0, 1), (1 - place,), name) for place, name in enumerate(self.names)]


@pytest.mark.parametrize("names", [("flip", "vertical flip"), ("vertical flip", "flip")])
def test_elements_whose_names_end_in_one_another(names):
    """The kernel is symmetric under the first alone, whatever the two are called."""
    layer = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(layer.weight + layer.weight.flip(3))
    (found,) = equivariance_report(layer, X, NamedFlips(*names)).layers["flips of our own"]
    assert found.own.worst.element == names[1]
    assert found.cause.startswith(f"its kernel is not symmetric under the {names[1]} (relative")
