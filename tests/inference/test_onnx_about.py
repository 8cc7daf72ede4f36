"""`about.json` of an ONNX model: the present key and that of older versions, and what to do without an ONNX model."""

import json
import math
import shutil

import pytest

from emotion.errors import ModelError
from emotion.export.onnx_graph import write_encoder_graph
from emotion.inference.loading import load_predictor
from emotion.inference.numpy_predictor import NumpyPredictor
from emotion.inference.onnx_predictor import OnnxPredictor, has_onnx, read_about
from tests.inference.test_numpy import save


@pytest.mark.parametrize("key", ["precision", "form"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_precision_is_read_from_both_keys(key, precision, tmp_path):
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "about.json").write_text(json.dumps({key: precision, "pad_token_id": 0}))
    assert read_about(folder) == {"precision": precision, "pad_token_id": 0}
    assert [has_onnx(tmp_path), has_onnx(tmp_path, "fp32"), has_onnx(tmp_path, "int8")] == [True, precision == "fp32", precision == "int8"]


ABOUT = {"precision": "fp32", "pad_token_id": 0, "weights": "0"}
CHECK = {"texts": ["a"], "logits": [[0.0, 0.0]], "max_rms_difference": 0.001}
AGAIN = "restore the file or export the model again"
INVALID = {
    "list": ([], "must hold a JSON object, not []"),
    "missing": ({"precision": "fp32"}, "pad_token_id is missing"),
    "precision": (ABOUT | {"precision": ["int8"]}, "precision=['int8']: must be fp32 or int8"),
    "pad": (ABOUT | {"pad_token_id": "0"}, "pad_token_id='0': must be an integer of at least 0"),
    "weights": (ABOUT | {"weights": 5}, "weights=5: must be a string or null"),
    "check": (ABOUT | {"self_check": []}, "self_check=[]: must be a JSON object"),
    "texts": (ABOUT | {"self_check": CHECK | {"texts": [5]}}, "self_check.texts=[5]: must be a list of texts"),
    "bound": (
        ABOUT | {"self_check": CHECK | {"max_rms_difference": math.inf}},
        "self_check.max_rms_difference=inf: must be a number of at least 0",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_about_file_that_is_not_allowed_is_one_line(case, tmp_path):
    values, message = INVALID[case]
    path = tmp_path / "onnx" / "about.json"
    path.parent.mkdir()
    path.write_text(json.dumps(ABOUT | {"self_check": CHECK}))
    assert read_about(path.parent)["self_check"] == CHECK
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError) as caught:
        read_about(path.parent)
    assert str(caught.value) == f"{path}: {message}; {AGAIN}"
    assert has_onnx(tmp_path, "fp32") and has_onnx(tmp_path, "int8")  # loading reports what is wrong


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"null"])
def test_a_damaged_about_file_is_one_line_and_auto_takes_torch(content, tiny_run, tmp_path, capsys):
    folder = shutil.copytree(tiny_run / "model", tmp_path / "model")
    path = folder / "onnx" / "about.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_predictor(str(folder), "onnx")
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).endswith(AGAIN) and "\n" not in str(caught.value)
    assert load_predictor(str(folder), "auto").backend_name == "torch on cpu"
    assert capsys.readouterr().err == f"onnx: {caught.value}; using torch instead\n"


def test_a_folder_without_an_onnx_model_names_the_command(tiny_run):
    assert not has_onnx(tiny_run / "model")
    with pytest.raises(ModelError) as caught:
        OnnxPredictor.load(str(tiny_run))
    assert str(caught.value) == f"{tiny_run}: has no ONNX model; create one with `python export.py --model {tiny_run} --onnx`"


def test_a_graph_of_another_number_of_labels_is_refused(tiny_backbones, tmp_path):
    folder = save(tiny_backbones["bert"], tmp_path / "model")
    path = folder / "onnx"
    path.mkdir()
    write_encoder_graph(NumpyPredictor.load(str(folder)), path / "model.onnx", None)
    (path / "about.json").write_text(json.dumps(ABOUT))
    assert OnnxPredictor.open(folder, path).predict(["a"]).shape == (1, 3)
    values = json.loads((folder / "emotion.json").read_text())
    values |= {"labels": ["a", "b"], "decision": {"thresholds": [0.5, 0.5]}}
    (folder / "emotion.json").write_text(json.dumps(values))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError) as caught:
        OnnxPredictor.open(folder, path)
    assert str(caught.value).startswith(f"{path}: its head has 3 labels, its emotion.json 2; ")
