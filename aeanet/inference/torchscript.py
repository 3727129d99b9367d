"""Exported programs as TorchScript, for programs that run PyTorch's models without Python."""

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from aeanet.io.quiet import quietly


def torchscript_model(program: ExportedProgram) -> bytes:
    """The TorchScript file of a program that has one input and one output (`plain_program`)."""
    # a copy: the program may give other files too
    holder, graph = nn.Module(), copy.deepcopy(program.graph)
    _hold_tensors(program, holder, graph)

    # TorchScript knows operators by their names, without the overload.
    aten = torch.ops.aten
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target is aten.sym_size.int:
            node.target = aten.size
        elif node.target is aten.view.default:  # the image need not be contiguous
            node.target = aten.reshape
        elif isinstance(node.target, torch._ops.OpOverload):
            node.target = node.target.overloadpacket

    # The program returns a tuple.
    output = graph.output_node()
    output.args = output.args[0]
    graph.set_codegen(fx.graph.CodeGen())
    file = io.BytesIO()
    with quietly("torch"):
        torch.jit.save(torch.jit.script(fx.GraphModule(holder, graph).eval()), file)
    return file.getvalue()


def _hold_tensors(program: ExportedProgram, holder: nn.Module, graph: fx.Graph) -> None:
    """Keep the weights and constants that a graph is given as tensors of a module."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    tensors: dict[str, Any] = {**program.constants, **program.state_dict}
    for node, spec in zip(inputs, program.graph_signature.input_specs, strict=True):
        node.type = None
        if spec.kind is InputKind.USER_INPUT:
            continue
        holder.register_buffer(node.name, tensors[str(spec.target)].detach().clone())
        with graph.inserting_before(node):
            held = graph.get_attr(node.name)
        node.replace_all_uses_with(held)
        graph.erase_node(node)


def torchscript_runner(content: bytes) -> Callable[[NDArray], NDArray]:
    """Runs a TorchScript file on images (N, 1, H, W), on the CPU."""
    with quietly("torch"):
        module = torch.jit.load(io.BytesIO(content), map_location="cpu")

    def run(image: NDArray) -> NDArray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(image)))

    return run
