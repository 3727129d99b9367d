"""An ONNX file as a network of one layer for each of its nodes, so that a report can name them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn


class OnnxNode(nn.Module):
    """One node, computed by onnxruntime; its class in reports is the operator.

    Args:
        model: the node as a model of its own, its weights within.
        weights: the same weights, which say how much it sums.
    """

    def __init__(self, model: bytes, weights: list[Tensor]) -> None:
        super().__init__()
        self.model = model
        for number, weight in enumerate(weights):
            self.register_buffer(f"weight{number}", weight)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        session = _session(self.model)
        names = [given.name for given in session.get_inputs()]
        given = {n: t.detach().cpu().numpy() for n, t in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(array.copy()) for array in session.run(None, given))


class OnnxNetwork(nn.Module):
    """An ONNX file of one input; it computes on the CPU, in the dtypes of the file.

    Args:
        path: of the file.

    Raises:
        ValueError: it has several inputs, a node with a graph within, or one that takes a value of
            unknown type.
    """

    def __init__(self, path: str) -> None:
        # older files list their weights among the inputs
        super().__init__()
        model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
        graph = model.graph
        constants = {weight.name: weight for weight in graph.initializer}
        given = [value for value in graph.input if value.name not in constants]
        if len(given) != 1:
            raise ValueError(f"{path} has {len(given)} inputs, expected one")
        self.input = given[0].name
        self.dtype = _dtype(given[0])
        self.outputs = [value.name for value in graph.output]

        # a node's inputs that are no weights are computed, and need a type
        values = [*graph.value_info, *graph.input, *graph.output]
        types = {value.name: value for value in values if value.type.tensor_type.elem_type}
        self.steps: list[tuple[str, list[str], list[str]]] = []
        for number, node in enumerate(graph.node):
            if any(part.HasField("g") for part in node.attribute):
                raise ValueError(f"{path} has a graph within its node {node.name!r}")
            computed = [n for n in dict.fromkeys(node.input) if n and n not in constants]
            weights = [constants[n] for n in dict.fromkeys(node.input) if n in constants]
            outputs = [n for n in node.output if n]
            unknown = [n for n in computed if n not in types]
            if unknown:
                raise ValueError(
                    f"{path} names no tensor type for the value {unknown[0]!r}, which its node "
                    f"{node.name!r} ({node.op_type}) takes: expected it in the graph's value_info"
                )

            # a model of one node: what is computed are its inputs, weights are within
            alone = onnx.helper.make_model(
                onnx.helper.make_graph(
                    [node],
                    node.op_type,
                    [_any_shape(types[n]) for n in computed],
                    [onnx.ValueInfoProto(name=n) for n in outputs],
                    weights,
                ),
                opset_imports=model.opset_import,
                ir_version=model.ir_version,
            )

            # the class is named by the operator
            tensors = [torch.from_numpy(onnx.numpy_helper.to_array(w).copy()) for w in weights]
            name = self._free_name(node.name.strip("/") or f"{node.op_type}_{number}")
            kind: Any = type(node.op_type, (OnnxNode,), {})
            self.add_module(name, kind(alone.SerializeToString(), tensors))
            self.steps.append((name, computed, outputs))

    def _free_name(self, name: str) -> str:
        """A module's name for a node's, without dots, that is neither another node's nor that of an
        attribute.
        """
        plain = name.replace("/", "_").replace(".", "_")
        free, times = plain, 1
        while hasattr(self, free):
            times += 1
            free = f"{plain}_{times}"
        return free

    def forward(self, x: Tensor) -> Any:
        if x.dtype != self.dtype:
            raise TypeError(f"the file takes {self.dtype}, got {x.dtype}")
        values = {self.input: x}
        for name, given, outputs in self.steps:
            found = self.get_submodule(name)(*(values[n] for n in given))
            values |= dict(zip(outputs, found, strict=True))
        results = {name: values[name] for name in self.outputs}
        return results if len(results) > 1 else values[self.outputs[0]]


@lru_cache(maxsize=1024)
def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _any_shape(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The value without the sizes of its axes, which another image has otherwise."""
    kind = value.type.tensor_type
    return onnx.helper.make_tensor_value_info(value.name, kind.elem_type, None)


def _dtype(value: onnx.ValueInfoProto) -> torch.dtype:
    array = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return torch.from_numpy(np.empty(0, array)).dtype
