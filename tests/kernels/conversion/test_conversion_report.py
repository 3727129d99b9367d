"""`aea.convert` on whole networks: what it finds, says, checks and takes back."""

import copy
import pickle
from xml.etree import ElementTree

import originals_nonlocal as originals
import pytest
import torch
from equality import randomised
from torch import nn

import aea_kernels as aea


class Network(nn.Module):
    """Attention of every kind of answer: replaced twice, one softmax, one unknown, one twice in the
    network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.attend = originals.NONLocalBlock2D(4)
        self.inner = nn.ModuleDict(
            {"softmax": originals.Softmax2D(4), "again": originals.NONLocalBlock2D(4)}
        )
        self.inner["same"] = self.inner["again"]
        self.other = nn.MultiheadAttention(4, 1)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x, scale=1.0):
        x = self.attend(self.first(x) * scale)
        x = self.inner["same"](self.inner["again"](self.inner["softmax"](x)))
        tokens = x.flatten(2).permute(2, 0, 1)
        return self.last(
            x + self.other(tokens, tokens, tokens)[0].permute(1, 2, 0).unflatten(2, x.shape[2:])
        )


@pytest.fixture
def network() -> nn.Module:
    return randomised(Network()).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 1, 6, 8, dtype=torch.float64)


def test_every_module_is_reported_in_a_table(network: nn.Module) -> None:
    report = aea.convert(network)
    found = {entry.path: (entry.class_name, entry.result) for entry in report.modules}
    assert found == {
        "attend": ("NONLocalBlock2D", "exact"),
        "inner.softmax": ("Softmax2D", "left alone"),
        "inner.again": ("NONLocalBlock2D", "exact"),
        "other": ("MultiheadAttention", "left alone"),
    }
    lines = str(report).splitlines()
    assert len(lines) == 5
    assert lines[0].split() == ["module", "class", "result", "why"]
    for column in ("class", "result", "why"):
        start = lines[0].index(column)
        assert all(line[start - 2 : start] == "  " and line[start] != " " for line in lines)


def test_results_stay_and_revert_gives_back_the_originals(
    network: nn.Module, x: torch.Tensor
) -> None:
    expected, classes = network(x), [type(m) for m in network.modules()]
    identities = [id(m) for m in network.modules()]
    report = aea.convert(network)
    assert isinstance(network.attend, originals.NONLocalBlock2D)
    assert type(network.attend) is not originals.NONLocalBlock2D
    assert [id(m) for m in network.modules()] == identities
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-10)

    # a second revert changes nothing
    for _ in range(2):
        report.revert()
        assert [type(m) for m in network.modules()] == classes
        assert torch.equal(network(x), expected)
        assert "reverted" in str(report)
    report.apply()
    assert "reverted" not in str(report)
    assert type(network.attend) is not originals.NONLocalBlock2D


def test_the_root_itself_is_replaced() -> None:
    block = randomised(originals.NONLocalBlock2D(4))
    report = aea.convert(block)
    assert [entry.path for entry in report.replaced] == [""]
    assert str(report).splitlines()[1].startswith("(root)  NONLocalBlock2D  exact")
    assert report.check(torch.randn(1, 4, 5, 6, dtype=torch.float64)) < 1e-12


def test_converting_again_finds_nothing_new(network: nn.Module) -> None:
    aea.convert(network)
    again = aea.convert(network, strict=False)
    assert again.replaced == ()
    assert [e.why for e in again.modules if e.path == "attend"] == ["it is this library's already"]


class SABlock(nn.Module):
    """Of another version than the one that is known: it lacks what that has."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.drop_weights, self.use_combined_linear = 2, nn.Dropout(0.0), True
        self.qkv, self.out_proj = nn.Linear(4, 12), nn.Linear(4, 4)


class XCA(nn.Module):
    """Of the same name and parts, but of others' kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.num_heads, self.temperature = nn.Identity(), nn.Identity(), 1, 1.0


@pytest.mark.parametrize(("make", "package"), [(SABlock, "MONAI"), (XCA, "XCiT, timm")])
@pytest.mark.parametrize("retrain", [False, True])
def test_a_block_of_another_version_is_left_alone(
    make: type[nn.Module], package: str, retrain: bool
) -> None:
    (entry,) = aea.convert(nn.Sequential(make()), retrain=retrain, strict=False).modules
    assert entry.result == "left alone"
    assert entry.why.startswith(f"its parts are not those of {package}'s block: ")


def test_the_filter_decides(network: nn.Module) -> None:
    report = aea.convert(network, filter=lambda path, module: path != "attend")
    assert [entry.path for entry in report.replaced] == ["inner.again"]
    assert [entry.why for entry in report.modules if entry.path == "attend"] == [
        "the filter said no"
    ]


def test_nothing_found_is_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    with pytest.raises(
        ValueError, match="nothing in Sequential was replaced: it has no module that looks like"
    ):
        aea.convert(network)
    report = aea.convert(network, strict=False)
    assert report.modules == ()
    assert str(report) == "Sequential has no module that looks like attention."
    assert str(report) in report._repr_html_()
    with pytest.raises(
        TypeError, match=r"model is a builtin_function_or_method, expected a torch\.nn\.Module"
    ):
        aea.convert(len)


@pytest.mark.parametrize("inputs", ["tensor", "tuple", "mapping"])
def test_check_compares_on_real_inputs(network: nn.Module, x: torch.Tensor, inputs: str) -> None:
    report = aea.convert(network.train())
    statistics = copy.deepcopy(network.state_dict())
    given = {"tensor": x, "tuple": (x, 2.0), "mapping": {"x": x, "scale": 2.0}}[inputs]
    assert report.check(given) < 1e-12
    assert network.training
    assert all(torch.equal(t, statistics[name]) for name, t in network.state_dict().items())


def test_no_generator_of_random_numbers_is_moved(
    network: nn.Module, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.manual_seed` also seeds GPUs, and those that are first used later."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    aea.convert(network).check(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded == []


def test_check_names_the_worst(
    network: nn.Module, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = aea.convert(network.float())
    right = type(network.attend).forward

    def wrong(self, x):
        return right(self, x) * (1 + 1e-3 * (self is network.attend) + 1e-4)

    monkeypatch.setattr(type(network.attend).__bases__[0], "forward", wrong)
    with pytest.raises(
        ValueError, match=r"^attend deviates by 1\.\d?e-03 from its original, more than 1e-09"
    ):
        report.check(x.float())
    assert report.check(x.float(), tolerance=1e-2) > 1e-3


def test_check_says_what_did_not_run(network: nn.Module, x: torch.Tensor) -> None:
    report = aea.convert(network)
    network.forward = lambda x: network.attend(network.first(x))
    with pytest.raises(ValueError, match=r"^inner\.again did not run"):
        report.check(x)
    report.revert()
    with pytest.raises(ValueError, match="nothing to check"):
        report.check(x)


def test_copies_and_pickles_stay_converted(network: nn.Module, x: torch.Tensor) -> None:
    aea.convert(network)
    expected = network(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert type(other.attend) is type(network.attend)
        assert other.attend is not network.attend
        assert torch.equal(other(x), expected)


def test_the_state_has_the_names_of_the_original(network: nn.Module, x: torch.Tensor) -> None:
    fresh, expected = Network().double().eval(), network(x)
    aea.convert(fresh)
    fresh.load_state_dict(network.state_dict())
    torch.testing.assert_close(fresh(x), expected, rtol=1e-10, atol=1e-10)
    back = Network().double().eval()
    back.load_state_dict(fresh.state_dict())
    assert torch.equal(back(x), expected)


def test_an_optimiser_and_hooks_from_before_still_hold(network: nn.Module, x: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    seen = []
    network.attend.register_forward_hook(lambda *_: seen.append(1))
    aea.convert(network)
    before = network.attend.theta.weight.clone()
    network(x).square().sum().backward()
    optimiser.step()
    assert seen == [1]
    assert not torch.equal(network.attend.theta.weight, before)


def test_a_notebook_shows_the_table_with_names_escaped(network: nn.Module) -> None:
    network.inner["<b>&"] = network.inner.pop("softmax")
    report = aea.convert(network)
    rows = [
        [cell.text for cell in row]
        for row in ElementTree.fromstring(report._repr_html_()).iter("tr")
    ]
    assert rows[0] == ["module", "class", "result", "why"]
    expected = [[e.path, e.class_name, e.result, e.why] for e in report.modules]
    assert rows[1:] == expected
    assert "inner.<b>&" in [row[0] for row in rows]
    report.revert()
    assert "All of this is reverted" in report._repr_html_()


def test_a_plot_has_a_bar_for_each_module_as_long_as_its_parameters(network: nn.Module) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    sizes = {
        path: sum(parameter.numel() for parameter in network.get_submodule(path).parameters())
        for path in ("attend", "inner.softmax", "inner.again", "other")
    }
    figure = aea.convert(network).plot()
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    bars = axes.containers[0]
    assert {name: bar.get_width() for name, bar in zip(names, bars, strict=True)} == sizes
    exact, left_alone = bars[names.index("attend")], bars[names.index("other")]
    assert exact.get_facecolor() != left_alone.get_facecolor()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"exact", "left alone"}
