"""The ONNX graph that is written operator by operator computes the model, approximately in int8."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from emotion.export import onnx_graph
from emotion.export.onnx_graph import ZERO_POINT, measure_max_inputs, write_encoder_graph
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.onnx_predictor import OnnxPredictor
from tests.inference.test_numpy import TEXTS, save


def predict(predictor, folder, onnx_folder, texts, calibration_texts=None):
    """Return the logits of texts, computed by the ONNX graph of a model, and the graph's size in bytes."""
    onnx_folder.mkdir()
    write_encoder_graph(predictor, onnx_folder / "model.onnx", calibration_texts)
    onnx.checker.check_model(onnx.load(onnx_folder / "model.onnx"))
    (onnx_folder / "about.json").write_text(json.dumps({"precision": "fp32", "pad_token_id": predictor.pad_token_id}))
    return OnnxPredictor.open(folder, onnx_folder).predict_logits(texts), (onnx_folder / "model.onnx").stat().st_size


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_graph_computes_the_model(family, tiny_backbones, tmp_path):
    folder = save(tiny_backbones[family], tmp_path / "model")
    predictor = NumpyPredictor.load(str(folder))
    expected = predictor.predict_logits(TEXTS)
    logits, size = predict(predictor, folder, tmp_path / "float32", TEXTS)
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    int8_logits, int8_size = predict(predictor, folder, tmp_path / "int8", TEXTS, TEXTS)
    error = np.abs(int8_logits - expected).max() / np.ptp(expected)
    assert 1e-5 < error < 0.05 and int8_size < 0.5 * size


def find_int8_products(path):
    """Return (weights, zero points) of each int8 matrix product of a graph."""
    graph = onnx.load(path).graph
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    return [(constants[node.input[1]], constants[node.input[3]]) for node in graph.node if node.op_type == "DynamicQuantizeMatMul"]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_int8_sums_cannot_overflow_on_any_cpu(family, tiny_backbones, tmp_path):
    """Weights are unsigned: x86 adds two u8 x s8 products in 16 bits, which saturates, and has no such instruction for u8 x u8."""
    assert np.iinfo(np.int16).max < 2 * 255 * 127  # the largest sum with signed weights
    folder = save(tiny_backbones[family], tmp_path / "model")
    write_encoder_graph(NumpyPredictor.load(str(folder)), tmp_path / "model.onnx", TEXTS)
    products = find_int8_products(tmp_path / "model.onnx")
    assert len(products) == 12  # query, key, value, output, up and down in two layers
    for weights, zeros in products:
        assert weights.dtype == zeros.dtype == np.uint8 and (zeros == ZERO_POINT).all()
        assert weights.min() >= 1  # the range is symmetric around the zero point
        assert 255 * 255 * len(weights) < 2**31


@pytest.mark.parametrize("size", [64, 1_536])
def test_int8_product_is_exact_where_16_bits_would_saturate(size):
    """With all weights and activations at their maximum, this CPU returns the integer sum, not 32,767 for each pair."""
    weights = np.full((size, 8), 255, dtype=np.uint8)
    graph = onnx_graph.Graph()
    constants = (weights, np.ones(8, np.float32), np.full(8, ZERO_POINT, np.uint8))
    graph.add("DynamicQuantizeMatMul", "x", *(graph.add_constant(array) for array in constants), name="y")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", width]) for name, width in (("x", size), ("y", 8))]
    model = onnx_graph.make_model(graph, "product", values[:1], values[1:])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    products = session.run(None, {"x": np.full((3, size), 255, dtype=np.float32)})[0]  # scale 1: all activations are stored as 255
    np.testing.assert_array_equal(products, np.full((3, 8), 255.0 * (255 - ZERO_POINT) * size))


def test_large_channels_do_not_spoil_int8(tiny_backbones, tmp_path, monkeypatch):
    """As in trained encoders, one channel of a layer norm is 50 times as large, and the weights that read it are 50 times smaller."""
    folder = save(tiny_backbones["bert"], tmp_path / "model")
    predictor = NumpyPredictor.load(str(folder))
    for layer in range(predictor.config["num_hidden_layers"]):
        prefix = f"bert.encoder.layer.{layer}."
        for part in ("weight", "bias"):
            predictor.weights[f"{prefix}attention.output.LayerNorm.{part}"][3] *= 50
        predictor.weights[f"{prefix}intermediate.dense.weight"][:, 3] /= 50
    magnitudes = measure_max_inputs(predictor, TEXTS)["bert.encoder.layer.0.intermediate.dense"]
    assert magnitudes.argmax() == 3 and magnitudes[3] > 10 * np.median(magnitudes)
    expected = predictor.predict_logits(TEXTS)
    smooth, _ = predict(predictor, folder, tmp_path / "smooth", TEXTS, TEXTS)
    monkeypatch.setattr(onnx_graph._EncoderBuilder, "_compute_smoothing", lambda self, name, first, *_: np.ones(len(first), np.float32))
    plain, _ = predict(predictor, folder, tmp_path / "plain", TEXTS, TEXTS)
    errors = [float(np.sqrt(np.mean((logits - expected) ** 2))) for logits in (smooth, plain)]
    assert errors[0] < errors[1] / 2, errors
