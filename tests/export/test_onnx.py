"""An exported ONNX model gives torch's answers, is refused if it does not, and needs no torch to predict."""

import json
import runpy
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from emotion.errors import ModelError
from emotion.export import onnx_export
from emotion.inference.loading import load_predictor
from emotion.inference.onnx_predictor import OnnxPredictor
from emotion.inference.predictor import Predictor
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT, copy_run, infer_cold, run_script

TEXTS = ["I love this so much!", "NA", "so\x85so 🙃", "I am furious. " * 60, "ok", "\t"]


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """A copy of the tiny run with an fp32 ONNX model, exported by the command that a user types."""
    run, printed = copy_run(tiny_run, tmp_path_factory.mktemp("onnx"), "--onnx", script="export.py")
    assert "on 300 rows (validation) macro-F1 changes by 0.0000" in printed
    return run


def test_onnx_predicts_like_torch(exported):
    ours, theirs = OnnxPredictor.load(str(exported)), Predictor.load(str(exported))
    np.testing.assert_allclose(ours.predict(TEXTS), theirs.predict(TEXTS), atol=1e-5)
    np.testing.assert_allclose(ours.predict(TEXTS[3:4]), ours.predict(TEXTS)[3:4], atol=1e-6)  # a batch of one is a batch of many
    assert (ours.label_set, ours.rule, ours.backend_name) == (theirs.label_set, theirs.rule, "ONNX fp32")


def test_verify_includes_the_onnx_model(exported):
    result = run_script("export.py", "--model", str(exported), "--verify")
    assert result.returncode == 0 and "| ONNX fp32 " in result.stdout and "EXCEEDED" not in result.stdout, result.stderr


@pytest.fixture(scope="module")
def exported_with_torch(tiny_run, tmp_path_factory):
    """A copy of the tiny run with an ONNX model of torch's exporter, which other families than BERT and DistilBERT use."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("onnx") / "run")
    predictor = Predictor.load(str(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "is_numpy_supported", lambda folder: False)
        onnx_export.export_onnx(predictor, str(run), False, TEXTS, predictor.rule.decide(predictor.predict(TEXTS)))
    return run


@pytest.mark.slow
def test_own_graph_computes_what_the_graph_of_torch_computes(exported, exported_with_torch):
    import onnx

    ours, theirs = (onnx.load(run / "model" / "onnx" / "model.onnx") for run in (exported, exported_with_torch))
    onnx.checker.check_model(ours)
    operators = [{node.op_type for node in model.graph.node} for model in (ours, theirs)]
    assert "MultiHeadAttention" in operators[0] and "MultiHeadAttention" not in operators[1]
    logits = [OnnxPredictor.load(str(run)).predict_logits(TEXTS) for run in (exported, exported_with_torch)]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)


def test_a_model_on_another_device_is_exported_and_compared_on_the_cpu(tiny_run, tmp_path, monkeypatch):
    """On a GPU, torch's answers would be those of bf16, from which a graph in float32 differs by more than its bound."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    predictor = Predictor.load(str(run))
    labels = predictor.rule.decide(predictor.predict(TEXTS))
    elsewhere = replace(predictor, device=torch.device("meta"))
    monkeypatch.setattr(onnx_export, "is_numpy_supported", lambda folder: False)
    assert onnx_export.export_onnx(elsewhere, str(run), False, TEXTS, labels).num_flipped == 0
    assert OnnxPredictor.load(str(run)).backend_name == "ONNX fp32"


def test_int8_is_written_only_if_macro_f1_on_validation_stays(exported, tiny_run, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    predictor, texts = Predictor.load(str(run)), [f"text {i}" for i in range(40)]
    labels = predictor.rule.decide(predictor.predict(texts))
    monkeypatch.setattr(onnx_export, "MAX_F1_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match=r"refused, on 40 rows macro-F1 changes by .*; export without --int8"):
        onnx_export.export_onnx(predictor, str(run), True, texts, labels)
    assert not (run / "model" / "onnx").exists()
    monkeypatch.setattr(onnx_export, "MAX_F1_DIFFERENCE", 1.0)
    agreement = onnx_export.export_onnx(predictor, str(run), True, texts, labels)
    about = json.loads((run / "model" / "onnx" / "about.json").read_text())
    assert about["precision"] == "int8" and about["num_rows"] == 40 and about["macro_f1_difference"] == agreement.macro_f1_difference
    sizes = [(folder / "model" / "onnx" / "model.onnx").stat().st_size for folder in (run, exported)]
    assert sizes[0] < 0.75 * sizes[1]
    assert load_predictor(str(run), "auto").backend_name == "torch on cpu" and load_predictor(str(run), "onnx").backend_name == "ONNX int8"


@pytest.fixture(scope="module")
def int8(tiny_run, tmp_path_factory):
    """A copy of the tiny run with an int8 ONNX model."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("int8") / "run")
    predictor = Predictor.load(str(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "MAX_F1_DIFFERENCE", 1.0)
        onnx_export.export_onnx(predictor, str(run), True, TEXTS, predictor.rule.decide(predictor.predict(TEXTS)))
    return run


def test_unchanged_onnx_model_passes_its_self_check(int8, exported):
    for run, precision in ((int8, "int8"), (exported, "fp32")):
        about = json.loads((run / "model" / "onnx" / "about.json").read_text())
        assert OnnxPredictor.load(str(run)).backend_name == f"ONNX {precision}"
        stored = about["self_check"]
        assert len(stored["texts"]) == len(stored["logits"]) == 8 and len(stored["logits"][0]) == 28
        assert 0 < stored["max_rms_difference"] < 0.5 and (precision == "int8" or stored["max_rms_difference"] == 1e-3)
        torch_logits = Predictor.load(str(run)).predict_logits(stored["texts"])
        np.testing.assert_allclose(stored["logits"], torch_logits, atol=1e-6)  # the bound is on the distance from torch


def double_weights(path):
    """Double the distance of int8 weights from their zero point, clipped to 0 and 255."""
    import onnx

    model = onnx.load(path)
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == np.uint8 and values.ndim == 2:
            doubled = np.clip(2 * (values.astype(int) - 128) + 128, 0, 255).astype(np.uint8)
            constant.CopyFrom(onnx.numpy_helper.from_array(doubled, constant.name))
    onnx.save(model, path)


def permute_weights(path):
    """Turn the graph into that of another model: same shapes and vocabulary, other weights."""
    import onnx

    model = onnx.load(path)
    generator = np.random.default_rng(0)
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.ndim == 2 and values.dtype != np.int64:
            constant.CopyFrom(onnx.numpy_helper.from_array(generator.permuted(values, axis=0), constant.name))
    onnx.save(model, path)


@pytest.mark.parametrize(("precision", "damage"), [("int8", double_weights), ("int8", permute_weights), ("fp32", permute_weights)])
def test_changed_onnx_model_is_refused(precision, damage, int8, exported, tmp_path):
    run = shutil.copytree(int8 if precision == "int8" else exported, tmp_path / "run")
    damage(run / "model" / "onnx" / "model.onnx")
    result = run_script("infer.py", "--model", str(run), "--backend", "onnx", "--text", "a")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    for part in ("(root mean square) from torch's, at most", "on this CPU (", "export it again", "--backend torch"):
        assert part in result.stderr
    if precision == "fp32":  # which --backend auto chooses for lines of stdin
        result = run_script("infer.py", "--model", str(run), "--json", stdin="I love it\n")
        assert result.returncode == 0 and "using torch instead" in result.stderr and "(torch on cpu)" in result.stderr
        assert json.loads(result.stdout)["labels"] is not None


def test_onnx_model_of_other_weights_is_refused(exported, tmp_path):
    """The folder's weights were replaced after the export."""
    run = shutil.copytree(exported, tmp_path / "run")
    weights = run / "model" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: value + 0.01 for name, value in tensors.items()}, weights)
    with pytest.raises(ModelError, match=r"exported from other weights than the folder holds now; export it again with"):
        OnnxPredictor.load(str(run))


def test_onnx_models_of_older_versions(int8, exported, tmp_path):
    """Without a self-check an fp32 model is loaded, but an int8 model, whose weights may be signed, is refused."""
    for source, is_accepted in ((exported, True), (int8, False)):
        run = shutil.copytree(source, tmp_path / source.parent.name)
        path = run / "model" / "onnx" / "about.json"
        about = json.loads(path.read_text())
        del about["self_check"], about["weights"]
        about["form"] = about.pop("precision")
        path.write_text(json.dumps(about))
        if is_accepted:
            assert OnnxPredictor.load(str(run)).backend_name == "ONNX fp32"
        else:
            with pytest.raises(ModelError, match=r"has no self-check; export it again with .*export\.py .* --onnx --int8"):
                OnnxPredictor.load(str(run))


def test_infer_uses_the_fp32_onnx_model_for_lines_and_imports_no_torch(exported):
    record, stderr = infer_cold(exported, "--explain", stdin="I love it\n")
    expected = Predictor.load(str(exported)).predict(["I love it"])[0]
    assert "(ONNX fp32)" in stderr
    assert list(record["probabilities"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


def test_one_process_at_a_time_exports_into_a_run(tiny_run, tmp_path, monkeypatch, capsys):
    """Both would write the same temporary folder."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["export.py", "--model", str(run), "--onnx"])
    with RunFolder(run).hold(), pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "export.py"), run_name="__main__")
    line = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and line.startswith(f"error: {run}: is being written by process ")
    assert line.endswith("; wait for it, or choose another run.name=NAME") and not (run / "model" / "onnx").exists()


def test_missing_onnx_model_is_one_line(tiny_run):
    result = run_script("infer.py", "--model", str(tiny_run), "--backend", "onnx", "--text", "a")
    assert result.returncode == 2 and f"python export.py --model {tiny_run} --onnx" in result.stderr and "Traceback" not in result.stderr


def test_a_backbone_that_torch_cannot_export_is_one_line_with_the_cause(tiny_run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Failed. \x1b[96mThis is step 1/3\x1b[0m\nOpen an issue") from ValueError("no rule for roll\nsee https://x")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(ModelError) as caught:
        onnx_export._export_with_torch(Predictor.load(str(tiny_run)))
    assert str(caught.value) == "--onnx: torch cannot export this backbone (no rule for roll); use the model with torch"


def test_onnx_scores_files(exported, tmp_path):
    (tmp_path / "a.csv").write_text("text\nI love it\nno\n")
    outputs = []
    for backend in ("torch", "onnx"):
        output = tmp_path / f"{backend}.csv"
        arguments = ["--input", str(tmp_path / "a.csv"), "--output", str(output), "--backend", backend, "--probabilities", "3"]
        result = run_script("evaluate.py", "--model", str(exported), *arguments)
        assert result.returncode == 0, result.stderr
        outputs.append(output.read_text())
    assert outputs[0].splitlines()[0] == outputs[1].splitlines()[0] and outputs[0].count("\n") == outputs[1].count("\n") == 3
