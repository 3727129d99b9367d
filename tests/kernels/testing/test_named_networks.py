"""Networks by their names and in files, and the command without pytest."""

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from aea_kernels.testing import Report, acts, d4, equivariance_report, flips
from aea_kernels.testing.__main__ import main
from aea_kernels.testing.named import acts_of, groups_of, input_of, network_of


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 1)
        self.local = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())

    def forward(self, x):
        return self.local(self.first(x))


@pytest.fixture
def module(monkeypatch):
    module = ModuleType("some_networks")
    module.Network, module.made = Network, Network()
    monkeypatch.setitem(sys.modules, "some_networks", module)


@pytest.mark.usefixtures("module")
def test_a_class_a_network_and_a_module_within(monkeypatch):
    assert isinstance(network_of("some_networks:Network"), Network)
    assert network_of("some_networks:made") is sys.modules["some_networks"].made
    assert not network_of("torch.nn:Conv2d(1, 2, kernel_size=3)").training
    weights = [network_of("torch.nn:Conv2d(1, 2, 3)").weight for _ in range(2)]
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("text", "package", "factory"),
    [
        ("timm:resnet18(in_chans=1)", "timm", "create_model"),
        ("torchvision:resnet18(in_chans=1)", "torchvision.models", "get_model"),
        ("hf:some/where(in_chans=1)", "transformers", "AutoModel"),
    ],
)
def test_libraries_are_asked_for_their_networks(monkeypatch, text, package, factory):
    """Of packages that need not be there: what they are asked for."""

    def asked(name, **options):
        assert (name, options) == (text.partition(":")[2].partition("(")[0], {"in_chans": 1})
        return nn.Identity()

    library = ModuleType(package)
    library.CONFIG_MAPPING = {}
    setattr(
        library,
        factory,
        asked if package != "transformers" else SimpleNamespace(from_pretrained=asked),
    )
    monkeypatch.setitem(sys.modules, package.partition(".")[0], library)
    monkeypatch.setitem(sys.modules, package, library)
    assert isinstance(network_of(text), nn.Identity)


def test_a_library_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="no network 'timm:resnet18': "):
        network_of("timm:resnet18")


def test_groups_and_acts_as_one_writes_them():
    names = [
        group.name for group in groups_of("d4, translations(4), translations(2, circular=True)")
    ]
    assert names == ["rotations and flips", "translations by 4", "circular translations by 2"]
    assert acts_of("vector") == acts.vector()
    assert acts_of("vector(right, up)") == acts.vector("right", "up")
    assert acts_of("{'a': regular(d4), 'b': invariant}") == {
        "a": acts.regular(d4),
        "b": acts.invariant,
    }
    assert acts_of("(points, image)") == (acts.points(), acts.image)
    assert input_of("2,1,4,5").shape == (2, 1, 4, 5)


@pytest.mark.parametrize(
    "text",
    [
        "()",
        "permutations_of_patches(2.5)",
        "permutations_of_patches('a')",
        "scale('a')",
        "scale(1e400)",
        "translations(1e400)",
        "translations",
    ],
)
def test_groups_that_are_none_are_an_error_of_the_command(text, capsys):
    with pytest.raises(ValueError, match=re.escape(text)):
        groups_of(text)
    assert main(["torch.nn:ReLU", "--groups", text]) == 2
    assert text in capsys.readouterr().err


def culprits(network):
    report = equivariance_report(network, input_of("1,1,10,10"), flips)
    return [layer.name for layer in report.culprits(flips)]


def test_an_exported_program_names_its_layers(tmp_path):
    program = torch.export.export(Network().eval(), (torch.rand(1, 1, 10, 10),))
    torch.export.save(program, tmp_path / "network.pt2")
    assert culprits(network_of(str(tmp_path / "network.pt2"))) == ["local.0"]


def test_an_onnx_file_names_its_nodes(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: the extra export has it")
    path = tmp_path / "network.onnx"
    torch.onnx.export(Network().eval(), (torch.rand(1, 1, 10, 10),), path, verbose=False)
    network = network_of(str(path))
    x = torch.rand(1, 1, 10, 10)
    (name,) = culprits(network)
    assert type(network.get_submodule(name)).__name__ == "Conv"
    assert name == [step for step, *_ in network.steps][1]
    assert network(x).shape == (1, 4, 10, 10)


def chain(path, nodes):
    """A file of nodes in a row, each by its name, domain and operator."""
    onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    values = [f"value_{number}" for number in range(len(nodes) + 1)]
    steps = [
        onnx.helper.make_node(operator, [before], [after], name=name, domain=domain)
        for (name, domain, operator), before, after in zip(nodes, values, values[1:], strict=False)
    ]
    ends = [
        onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, [1, 1, 4, 4])
        for value in (values[0], values[-1])
    ]
    graph = onnx.helper.make_graph(steps, "chain", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return str(path)


NODES = {
    "alike": (
        ["a/b", "a.b", "a_b", "a_b_2", "/a/b/"],
        ["a_b", "a_b_2", "a_b_3", "a_b_2_2", "a_b_4"],
    ),
    "of attributes": (
        ["input", "outputs", "steps", "dtype", "forward", "training"],
        ["input_2", "outputs_2", "steps_2", "dtype_2", "forward_2", "training_2"],
    ),
    "without letters": (["", "/", ".", "//"], ["Abs_0", "Exp_1", "_", "Sin_3"]),
}


@pytest.mark.parametrize("case", NODES)
def test_every_node_of_an_onnx_file_has_a_name_of_its_own(case, tmp_path):
    """Against onnxruntime on the whole file."""
    names, expected = NODES[case]
    operators = ["Abs", "Exp", "Neg", "Sin", "Tanh", "Erf"]
    nodes = [(name, "", operator) for name, operator in zip(names, operators, strict=False)]
    path = chain(tmp_path / "network.onnx", nodes)
    network = network_of(path)
    assert [name for name, _ in network.named_children()] == expected

    x = torch.rand(1, 1, 4, 4)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (whole,) = session.run(None, {"value_0": x.numpy()})
    torch.testing.assert_close(network(x), torch.from_numpy(whole))
    report = equivariance_report(network, x, flips)
    assert [layer.name for layer in report.layers["flips"]] == ["", *expected]


def test_an_onnx_file_that_leaves_a_type_open(tmp_path, capsys):
    """Shape inference knows no operators of other domains than ONNX's own."""
    nodes = [("first", "com.microsoft", "Gelu"), ("next", "", "Relu")]
    path = chain(tmp_path / "network.onnx", nodes)
    message = f"{path} names no tensor type for the value 'value_1', which its node 'next' (Relu) "
    with pytest.raises(ValueError, match=re.escape(message)):
        network_of(path)
    assert main([path, "--input", "1,1,4,4"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("module")
def test_the_command(capsys, tmp_path):
    shape = ["--input", "1,1,8,8", "--groups", "flips"]
    assert main(["some_networks:Network", *shape, "--json", str(tmp_path / "found.json")]) == 1
    assert "'local.0' (Conv2d): its kernel is not symmetric" in capsys.readouterr().out
    assert [c.name for c in Report.load(tmp_path / "found.json").culprits(flips)] == ["local.0"]
    assert main(["torch.nn:ReLU", *shape]) == 0
    assert main(["torch.nn:Nothing", *shape]) == 2
    assert "no network 'torch.nn:Nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name", "reason"),
    [
        ("--json", "missing/found.json", "there is no folder"),
        ("--plot", "missing/found.png", "there is no folder"),
        ("--json", ".", "it is a folder"),
        ("--plot", "found.txt", "names no format of a plot, expected one of"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    option, name, reason, capsys, tmp_path
):
    path = tmp_path / name
    assert main(["no_such_module:network", option, str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path} " in error
    assert reason in error
    assert "no_such_module" not in error


@pytest.mark.usefixtures("module")
def test_a_file_that_is_lost_during_the_work(capsys, monkeypatch, tmp_path):
    """The report is printed, and the end is none of a broken symmetry."""

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(Report, "save", full)
    path = str(tmp_path / "found.json")
    shape = ["--input", "1,1,8,8", "--groups", "flips"]
    assert main(["some_networks:Network", *shape, "--json", path]) == 2
    printed = capsys.readouterr()
    assert "no space left on device" in printed.err
    assert "local.0" in printed.out


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("name", ["plot.png", "plot.PDF"])
def test_a_plot_is_written(name, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: the extra plots has it")
    shape = ["--input", "1,1,8,8", "--groups", "flips"]
    assert main(["some_networks:Network", *shape, "--plot", str(tmp_path / name)]) == 1
    assert (tmp_path / name).stat().st_size > 1000
