"""A graph under construction: nodes and small constants; the big tensors are in ``Weights``."""

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export.onnx.weights import Weights

MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
OPSET, IR_VERSION = 23, 11  # the first with RMSNormalization


def shape_of(value: ValueInfoProto) -> list[int | str]:
    """Sizes of an input or output, names for those that vary."""
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


class Graph:
    """Nodes and constants of a model under construction; the big tensors are in ``weights``."""

    def __init__(self, weights: Weights, half: bool = False) -> None:
        """Begin a graph; ``half``: its activations are float16, else float32."""
        self.weights, self.half = weights, half
        self.type = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self.dtype = np.dtype(np.float16 if half else np.float32)
        self._nodes: list[NodeProto] = []
        self._casts: set[str] = set()
        self._constants: dict[str, TensorProto] = {}
        self._optional: dict[str, tuple[int, list]] = {}

    def node(self, op: str, inputs: list[str], output: str | list[str], domain: str = "", **attributes: Any) -> str:
        """Append a node; returns the name of its first output."""
        inputs = inputs[: max(i for i, name in enumerate(inputs, 1) if name)]  # without those left out at the end
        outputs = [output] if isinstance(output, str) else output
        self._nodes.append(helper.make_node(op, inputs, outputs, outputs[0], domain=domain, **attributes))
        return outputs[0]

    def in_float32(self, x: str) -> str:
        """A cast of what is float16, one however many ask for it."""
        wide = f"{x}.float32"
        if wide not in self._casts:
            self._casts.add(self.node("Cast", [x], wide, to=TensorProto.FLOAT))
        return wide

    def widened(self, x: str) -> str:
        """Activations in float32, for what float16 is too coarse for."""
        return self.in_float32(x) if self.half else x

    def narrowed(self, x: str) -> str:
        """From float32 to the type of the graph's activations."""
        return self.node("Cast", [x], f"{x}.narrow", to=self.type) if self.half else x

    def constant(self, name: str, value: np.ndarray, exact: bool = False) -> str:
        """A small tensor inside the graph file; floats get the type of the activations, unless they are to be ``exact``."""
        if value.dtype == np.float32 and not exact:
            value = value.astype(self.dtype)
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def optional_input(self, name: str, default: np.ndarray) -> str:
        """An input that need not be fed: an initialiser which callers may override."""
        constant = self._constants[self.constant(name, default)]
        self._optional[name] = constant.data_type, list(constant.dims)
        return name

    def model(
        self, inputs: dict[str, tuple[int, list]], outputs: dict[str, tuple[int, list]], name: str = "decoder"
    ) -> ModelProto:
        """The finished model; inputs and outputs by name with data type and shape."""

        def values(side: dict[str, tuple[int, list]]) -> list[ValueInfoProto]:
            return [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in side.items()]

        initializers = [*self._constants.values(), *self.weights.protos.values()]
        graph = helper.make_graph(self._nodes, name, values(inputs | self._optional), values(outputs), initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="slimmoe")
