"""The graph that is written operator by operator computes the model, and in int8 nearly so."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from emotion.export.onnx_graph import ZERO_POINT, measure_inputs, write_encoder_graph
from emotion.inference import encoder_graph
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.onnx_predictor import OnnxPredictor
from tests.inference.test_numpy import TEXTS, save


def answer(predictor, folder, place, texts, calibration=None):
    """Return the logits of texts by the graph of a model, and its size in bytes."""
    place.mkdir()
    write_encoder_graph(predictor, place / "model.onnx", calibration)
    onnx.checker.check_model(onnx.load(place / "model.onnx"))
    (place / "about.json").write_text(json.dumps({"form": "any", "pad_token_id": predictor.pad_token_id}))
    return OnnxPredictor.open(folder, place).predict_logits(texts), (place / "model.onnx").stat().st_size


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_graph_computes_the_model(kind, tiny_backbones, tmp_path):
    folder = save(tiny_backbones[kind], tmp_path / "model")
    predictor = NumpyPredictor.load(str(folder))
    expected = predictor.predict_logits(TEXTS)
    found, size = answer(predictor, folder, tmp_path / "float32", TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    small, small_size = answer(predictor, folder, tmp_path / "int8", TEXTS, TEXTS)
    error = np.abs(small - expected).max() / np.ptp(expected)
    assert 1e-5 < error < 0.05 and small_size < 0.5 * size


def find_products(path):
    """Return (weights, zero points) of each int8 matrix product of a graph."""
    graph = onnx.load(path).graph
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    return [(constants[node.input[1]], constants[node.input[3]]) for node in graph.node if node.op_type == "DynamicQuantizeMatMul"]


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_int8_sums_cannot_overflow_on_any_cpu(kind, tiny_backbones, tmp_path):
    """Unsigned weights: x86 adds two u8 x s8 products in 16 bits, which saturates, and has no such instruction for u8 x u8."""
    assert np.iinfo(np.int16).max < 2 * 255 * 127  # what signed weights come to
    folder = save(tiny_backbones[kind], tmp_path / "model")
    write_encoder_graph(NumpyPredictor.load(str(folder)), tmp_path / "model.onnx", TEXTS)
    products = find_products(tmp_path / "model.onnx")
    assert len(products) == 12  # query, key, value, output and two of the feed-forward part, in two layers
    for weights, zeros in products:
        assert weights.dtype == zeros.dtype == np.uint8 and (zeros == ZERO_POINT).all()
        assert weights.min() >= 1  # as far below the zero point as above it: 0 is exact
        assert 255 * 255 * len(weights) < 2**31


@pytest.mark.parametrize("size", [64, 1_536])
def test_int8_product_is_exact_where_16_bits_would_saturate(size):
    """On this CPU, all weights and activations at their largest: the integer sum comes out, not 32,767 for each pair."""
    weights = np.full((size, 8), 255, dtype=np.uint8)
    graph = encoder_graph._Graph()
    constants = (weights, np.ones(8, np.float32), np.full(8, ZERO_POINT, np.uint8))
    graph.add("DynamicQuantizeMatMul", "x", *(graph.constant(array) for array in constants), name="y")
    session = onnxruntime.InferenceSession(build_model(graph, size).SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.full((3, size), 255, dtype=np.float32)})[0]  # scale 1: all activations are stored as 255
    np.testing.assert_array_equal(found, np.full((3, 8), 255.0 * (255 - ZERO_POINT) * size))


def build_model(graph, size):
    """Return the ONNX model of a graph from x, float32 (b, size), to y, float32 (b, 8)."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", width]) for name, width in (("x", size), ("y", 8))]
    opsets = [onnx.helper.make_opsetid("", encoder_graph.OPSET), onnx.helper.make_opsetid("com.microsoft", encoder_graph.OWN_OPSET)]
    whole = onnx.helper.make_graph(graph.nodes, "product", values[:1], values[1:], graph.constants)
    return onnx.helper.make_model(whole, opset_imports=opsets, ir_version=encoder_graph.IR_VERSION)


def test_large_channels_do_not_spoil_int8(tiny_backbones, tmp_path, monkeypatch):
    """As trained encoders have them: one channel of what a layer norm returns is 50 times as large, and met by weights as much smaller."""
    folder = save(tiny_backbones["bert"], tmp_path / "model")
    predictor = NumpyPredictor.load(str(folder))
    for layer in range(predictor.config["num_hidden_layers"]):
        prefix = f"bert.encoder.layer.{layer}."
        for part in ("weight", "bias"):
            predictor.weights[f"{prefix}attention.output.LayerNorm.{part}"][3] *= 50
        predictor.weights[f"{prefix}intermediate.dense.weight"][:, 3] /= 50
    sizes = measure_inputs(predictor, TEXTS)["bert.encoder.layer.0.intermediate.dense"]
    assert sizes.argmax() == 3 and sizes[3] > 10 * np.median(sizes)
    expected = predictor.predict_logits(TEXTS)
    smooth, _ = answer(predictor, folder, tmp_path / "smooth", TEXTS, TEXTS)
    monkeypatch.setattr(encoder_graph._Encoder, "_balance", lambda self, name, *matrices: np.ones(len(matrices[0]), np.float32))
    plain, _ = answer(predictor, folder, tmp_path / "plain", TEXTS, TEXTS)
    errors = [float(np.sqrt(np.mean((logits - expected) ** 2))) for logits in (smooth, plain)]
    assert errors[0] < errors[1] / 2, errors
