"""An ONNX graph under construction, made straight from a package's weights.

Batch normalisation is folded into the convolution before it here, in f64, as the server does it: ONNX Runtime folds the
same by itself where it can, and this way it never has to.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

NORM_EPSILON = 1e-5
OPSET = 17


class Weights:
    """The tensors of a package, each asked for by name and shape, or made up as they are asked for."""

    def __init__(self, tensors=None):
        self._invents = tensors is None
        self._tensors = {} if self._invents else tensors
        self._random = np.random.default_rng(41)

    @classmethod
    def read(cls, path):
        return cls(load_file(path))

    @classmethod
    def invented(cls):
        return cls()

    def save(self, path):
        save_file(self._tensors, path)

    def take(self, key, shape):
        if self._invents:
            self._tensors[key] = self._invent(key, shape)
        tensor = self._tensors[key]
        if tensor.shape != tuple(shape):
            raise ValueError(f"{key} has the shape {tensor.shape}, the network wants {tuple(shape)}")
        return tensor.astype(np.float64)

    def _invent(self, key, shape):
        """Weights that keep the size of what goes through them, so that no layer drowns in rounding."""
        unit = self._random.random(shape, dtype=np.float32)
        if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
            return unit + np.float32(0.5)
        fan_in = max(1, int(np.prod(shape[1:])))
        return (unit - np.float32(0.5)) * np.float32((6.0 / fan_in) ** 0.5)


@dataclass(frozen=True)
class Value:
    """Something that a node answered: its name, and its shape without the batch."""

    name: str
    shape: tuple


class Graph:
    """Nodes in the order of their making. `operations` counts two for each multiplication of the linear layers."""

    def __init__(self, weights, input_shape):
        self.weights = weights
        self.operations = 0
        self._nodes = []
        self._constants = []
        self._input = Value("input", tuple(input_shape))

    @property
    def input(self):
        return self._input

    def model(self, output):
        """The checked model with the batch as a free dimension."""
        tensors = [
            helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["batch", *value.shape])
            for value in (self._input, output)
        ]
        graph = helper.make_graph(self._nodes, "network", tensors[:1], tensors[1:], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    def node(self, kind, inputs, shape, **attributes):
        value = Value(f"{kind.lower()}_{len(self._nodes)}", tuple(shape))
        names = [entry.name if isinstance(entry, Value) else entry for entry in inputs]
        self._nodes.append(helper.make_node(kind, names, [value.name], **attributes))
        return value

    def constant(self, array, dtype=np.float32):
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=dtype), name))
        return name

    # Layers.

    def scale(self, key, channels):
        """Batch normalisation as factors and shifts."""
        weight, bias, mean, variance = (
            self.weights.take(f"{key}.{name}", [channels]) for name in ("weight", "bias", "running_mean", "running_var")
        )
        factors = weight / np.sqrt(variance + NORM_EPSILON)
        return factors, bias - mean * factors

    def conv(self, value, key, outputs, norm=None, bias=False, kernel=(1, 1), stride=(1, 1), padding=(0, 0), groups=1):
        """A convolution with the normalisation named `norm`, if any, folded into it."""
        weight, shift = self.conv_weights(key, [outputs, value.shape[0] // groups, *kernel], bias)
        if norm is not None:
            factors, shifts = self.scale(norm, outputs)
            weight, shift = weight * factors[:, None, None, None], shift * factors + shifts
            bias = True
        return self.conv_of(value, weight, shift if bias else None, stride, padding, groups)

    def conv_weights(self, key, shape, bias):
        weight = self.weights.take(f"{key}.weight", shape)
        return weight, self.weights.take(f"{key}.bias", shape[:1]) if bias else np.zeros(shape[0])

    def conv_of(self, value, weight, shift, stride=(1, 1), padding=(0, 0), groups=1):
        kernel = weight.shape[2:]
        sides = [
            (side + 2 * pad - window) // step + 1
            for side, pad, window, step in zip(value.shape[1:], padding, kernel, stride)
        ]
        inputs = [value, self.constant(weight)] + ([] if shift is None else [self.constant(shift)])
        self.operations += 2 * int(np.prod(sides)) * weight.size
        pads = [*padding, *padding]
        return self.node(
            "Conv", inputs, [weight.shape[0], *sides], kernel_shape=list(kernel), strides=list(stride), pads=pads, group=groups
        )

    def gemm(self, value, weight, shift):
        self.operations += 2 * weight.size
        constants = [self.constant(weight), self.constant(shift)]
        return self.node("Gemm", [value, *constants], [weight.shape[0]], transB=1)

    def relu(self, value):
        return self.node("Relu", [value], value.shape)

    def prelu(self, value, key):
        channels = value.shape[0]
        slopes = self.weights.take(f"{key}.weight", [channels]).reshape(channels, *[1 for _ in value.shape[1:]])
        return self.node("PRelu", [value, self.constant(slopes)], value.shape)

    def add(self, a, b):
        return self.node("Add", [a, b], a.shape)

    def mean_over_map(self, value):
        return self.node("GlobalAveragePool", [value], [value.shape[0], 1, 1])

    def pool(self, kind, value, window, stride, padding):
        sides = [(side + 2 * padding - window) // stride + 1 for side in value.shape[1:]]
        shape = [value.shape[0], *sides]
        return self.node(kind, [value], shape, kernel_shape=[window] * 2, strides=[stride] * 2, pads=[padding] * 4)

    def flatten(self, value):
        return self.node("Flatten", [value], [int(np.prod(value.shape))], axis=1)
