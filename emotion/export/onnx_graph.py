"""The ONNX graph of a BERT or DistilBERT classifier, written operator by operator for every model that `numpy_predictor` supports.

It is faster than the graph of torch's exporter: attention, and GELU with its bias, are fused operators of ONNX Runtime. Layer norms are
written as basic operators, because ONNX Runtime's own operator takes three times as long.

In int8, weights have one scale per output channel, and activations have one scale per batch, computed at run time. A few large activation
channels would use most of the 255 steps, so they are divided by a factor and the weights that read them are multiplied by it (Source: Xiao
et al. 2023, "SmoothQuant", section 4). The output of GELU differs more between tokens than between channels and has a scale per token.

Weights are stored unsigned, with zero point 128. With signed weights, x86 CPUs without VNNI add two u8 x s8 products in 16 bits
(`vpmaddubsw`), and 2 x 255 x 127 saturates. Unsigned weights are widened first and added in 32 bits on every CPU, at the same 8 bits of
precision: no sum overflows below 33,025 input channels (255 x 255 x 33,025 < 2^31).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emotion.cpu.encoder_family import FAMILIES, LayerNames
from emotion.inference.numpy_predictor import NumpyPredictor

CONTRIB_OPERATORS = {"MultiHeadAttention", "BiasGelu", "DynamicQuantizeMatMul"}
"""Operators of ONNX Runtime that the ONNX standard does not have."""
CONTRIB_DOMAIN = "com.microsoft"
GELU_MINIMUM = -0.17
"""A lower bound of GELU's values."""
SMOOTHING = 0.8
"""SmoothQuant's alpha: how much of a channel's magnitude moves from the activations to the weights. 0.5 to 1 were tried."""
NUM_CALIBRATION_TEXTS = 256
ZERO_POINT = 128
"""Stored value of a weight of 0."""
OPSET, CONTRIB_OPSET, IR_VERSION = 18, 1, 9
FLOAT32, INT32 = 1, 6
"""ONNX's codes of the types."""


def write_encoder_graph(predictor: NumpyPredictor, path: Path, texts: list[str] | None = None) -> None:
    """Write the ONNX graph of a model, from int64 `input_ids` and `attention_mask`, (b, t), to float32 `logits`, (b, L).

    The graph is in int8 if there are `texts` to calibrate it with, otherwise in float32.
    """
    import onnx

    graph = Graph()
    max_inputs = measure_max_inputs(predictor, texts[:NUM_CALIBRATION_TEXTS]) if texts is not None else None
    _EncoderBuilder(graph, predictor, max_inputs).build()
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")]
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["b", len(predictor.label_set)])
    onnx.save(make_model(graph, "encoder", inputs, [logits]), path)


def make_model(graph: "Graph", name: str, inputs: list[Any], outputs: list[Any]) -> Any:
    """Return the ONNX model of a graph between inputs and outputs."""
    import onnx

    proto = onnx.helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants)
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(CONTRIB_DOMAIN, CONTRIB_OPSET)]
    return onnx.helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION)


@dataclass(frozen=True)
class _RecordingPredictor(NumpyPredictor):
    """A predictor that records the largest inputs of its linear layers."""

    max_inputs: dict[str, np.ndarray] = field(default_factory=dict)

    def _project(self, states: np.ndarray, name: str) -> np.ndarray:
        magnitudes = np.abs(states).reshape(-1, states.shape[-1]).max(axis=0)
        self.max_inputs[name] = np.maximum(self.max_inputs.get(name, 0), magnitudes)
        return super()._project(states, name)


def measure_max_inputs(predictor: NumpyPredictor, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the largest magnitude of each input channel, float32 (h,), of each linear layer over all tokens of the texts."""
    recording = _RecordingPredictor(**vars(predictor))
    recording.predict_logits(texts)
    return recording.max_inputs


class Graph:
    """Nodes and constants of an ONNX graph. Methods take and return names of values."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add_constant(self, values: np.ndarray) -> str:
        import onnx

        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        import onnx

        name = name or f"{operator}_{len(self.nodes)}"
        domain = CONTRIB_DOMAIN if operator in CONTRIB_OPERATORS else ""
        self.nodes.append(onnx.helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes))
        return name


class _EncoderBuilder:
    """Adds an encoder to a graph. `max_inputs` is the result of `measure_max_inputs`, or None for float32."""

    def __init__(self, graph: Graph, predictor: NumpyPredictor, max_inputs: dict[str, np.ndarray] | None) -> None:
        self._graph, self._max_inputs = graph, max_inputs
        self._weights, self._config = predictor.weights, predictor.config
        self._family = FAMILIES[self._config["model_type"]]
        self._last_axis = graph.add_constant(np.array([-1]))
        self._zero, self._one = graph.add_constant(np.array([0])), graph.add_constant(np.array([1]))
        self._epsilon = graph.add_constant(np.array(self._config.get("layer_norm_eps", 1e-12), dtype=np.float32))

    def build(self) -> None:
        graph, family = self._graph, self._family
        mask = graph.add("Cast", "attention_mask", to=INT32)
        states = self._embed()
        for number in range(self._config[family.num_layers]):
            is_last = number == self._config[family.num_layers] - 1
            states = self._add_layer(states, mask, family.prefix(number), is_last)
        first = graph.add("Squeeze", states, self._one)
        pooled = graph.add("Gemm", first, *self._add_parameters(family.pooler), transB=1)
        pooled = graph.add("Tanh" if family.pooler_activation == "tanh" else "Relu", pooled)
        graph.add("Gemm", pooled, *self._add_parameters("classifier"), name="logits", transB=1)

    def _embed(self) -> str:
        graph, prefix = self._graph, f"{self._config['model_type']}.embeddings."
        words = self._weights[prefix + "word_embeddings.weight"]
        positions = self._weights[prefix + "position_embeddings.weight"]
        if prefix + "token_type_embeddings.weight" in self._weights:
            positions = positions + self._weights[prefix + "token_type_embeddings.weight"][0]
        if self._max_inputs is None:
            states = graph.add("Gather", graph.add_constant(words), "input_ids")
        else:
            values, scales = _quantize(words.T)
            states = graph.add("Cast", graph.add("Gather", graph.add_constant(values.T), "input_ids"), to=FLOAT32)
            states = graph.add("Mul", states, graph.add("Gather", graph.add_constant(scales[:, None]), "input_ids"))
        length = graph.add("Shape", "input_ids", start=1)
        states = graph.add("Add", states, graph.add("Slice", graph.add_constant(positions), self._zero, length, self._zero))
        return self._normalize(states, prefix + "LayerNorm")

    def _add_layer(self, states: str, mask: str, prefix: str, is_last: bool) -> str:
        """Add a layer and return its hidden states, (b, t, h); the last layer returns those of the first token, (b, 1, h)."""
        graph, family = self._graph, self._family
        names = LayerNames(*(prefix + name for name in family.names))
        query, key, value, output, up, down = (*names[:4], names.up, names.down)
        matrices = {name: self._weights[name + ".weight"].T for name in (query, key, value, output, up, down)}
        biases = {name: self._weights[name + ".bias"] for name in matrices}

        # Dividing the value projection's weights divides the input of the output projection, at no cost at run time.
        factors = self._compute_smoothing(output, matrices[output])
        matrices[value], biases[value] = matrices[value] / factors, biases[value] / factors
        matrices[output] = matrices[output] * factors[:, None]
        smooth = self._smooth(states, matrices, key, value, query)
        queries, smooth_queries = (graph.add("Slice", x, self._zero, self._one, self._one) if is_last else x for x in (states, smooth))
        parts = [self._multiply(x, matrices[name]) for x, name in ((smooth_queries, query), (smooth, key), (smooth, value))]
        bias = graph.add_constant(np.concatenate([biases[query], biases[key], biases[value]]))
        attended = graph.add("MultiHeadAttention", *parts, bias, mask, num_heads=self._config[family.num_heads])
        attended = graph.add("Add", self._multiply(attended, matrices[output]), graph.add_constant(biases[output]))
        states = self._normalize(graph.add("Add", attended, queries), names.attention_norm)

        hidden = self._multiply(self._smooth(states, matrices, up), matrices[up])
        hidden = graph.add("BiasGelu", hidden, graph.add_constant(biases[up]))
        result = graph.add("Add", self._multiply_by_token(hidden, matrices[down]), graph.add_constant(biases[down]))
        return self._normalize(graph.add("Add", result, states), names.output_norm)

    def _compute_smoothing(self, name: str, *matrices: np.ndarray) -> np.ndarray:
        """Return the factors, float32 (h,), that divide the input channels of a layer with these matrices, (h, m); ones in float32."""
        if self._max_inputs is None:
            return np.ones(len(matrices[0]), dtype=np.float32)
        inputs = np.maximum(self._max_inputs[name], 1e-3)
        weights = np.maximum(np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0), 1e-5)
        logs = SMOOTHING * np.log(inputs) - (1 - SMOOTHING) * np.log(weights)
        return np.exp(logs - logs.mean()).astype(np.float32)

    def _smooth(self, states: str, matrices: dict[str, np.ndarray], *names: str) -> str:
        """Return states divided by smoothing factors, and multiply the matrices that read them by the same factors, in place."""
        if self._max_inputs is None:
            return states
        factors = self._compute_smoothing(names[0], *(matrices[name] for name in names))
        for name in names:
            matrices[name] = matrices[name] * factors[:, None]
        return self._graph.add("Mul", states, self._graph.add_constant(1 / factors))

    def _multiply(self, states: str, matrix: np.ndarray) -> str:
        graph = self._graph
        if self._max_inputs is None:
            return graph.add("MatMul", states, graph.add_constant(matrix))
        values, scales = _quantize(matrix)
        values, zeros = (values.astype(np.int16) + ZERO_POINT).astype(np.uint8), np.full(matrix.shape[1], ZERO_POINT, dtype=np.uint8)
        return graph.add("DynamicQuantizeMatMul", states, *(graph.add_constant(array) for array in (values, scales, zeros)))

    def _multiply_by_token(self, states: str, matrix: np.ndarray) -> str:
        """Multiply the output of GELU by a matrix; in int8 with one scale per token."""
        graph = self._graph
        if self._max_inputs is None:
            return self._multiply(states, matrix)
        maximum = graph.add("ReduceMax", states, self._last_axis, keepdims=1)
        scale = graph.add("Max", maximum, graph.add_constant(np.array(-GELU_MINIMUM, dtype=np.float32)))
        scaled = graph.add("Mul", states, graph.add("Reciprocal", scale))
        return graph.add("Mul", self._multiply(scaled, matrix), scale)

    def _normalize(self, states: str, name: str) -> str:
        graph = self._graph
        centered = graph.add("Sub", states, graph.add("ReduceMean", states, self._last_axis))
        variance = graph.add("ReduceMean", graph.add("Mul", centered, centered), self._last_axis)
        deviation = graph.add("Sqrt", graph.add("Add", variance, self._epsilon))
        weight, bias = self._add_parameters(name)
        scaled = graph.add("Mul", graph.add("Mul", centered, graph.add("Reciprocal", deviation)), weight)
        return graph.add("Add", scaled, bias)

    def _add_parameters(self, name: str) -> tuple[str, str]:
        weight, bias = (self._graph.add_constant(self._weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return weight, bias


def _quantize(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 values, (h, m), and the scale of each column, float32 (m,); values times scales give the matrix."""
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)
