"""The ONNX form of small encoders, written operator by operator, for all that `numpy_predictor` knows.

What torch's exporter makes is slower: here attention, and GELU with its bias, are fused operators of ONNX Runtime, and layer norms are
written out, for its own takes three times as long.

In int8, weights have a scale for each output channel, activations one scale for a batch, computed at run time. Large activation channels
would take most of its 255 steps, so they are scaled down and their weights up: Xiao et al. 2023, "SmoothQuant", section 4. The output of
GELU differs more between tokens than between channels and has a scale for each token.

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

FUSED = {"MultiHeadAttention", "BiasGelu", "DynamicQuantizeMatMul"}
"""Operators that are ONNX Runtime's own."""
MOST_BELOW_ZERO = 0.17
"""GELU is never below minus this."""
SMOOTHING = 0.8
"""Share of a channel's size that goes from the activations into the weights; .5 to 1 were tried."""
NUM_TEXTS = 256
"""Texts that show how large activations are."""
ZERO_POINT = 128
"""Stored value of a weight of 0."""
OPSET, OWN_OPSET, IR_VERSION = 18, 1, 9
FLOAT32, INT32 = 1, 6
"""ONNX's numbers of the types."""


def write_encoder_graph(predictor: NumpyPredictor, path: Path, texts: list[str] | None = None) -> None:
    """Write a model's ONNX graph from int64 `input_ids` and `attention_mask`, (b, t), to float32 `logits`, (b, L).

    In int8 if there are `texts` to see the activations of, otherwise in float32.
    """
    import onnx

    graph = _Graph()
    _Encoder(graph, predictor, measure_inputs(predictor, texts[:NUM_TEXTS]) if texts is not None else None).build()
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")]
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["b", len(predictor.label_set)])
    whole = onnx.helper.make_graph(graph.nodes, "encoder", inputs, [logits], graph.constants)
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("com.microsoft", OWN_OPSET)]
    onnx.save(onnx.helper.make_model(whole, opset_imports=opsets, ir_version=IR_VERSION), path)


@dataclass(frozen=True)
class _Watched(NumpyPredictor):
    """A predictor that notes how large the inputs of its linear layers become."""

    largest: dict[str, np.ndarray] = field(default_factory=dict)

    def _project(self, states: np.ndarray, name: str) -> np.ndarray:
        sizes = np.abs(states).reshape(-1, states.shape[-1]).max(axis=0)
        self.largest[name] = np.maximum(self.largest.get(name, 0), sizes)
        return super()._project(states, name)


def measure_inputs(predictor: NumpyPredictor, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the largest magnitude, float32 (h,), of each channel of each linear layer's input over all tokens of the texts."""
    watched = _Watched(**vars(predictor))
    watched.predict_logits(texts)
    return watched.largest


class _Graph:
    """Nodes and constants; values go by their names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: np.ndarray) -> str:
        import onnx

        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        import onnx

        name = name or f"{kind}_{len(self.nodes)}"
        domain = "com.microsoft" if kind in FUSED else ""
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name


class _Encoder:
    """Puts an encoder into a graph; `largest` is what `measure_inputs` returned, or None for float32."""

    def __init__(self, graph: _Graph, predictor: NumpyPredictor, largest: dict[str, np.ndarray] | None) -> None:
        self._graph, self._largest = graph, largest
        self._weights, self._config = predictor.weights, predictor.config
        self._family = FAMILIES[self._config["model_type"]]
        self._last_axis = graph.constant(np.array([-1]))
        self._zero, self._one = graph.constant(np.array([0])), graph.constant(np.array([1]))
        self._epsilon = graph.constant(np.array(self._config.get("layer_norm_eps", 1e-12), dtype=np.float32))

    def build(self) -> None:
        graph, family = self._graph, self._family
        mask = graph.add("Cast", "attention_mask", to=INT32)
        states = self._embed()
        for number in range(self._config[family.num_layers]):
            is_last = number == self._config[family.num_layers] - 1
            states = self._add_layer(states, mask, family.prefix(number), is_last)
        first = graph.add("Squeeze", states, self._one)
        pooled = graph.add("Gemm", first, *self._constants(family.pooler), transB=1)
        pooled = graph.add("Tanh" if family.pooler_activation == "tanh" else "Relu", pooled)
        graph.add("Gemm", pooled, *self._constants("classifier"), name="logits", transB=1)

    def _embed(self) -> str:
        graph, prefix = self._graph, f"{self._config['model_type']}.embeddings."
        words = self._weights[prefix + "word_embeddings.weight"]
        positions = self._weights[prefix + "position_embeddings.weight"]
        if prefix + "token_type_embeddings.weight" in self._weights:
            positions = positions + self._weights[prefix + "token_type_embeddings.weight"][0]
        if self._largest is None:
            states = graph.add("Gather", graph.constant(words), "input_ids")
        else:
            values, scales = _quantize(words.T)
            states = graph.add("Cast", graph.add("Gather", graph.constant(values.T), "input_ids"), to=FLOAT32)
            states = graph.add("Mul", states, graph.add("Gather", graph.constant(scales[:, None]), "input_ids"))
        length = graph.add("Shape", "input_ids", start=1)
        states = graph.add("Add", states, graph.add("Slice", graph.constant(positions), self._zero, length, self._zero))
        return self._normalize(states, prefix + "LayerNorm")

    def _add_layer(self, states: str, mask: str, prefix: str, is_last: bool) -> str:
        """Add a layer and return its hidden states, (b, t, h), of the last one only the first token's, (b, 1, h)."""
        graph, family = self._graph, self._family
        names = LayerNames(*(prefix + name for name in family.names))
        query, key, value, output, inner, outer = (*names[:4], names.up, names.down)
        matrices = {name: self._weights[name + ".weight"].T for name in (query, key, value, output, inner, outer)}
        biases = {name: self._weights[name + ".bias"] for name in matrices}

        factors = self._balance(output, matrices[output])  # divided by in the value, where it costs nothing
        matrices[value], biases[value] = matrices[value] / factors, biases[value] / factors
        matrices[output] = matrices[output] * factors[:, None]
        smooth = self._smooth(states, matrices, key, value, query)
        queries, smooth_queries = (graph.add("Slice", x, self._zero, self._one, self._one) if is_last else x for x in (states, smooth))
        parts = [self._multiply(x, matrices[name]) for x, name in ((smooth_queries, query), (smooth, key), (smooth, value))]
        bias = graph.constant(np.concatenate([biases[query], biases[key], biases[value]]))
        attended = graph.add("MultiHeadAttention", *parts, bias, mask, num_heads=self._config[family.num_heads])
        attended = graph.add("Add", self._multiply(attended, matrices[output]), graph.constant(biases[output]))
        states = self._normalize(graph.add("Add", attended, queries), names.attention_norm)

        hidden = self._multiply(self._smooth(states, matrices, inner), matrices[inner])
        hidden = graph.add("BiasGelu", hidden, graph.constant(biases[inner]))
        result = graph.add("Add", self._multiply_by_token(hidden, matrices[outer]), graph.constant(biases[outer]))
        return self._normalize(graph.add("Add", result, states), names.output_norm)

    def _balance(self, name: str, *matrices: np.ndarray) -> np.ndarray:
        """Return what each channel of a layer's input is to be divided by, float32 (h,); ones in float32 form."""
        height = len(matrices[0])
        if self._largest is None:
            return np.ones(height, dtype=np.float32)
        sizes = np.maximum(self._largest[name], 1e-3)
        weights = np.maximum(np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0), 1e-5)
        logs = SMOOTHING * np.log(sizes) - (1 - SMOOTHING) * np.log(weights)
        return np.exp(logs - logs.mean()).astype(np.float32)

    def _smooth(self, states: str, matrices: dict[str, np.ndarray], *names: str) -> str:
        """Return states with their large channels made small, and make up for it in the matrices that they meet."""
        if self._largest is None:
            return states
        factors = self._balance(names[0], *(matrices[name] for name in names))
        for name in names:
            matrices[name] = matrices[name] * factors[:, None]
        return self._graph.add("Mul", states, self._graph.constant(1 / factors))

    def _multiply(self, states: str, matrix: np.ndarray) -> str:
        graph = self._graph
        if self._largest is None:
            return graph.add("MatMul", states, graph.constant(matrix))
        values, scales = _quantize(matrix)
        values, zeros = (values.astype(np.int16) + ZERO_POINT).astype(np.uint8), np.full(matrix.shape[1], ZERO_POINT, dtype=np.uint8)
        return graph.add("DynamicQuantizeMatMul", states, *(graph.constant(array) for array in (values, scales, zeros)))

    def _multiply_by_token(self, states: str, matrix: np.ndarray) -> str:
        """Multiply what GELU returned, in int8 with a scale for each token."""
        graph = self._graph
        if self._largest is None:
            return self._multiply(states, matrix)
        sizes = graph.add(
            "Max", graph.add("ReduceMax", states, self._last_axis, keepdims=1), graph.constant(np.array(MOST_BELOW_ZERO, dtype=np.float32))
        )
        scaled = graph.add("Mul", states, graph.add("Reciprocal", sizes))
        return graph.add("Mul", self._multiply(scaled, matrix), sizes)

    def _normalize(self, states: str, name: str) -> str:
        graph = self._graph
        centred = graph.add("Sub", states, graph.add("ReduceMean", states, self._last_axis))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), self._last_axis)
        deviation = graph.add("Sqrt", graph.add("Add", variance, self._epsilon))
        weight, bias = self._constants(name)
        scaled = graph.add("Mul", graph.add("Mul", centred, graph.add("Reciprocal", deviation)), weight)
        return graph.add("Add", scaled, bias)

    def _constants(self, name: str) -> tuple[str, str]:
        weight, bias = (self._graph.constant(self._weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return weight, bias


def _quantize(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 values, (h, m), and the float32 scale of each column, (m,), that they are to be multiplied by."""
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)
