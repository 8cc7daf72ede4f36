"""The graph that is written operator by operator computes the model, and in int8 nearly so."""

import json

import numpy as np
import onnx
import pytest

from emotion.inference import encoder_graph
from emotion.inference.encoder_graph import measure_inputs, write_encoder
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.onnx_predictor import OnnxPredictor
from tests.inference.test_numpy import TEXTS, save


def answer(predictor, folder, place, texts, calibration=None):
    """Return the logits of texts by the graph of a model, and its size in bytes."""
    place.mkdir()
    write_encoder(predictor, place / "model.onnx", calibration)
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
