"""The ONNX form answers like torch's, is refused where it does not, and needs no torch to answer."""

import json
import shutil

import numpy as np
import pytest

from emotion.errors import ModelError
from emotion.inference import export
from emotion.inference.loading import load_predictor
from emotion.inference.onnx_predictor import OnnxPredictor
from emotion.inference.predictor import Predictor
from tests.conftest import copy_run, infer_cold, run_script

TEXTS = ["I love this so much!", "NA", "so\x85so 🙃", "I am furious. " * 60, "ok", "\t"]


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """A copy of the tiny run, with its ONNX form made by the command that a user types."""
    run, printed = copy_run(tiny_run, tmp_path_factory.mktemp("onnx"), "--export", "onnx")
    assert "on 300 rows (validation) macro-F1 moves by 0.0000" in printed
    return run


def test_onnx_answers_like_torch(exported):
    ours, theirs = OnnxPredictor.load(str(exported)), Predictor.load(str(exported))
    np.testing.assert_allclose(ours.predict(TEXTS), theirs.predict(TEXTS), atol=1e-5)
    np.testing.assert_allclose(ours.predict(TEXTS[3:4]), ours.predict(TEXTS)[3:4], atol=1e-6)  # alone as in company
    assert (ours.label_set, ours.rule, ours.form) == (theirs.label_set, theirs.rule, "ONNX fp32")


def test_verify_holds_the_onnx_form_to_the_others(exported):
    result = run_script("evaluate.py", "--model", str(exported), "--verify")
    assert result.returncode == 0 and "ONNX fp32" in result.stdout and "EXCEEDED" not in result.stdout, result.stderr


@pytest.fixture(scope="module")
def by_torch(tiny_run, tmp_path_factory):
    """The same by torch's exporter, as for models whose operators are not known here."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("onnx") / "run")
    predictor = Predictor.load(str(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "has_numpy", lambda folder: False)
        export.export_onnx(predictor, str(run), False, TEXTS, predictor.rule.decide(predictor.predict(TEXTS)))
    return run


def test_a_graph_of_our_own_is_that_of_the_exporter(exported, by_torch):
    import onnx

    ours, theirs = (onnx.load(run / "model" / "onnx" / "model.onnx") for run in (exported, by_torch))
    onnx.checker.check_model(ours)
    kinds = [{node.op_type for node in model.graph.node} for model in (ours, theirs)]
    assert "MultiHeadAttention" in kinds[0] and "MultiHeadAttention" not in kinds[1]
    logits = [OnnxPredictor.load(str(run)).predict_logits(TEXTS) for run in (exported, by_torch)]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)


def test_int8_is_made_only_if_validation_stays(exported, tiny_run, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    predictor, texts = Predictor.load(str(run)), [f"text {i}" for i in range(40)]
    labels = predictor.rule.decide(predictor.predict(texts))
    monkeypatch.setattr(export, "MAX_F1_DIFFERENCE", -1.0)
    with pytest.raises(ModelError, match="refused, on 40 validation rows macro-F1 moves by"):
        export.export_onnx(predictor, str(run), True, texts, labels)
    assert not (run / "model" / "onnx").exists()
    monkeypatch.setattr(export, "MAX_F1_DIFFERENCE", 1.0)
    agreement = export.export_onnx(predictor, str(run), True, texts, labels)
    about = json.loads((run / "model" / "onnx" / "about.json").read_text())
    assert about["form"] == "int8" and about["num_rows"] == 40 and about["macro_f1_difference"] == agreement.macro_f1_difference
    sizes = [(folder / "model" / "onnx" / "model.onnx").stat().st_size for folder in (run, exported)]
    assert sizes[0] < 0.75 * sizes[1]
    assert load_predictor(str(run), "auto").form == "torch on cpu" and load_predictor(str(run), "onnx").form == "ONNX int8"


@pytest.fixture(scope="module")
def int8(tiny_run, tmp_path_factory):
    """A copy of the tiny run with an int8 form."""
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("int8") / "run")
    predictor = Predictor.load(str(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "MAX_F1_DIFFERENCE", 1.0)
        export.export_onnx(predictor, str(run), True, TEXTS, predictor.rule.decide(predictor.predict(TEXTS)))
    return run


def test_a_form_that_is_opened_where_it_was_made_passes_its_self_check(int8, exported):
    for run, form in ((int8, "int8"), (exported, "fp32")):
        about = json.loads((run / "model" / "onnx" / "about.json").read_text())
        assert OnnxPredictor.load(str(run)).form == f"ONNX {form}"
        stored = about["self_check"]
        assert len(stored["texts"]) == len(stored["logits"]) == 4 and len(stored["logits"][0]) == 28
        assert 0 < stored["max_logit_difference"] < 0.5 and (form == "int8" or stored["max_logit_difference"] == 1e-3)


def double_weights(path):
    """Write an int8 graph whose weights are twice as far from their zero point, cut at 0 and 255."""
    import onnx

    model = onnx.load(path)
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == np.uint8 and values.ndim == 2:
            doubled = np.clip(2 * (values.astype(int) - 128) + 128, 0, 255).astype(np.uint8)
            constant.CopyFrom(onnx.numpy_helper.from_array(doubled, constant.name))
    onnx.save(model, path)


def take_other_model(path):
    """Write the graph of a model of the same shape and vocabulary with other weights in its place."""
    import onnx

    model = onnx.load(path)
    generator = np.random.default_rng(0)
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.ndim == 2 and values.dtype != np.int64:
            constant.CopyFrom(onnx.numpy_helper.from_array(generator.permuted(values, axis=0), constant.name))
    onnx.save(model, path)


@pytest.mark.parametrize(("form", "damage"), [("int8", double_weights), ("int8", take_other_model), ("fp32", take_other_model)])
def test_a_form_that_answers_otherwise_is_refused_where_it_is_opened(form, damage, int8, exported, tmp_path):
    run = shutil.copytree(int8 if form == "int8" else exported, tmp_path / "run")
    damage(run / "model" / "onnx" / "model.onnx")
    result = run_script("infer.py", "--model", str(run), "--backend", "onnx", "--text", "a")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    for part in ("a logit differs by", "at most", "on this CPU (", "export it again", "--backend torch"):
        assert part in result.stderr
    if form == "fp32":  # which auto takes for lines
        result = run_script("infer.py", "--model", str(run), "--json", stdin="I love it\n")
        assert result.returncode == 0 and "torch answers instead" in result.stderr and "(torch on cpu)" in result.stderr
        assert json.loads(result.stdout)["labels"] is not None


def test_forms_of_older_versions(int8, exported, tmp_path):
    """Without a self-check an fp32 form still answers; an int8 form, whose weights may be signed, does not."""
    for source, is_taken in ((exported, True), (int8, False)):
        run = shutil.copytree(source, tmp_path / source.parent.name)
        path = run / "model" / "onnx" / "about.json"
        about = json.loads(path.read_text())
        del about["self_check"]
        path.write_text(json.dumps(about))
        if is_taken:
            assert OnnxPredictor.load(str(run)).form == "ONNX fp32"
        else:
            with pytest.raises(ModelError, match=r"holds no self-check; export it again with .* --int8"):
                OnnxPredictor.load(str(run))


def test_infer_takes_the_fp32_form_for_lines_by_itself_and_imports_no_torch(exported):
    record, said = infer_cold(exported, "--explain", stdin="I love it\n")
    expected = Predictor.load(str(exported)).predict(["I love it"])[0]
    assert "(ONNX fp32)" in said
    assert list(record["probabilities"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


def test_missing_form_and_adapter_are_one_line(tiny_run):
    result = run_script("infer.py", "--model", str(tiny_run), "--backend", "onnx", "--text", "a")
    assert result.returncode == 2 and f"evaluate.py --model {tiny_run} --export onnx" in result.stderr and "Traceback" not in result.stderr


def test_files_are_scored_by_it(exported, tmp_path):
    (tmp_path / "a.csv").write_text("text\nI love it\nno\n")
    outputs = []
    for backend in ("torch", "onnx"):
        output = tmp_path / f"{backend}.csv"
        words = ["--input", str(tmp_path / "a.csv"), "--output", str(output), "--backend", backend, "--probabilities", "3"]
        result = run_script("evaluate.py", "--model", str(exported), *words)
        assert result.returncode == 0, result.stderr
        outputs.append(output.read_text())
    assert outputs[0].splitlines()[0] == outputs[1].splitlines()[0] and outputs[0].count("\n") == outputs[1].count("\n") == 3
