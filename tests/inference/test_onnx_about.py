"""`about.json` of an ONNX model: the present key and that of older versions, and what to do without an ONNX model."""

import json

import pytest

from emotion.errors import ModelError
from emotion.inference.onnx_predictor import OnnxPredictor, has_onnx, read_about


@pytest.mark.parametrize("key", ["precision", "form"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_precision_is_read_from_both_keys(key, precision, tmp_path):
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps({key: precision, "pad_token_id": 0}))
    assert read_about(folder) == {"precision": precision, "pad_token_id": 0}
    assert [has_onnx(tmp_path), has_onnx(tmp_path, "fp32"), has_onnx(tmp_path, "int8")] == [True, precision == "fp32", precision == "int8"]


def test_a_folder_without_an_onnx_model_names_the_command(tiny_run):
    assert not has_onnx(tiny_run / "model")
    with pytest.raises(ModelError) as caught:
        OnnxPredictor.load(str(tiny_run))
    assert str(caught.value) == f"{tiny_run}: has no ONNX model; create one with `python export.py --model {tiny_run} --onnx`"
