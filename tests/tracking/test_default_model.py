"""Which model answers if none is named: the newest finished run, or else the bundled one."""

import json
import os
import re

import pytest

from emotion.errors import ConfigError, ModelError
from emotion.evaluation.metrics import score_predictions
from emotion.inference.predictor import Predictor
from emotion.tracking import locating
from emotion.tracking.locating import SHIPPED_MODEL, choose_output, find_default_model
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT, run_script

TEXT = "Thank you so much, you saved my day!"
CHOICE = "no finished run in runs/, so the bundled model"


def write_run(folder, seconds):
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "emotion.json").write_text("{}")
    (folder / "efficiency.json").write_text("{}")
    os.utime(folder / "efficiency.json", (seconds, seconds))


def test_the_newest_finished_run_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert find_default_model(tmp_path)[0] == os.path.relpath(SHIPPED_MODEL)
    for name, seconds in (("new", 2_000), ("old", 1_000)):
        write_run(tmp_path / name, seconds)
    (tmp_path / "unfinished" / "model").mkdir(parents=True)
    write_run(tmp_path / "interrupted", 3_000)
    (tmp_path / "interrupted" / "efficiency.json").write_text('{"interrupted_after_step": 1}')
    os.utime(tmp_path / "interrupted" / "efficiency.json", (3_000, 3_000))
    assert find_default_model(tmp_path) == (str(tmp_path / "new"), "the newest finished run")


def test_a_report_is_not_written_into_the_folder_of_another_run_or_model(tmp_path):
    for name in ("own", "other"):
        write_run(tmp_path / name, 1_000)
        (tmp_path / name / "config.yaml").write_text("")
    own, model = RunFolder(tmp_path / "own"), str(tmp_path / "own" / "model")
    assert choose_output(None, own, model) is choose_output(f"{tmp_path}/own/", own, model) is own
    assert choose_output(f"{tmp_path}/report", own, model) == RunFolder(tmp_path / "report")
    assert choose_output(model, None, model) == RunFolder(tmp_path / "own" / "model")
    (tmp_path / "notes.md").write_text("")
    for path in ("notes.md", "notes.md/report"):
        with pytest.raises(ConfigError, match=f"^--output {tmp_path / path}: {tmp_path / 'notes.md'} is a file; name a folder"):
            choose_output(str(tmp_path / path), own, model)
    for other in (tmp_path / "other", tmp_path / "other" / "model"):
        with pytest.raises(
            ConfigError, match=f"^--output {other}: is the folder of a run or model, whose own predictions and reports are kept"
        ):
            choose_output(str(other), own, model)


def test_an_installed_package_has_no_shipped_model(tmp_path, monkeypatch):
    monkeypatch.setattr(locating, "SHIPPED_MODEL", tmp_path / "models")
    with pytest.raises(ModelError, match=r"no finished run in .*: train one with"):
        find_default_model(tmp_path)


def test_the_scripts_answer_before_anything_is_trained(tmp_path):
    answer = run_script(str(ROOT / "infer.py"), "--json", "--text", TEXT, folder=tmp_path)
    assert answer.stderr == f"model: {SHIPPED_MODEL} (numpy, {CHOICE})\n"
    labels = json.loads(answer.stdout)["labels"]
    assert labels == ["gratitude"]
    (tmp_path / "texts.csv").write_text(f'text\n"{TEXT}"\n')
    scored = run_script(str(ROOT / "evaluate.py"), "--input", "texts.csv", "--output", "scored.csv", folder=tmp_path)
    assert scored.returncode == 0 and f"model: {SHIPPED_MODEL} ({CHOICE})" in scored.stderr
    assert (tmp_path / "scored.csv").read_text().splitlines()[1] == f'"{TEXT}",gratitude'


def test_the_shipped_model_is_complete():
    from safetensors.numpy import load_file

    predictor = Predictor.load(str(SHIPPED_MODEL))
    weights = load_file(SHIPPED_MODEL / "model.safetensors").values()
    assert len(weights) > 100 and {weight.dtype.name for weight in weights if weight.dtype.kind == "f"} == {"float16"}
    run = RunFolder(SHIPPED_MODEL)
    rows, metrics = run.read_predictions("validation"), json.loads((run.report("test") / "metrics.json").read_text())
    assert rows.label_set.names == predictor.label_set.names and len(rows.ids) == 5_426 and metrics["num_rows"] == 5_427
    assert metrics["decision"]["thresholds"] == list(predictor.rule.thresholds)
    assert score_predictions(rows.labels, predictor.rule.decide(rows.probabilities))["macro_f1"] == pytest.approx(
        predictor.sidecar.validation["macro_f1_tuned"]
    )
    card = (SHIPPED_MODEL / "README.md").read_text()
    assert f"macro-F1 | {metrics['at_decision_rule']['macro_f1']:.3f} |" in card and 'emotion.load("models/goemotions-minilm")' in card


def test_nothing_in_the_shipped_model_names_the_machine_that_made_it():
    texts = [path for path in SHIPPED_MODEL.rglob("*") if path.suffix in (".md", ".json", ".csv") and path.name != "tokenizer.json"]
    assert {"README.md", "config.json", "emotion.json", "metrics.json", "per_label.csv"} <= {path.name for path in texts}
    assert [path for path in texts if re.search(r"[\s\"](/|[A-Z]:\\)\w+/", path.read_text())] == []


def test_a_split_needs_a_run(tmp_path):
    refused = run_script(str(ROOT / "evaluate.py"), "--split", "test", folder=tmp_path)
    assert refused.returncode == 2
    reason = "error: --model: is not in a run folder, so its data is not known; give labelled rows with --input FILE"
    assert refused.stderr.splitlines()[-1] == reason
