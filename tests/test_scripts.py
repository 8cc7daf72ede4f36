"""The scripts, run as a user runs them."""

import gzip
import json
import runpy
import shlex
import shutil
import signal
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from emotion.errors import DataError
from emotion.evaluation.metrics import score_predictions
from emotion.inference.predictor import Predictor
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT, SAMPLE, copy_run, run_processes, run_script, start_script

TEXTS = ["I love this so much!", "NA", "so\x85so 🙃", "I am furious. " * 60, "ok"]
PLOTS = ("confusions", "label_f1", "confusion_matrices", "co_occurrence", "precision_recall", "reliability", "thresholds")


def build_train_arguments(tiny_bert, folder, *overrides):
    """Return the arguments that train the tiny BERT for one epoch."""
    settings = [f"model.backbone={tiny_bert}", f"run.folder={folder}", "training.per_device_batch_size=64", "training.epochs=1"]
    return ["train.py", "--config", "configs/quickstart.yaml", *settings, *overrides]


def test_run_folder_has_exactly_the_documented_files(tiny_run):
    files = {str(path.relative_to(tiny_run)) for path in tiny_run.rglob("*") if path.is_file()}
    report = {
        f"report/validation/{name}"
        for name in ("index.html", "table.txt", "metrics.json", "per_label.csv", *(f"{plot}.png" for plot in PLOTS))
    }
    names = ("README.md", "config.json", "emotion.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    model = {f"model/{name}" for name in names}
    top = {"config.yaml", "environment.json", "metrics.jsonl", "efficiency.json", "predictions/validation.parquet", "report/training.png"}
    top |= {".lock", "rows.parquet"}
    assert {name for name in files if not name.startswith(("report/test", "predictions/test"))} == report | model | top
    for path in (tiny_run / name for name in report if name.endswith(".png")):
        with Image.open(path) as plot:
            assert min(plot.size) > 500 and len(plot.convert("L").getcolors()) > 20, path


def test_training_learns_and_logs(tiny_run):
    rows = RunFolder(tiny_run).read_metrics()
    steps = [row for row in rows if row["kind"] == "train"]
    validations = [row for row in rows if row["kind"] == "validation"]
    assert [row["step"] for row in steps] == [20, 40, 42] and [row["epoch"] for row in validations] == [1, 2]
    chance = pd.read_csv(SAMPLE / "validation.csv").labels.str.get_dummies("|").to_numpy().mean()
    assert validations[-1]["macro_average_precision"] > 1.3 * chance  # a random ranking scores the base rate
    assert steps[-1]["learning_rate"] < steps[0]["learning_rate"]
    assert steps[-1]["examples_seen"] == 2_600
    efficiency = json.loads((tiny_run / "efficiency.json").read_text())
    assert efficiency["examples_seen"] == 2_600 and 0 < efficiency["padding_share"] < 0.2
    assert efficiency["trainable_parameters"] == efficiency["parameters"] > 50_000
    assert efficiency["model_size"] > 4 * efficiency["parameters"] and efficiency["peak_memory"] > 2**27


def test_resolved_config_and_environment_are_saved(tiny_run):
    config = yaml.safe_load((tiny_run / "config.yaml").read_text())
    assert config["training"]["epochs"] == 2 and config["training"]["head_learning_rate"] == 2e-3 and config["run"]["name"] == "tiny"
    environment = json.loads((tiny_run / "environment.json").read_text())
    assert environment["packages"]["torch"] and "training.epochs=2" in environment["command"]


def test_predictions_rule_and_report_agree(tiny_run):
    frame = pd.read_parquet(tiny_run / "predictions" / "validation.parquet")
    names = [column for column in map(str, frame) if column != "id" and not column.startswith("gold:")]
    assert frame.id.tolist() == pd.read_csv(SAMPLE / "validation.csv").id.tolist() and len(names) == 28
    predictor = Predictor.load(str(tiny_run))
    labels, probabilities = frame[[f"gold:{name}" for name in names]].to_numpy(bool), frame[names].to_numpy()
    scores = score_predictions(labels, predictor.rule.decide(probabilities))
    report = json.loads((tiny_run / "report" / "validation" / "metrics.json").read_text())
    assert report["at_decision_rule"] == pytest.approx(scores)
    assert "validation split" in report["decision"]["fitted_on"] and "300 rows" in report["decision"]["fitted_on"]
    texts = pd.read_csv(SAMPLE / "validation.csv", keep_default_na=False).text.tolist()
    np.testing.assert_allclose(predictor.predict(texts), probabilities, atol=1e-5)  # the saved model is the scored model


def test_saved_model_gives_the_same_probabilities_in_a_plain_pipeline(tiny_run):
    from transformers import pipeline

    predictor = Predictor.load(str(tiny_run))
    classify = pipeline("text-classification", model=str(tiny_run / "model"), top_k=None)
    expected = predictor.predict(TEXTS)
    for row, predictions in enumerate(classify(TEXTS, truncation=True, max_length=predictor.sidecar.max_length)):
        assert len(predictions) == 28
        for prediction in predictions:
            assert prediction["score"] == pytest.approx(expected[row, predictor.label_set.columns[prediction["label"]]], abs=1e-5)


def test_evaluate_scores_the_test_split_with_the_stored_rule(tiny_run):
    rule = json.loads((tiny_run / "model" / "emotion.json").read_text())["decision"]
    result = run_script("evaluate.py", "--model", str(tiny_run), "--split", "test")
    assert result.returncode == 0, result.stderr
    report = json.loads((tiny_run / "report" / "test" / "metrics.json").read_text())
    assert report["decision"] == rule and report["num_rows"] == 400
    assert f"{report['at_decision_rule']['macro_f1']:.3f}" in result.stdout
    assert pd.read_parquet(tiny_run / "predictions" / "test.parquet").id.tolist() == pd.read_csv(SAMPLE / "test.csv").id.tolist()


@pytest.mark.slow
def test_thresholds_do_not_depend_on_test_rows(tiny_bert, tmp_path):
    """Runs that differ only in their test rows have byte-identical models."""
    folders = []
    for name in ("first", "second"):
        data = tmp_path / name
        shutil.copytree(SAMPLE, data)
        if name == "second":
            lines = (data / "test.csv").read_text().splitlines()
            (data / "test.csv").write_text("\n".join([lines[0], *lines[:0:-2]]) + "\n")
        result = run_script(
            *build_train_arguments(tiny_bert, tmp_path / "runs", f"run.name={name}", f"data.source={data}", "data.train_fraction=.3")
        )
        assert result.returncode == 0, result.stderr
        folders.append(tmp_path / "runs" / name / "model")
    first, second = (json.loads((folder / "emotion.json").read_text()) for folder in folders)
    assert first["decision"].pop("fitted_on") != second["decision"].pop("fitted_on")  # it contains the name of the folder
    assert first == second
    assert (folders[0] / "model.safetensors").read_bytes() == (folders[1] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["out", "report-0.5"])
def test_evaluate_reports_on_a_labelled_file(name, tiny_run, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("what,feeling\nI love it,love\nNo!,anger|annoyance\n")
    arguments = ["--input", str(path), "--output", str(tmp_path / name), "data.text_column=what", "data.label_column=feeling"]
    result = run_script("evaluate.py", "--model", str(tiny_run / "model"), *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / name / "report" / "own" / "metrics.json").read_text())
    assert report["num_rows"] == 2


def test_scoring_a_file_without_any_usable_row_ends_with_status_1(tiny_run, tmp_path):
    path = tmp_path / "empty.csv"
    path.write_text('id,text\n1,\n2," "\n')
    result = run_script("evaluate.py", "--model", str(tiny_run / "model"), "--input", str(path), "--output", str(tmp_path / "scored.csv"))
    assert result.returncode == 1 and "no row could be scored" in result.stderr, result.stderr


OUTPUTS = {  # True: a file of scored rows; False: a folder for a report; None: refused
    True: ("-", "a.csv", "A.CSV", "a.jsonl", "a.parquet", "a.xlsx", "a.csv.gz", "a.jsonl.zst", "a.b/c.d.csv", "new.v2.csv"),
    False: ("out", "report-0.5", "run.v2", "a.csv/b", "2024.05.01", "folder.csv", "folder.tsv", "a.md"),
    None: ("a.tsv", "a.txt", "a.json", "a.xls", "a.zip", "a.ndjson", "a.feather", "a.tsv.gz", "a.gz", "a.parquet.gz", "A.TSV", "a.csv.bz2"),
}


@pytest.mark.parametrize(("output", "expected"), [(output, expected) for expected, outputs in OUTPUTS.items() for output in outputs])
def test_output_is_a_scored_file_a_folder_or_refused(output, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder.csv", "folder.tsv"):
        (tmp_path / name).mkdir()
    is_scored_file = runpy.run_path(str(ROOT / "evaluate.py"))["is_scored_file"]
    if expected is None:
        with pytest.raises(DataError, match=r"allowed are \.csv, \.jsonl, \.parquet, \.xlsx; \.csv and \.jsonl also with \.gz or \.zst"):
            is_scored_file(output)
    else:
        assert is_scored_file(output) is expected


@pytest.mark.slow
def test_refit_stores_another_rule_in_the_model(tiny_run, tmp_path):
    run, _ = copy_run(tiny_run, tmp_path, "--split", "test")
    for options in (["--split", "test", "--taxonomy", "ekman"], ["--behaviour"]):
        assert run_script("evaluate.py", "--model", str(run), *options).returncode == 0
    card, added = run / "model" / "README.md", "## Ethics\n\nAsk before you use it.\n"
    card.write_text(f"{card.read_text()}\n## Verified\n\nat the earlier rule\n\n{added}".replace("tags:", "thumbnail: a.png\ntags:"))
    result = run_script("export.py", "--model", str(run), "--refit", "decision.maximize=micro_f1", "decision.empty_set=top1")
    assert result.returncode == 0 and "the report of validation and test were written again" in result.stdout, result.stderr
    last = " ".join(result.stdout.split())
    assert last.endswith(
        f"still of the earlier rule: {run}/report/test-ekman, {run}/report/behaviour; write them again by evaluate.py, as they were written"
    )
    rules = [json.loads((folder / "model" / "emotion.json").read_text()) for folder in (tiny_run, run)]
    assert len(set(rules[1]["decision"]["thresholds"])) == 1 < len(set(rules[0]["decision"]["thresholds"]))
    assert rules[1]["decision"]["empty_set"] == "top1"
    report = json.loads((run / "report" / "validation" / "metrics.json").read_text())
    assert rules[1]["validation"]["micro_f1_tuned"] == report["at_decision_rule"]["micro_f1"]
    test_report = json.loads((run / "report" / "test" / "metrics.json").read_text())
    assert f"| micro-F1 | {test_report['at_decision_rule']['micro_f1']:.3f} |" in (run / "model" / "README.md").read_text()
    assert card.read_text().count(added) == card.read_text().count("thumbnail: a.png") == 1 and "## Verified" not in card.read_text()
    assert test_report["decision"] == rules[1]["decision"]
    assert {key for key in rules[0] if rules[0][key] != rules[1][key]} == {"decision", "validation"}
    assert RunFolder(run).read_config().decision.maximize == "micro_f1"
    refused = run_script("export.py", "--model", str(run), "--refit", "training.epochs=3")
    assert refused.returncode == 2 and "--refit: takes decision.maximize" in refused.stderr and refused.stderr.count("\n") == 2


def test_infer_prints_a_table_and_json_lines(tiny_run):
    arguments = ["infer.py", "--model", str(tiny_run), "--text", TEXTS[0], "--text", TEXTS[3]]
    table = run_script(*arguments, "--top-k", "3")
    assert table.returncode == 0, table.stderr
    predictor = Predictor.load(str(tiny_run))
    expected = predictor.predict([TEXTS[0], TEXTS[3]])
    is_shown = predictor.rule.decide(expected)  # the predicted labels are shown beside the three most likely
    np.put_along_axis(is_shown, np.argsort(-expected, axis=1)[:, :3], True, axis=1)
    assert TEXTS[0] in table.stdout and "%" in table.stdout and table.stdout.count("(from") == is_shown.sum()
    lines = [json.loads(line) for line in run_script(*arguments, "--json").stdout.splitlines()]
    assert [line["text"] for line in lines] == [TEXTS[0], TEXTS[3]]
    for line, probabilities in zip(lines, expected, strict=True):
        assert list(line["probabilities"].values()) == pytest.approx(sorted(probabilities, reverse=True), abs=1e-4)


def test_infer_reads_stdin_and_applies_the_threshold(tiny_run):
    result = run_script("infer.py", "--model", str(tiny_run), "--json", "--threshold", "0.001", "--top-k", "2", stdin="one\nNA\n🙃\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["one", "NA", "🙃"]
    assert all(len(line["labels"]) > 20 and len(line["probabilities"]) == 2 for line in lines)


def test_infer_loads_the_newest_finished_run(tiny_run, tmp_path):
    (tmp_path / "runs").symlink_to(tiny_run.parent)
    result = run_script(str(ROOT / "infer.py"), "--text", "hello", folder=tmp_path)
    assert result.returncode == 0 and "model: runs/tiny" in result.stderr


@pytest.mark.slow
def test_skipped_rows_are_listed_in_the_run(tiny_bert, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(SAMPLE, data)
    with (data / "train.csv").open("a") as stream:
        stream.write("x1,,joy,chat\nx2,a text,joyy,chat\n")
    names = set(pd.read_csv(SAMPLE / "train.csv").labels.dropna().str.split("|").sum())
    (data / "labels.txt").write_text("\n".join(sorted(names)))
    arguments = build_train_arguments(tiny_bert, tmp_path / "runs", f"data.source={data}", "run.name=a")
    stopped = run_script(*arguments)
    assert stopped.returncode == 2 and "train.csv:1302: empty text" in stopped.stderr
    assert "train.csv:1303: unknown label 'joyy'" in stopped.stderr
    result = run_script(*arguments, "data.on_bad_row=skip", "run.name=b", "data.train_fraction=.2")
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "runs" / "b" / "quarantine.tsv").read_text().splitlines()) == 3
    assert not (tmp_path / "runs" / "a").exists()


BOX = f"{ROOT}/models/goemotions-minilm"
MISTAKES = {
    "train: unknown key": (["train.py", "--config", "configs/quickstart.yaml", "training.epoch=1"], "did you mean training.epochs?"),
    "train: no such config": (["train.py", "--config", "configs/none.yaml"], "cannot be read"),
    "train: no such data": (["train.py", "--config", "configs/quickstart.yaml", "data.source=./none"], "no such file or folder"),
    "train: no such backbone": (["train.py", "--config", "configs/quickstart.yaml", "model.backbone=./none"], "no such folder"),
    "train: fp16 on a CPU": (["train.py", "--config", "configs/quickstart.yaml", "training.precision=fp16"], "needs a GPU"),
    "train: unreachable Hub": (
        ["train.py", "--config", "configs/quickstart.yaml", "model.backbone=someone/none"],
        "not in the cache of the Hub",
    ),
    "evaluate: no such model": (["evaluate.py", "--model", "runs/none"], "no such folder"),
    "evaluate: not a model": (["evaluate.py", "--model", "configs"], "finished model"),
    "evaluate: a setting of the model": (["evaluate.py", "model.backbone=other"], "model.backbone=other: has no effect here"),
    "evaluate: a length": (["evaluate.py", "data.max_length=8"], "data.max_length=8: has no effect here"),
    "evaluate: bad rows of a scored file": (
        ["evaluate.py", "--input", "a.csv", "--output", "o.csv", "data.on_bad_row=skip"],
        "data.on_bad_row=skip: has no effect here; allowed are data.encoding, data.escape",
    ),
    "evaluate: threshold": (["evaluate.py", "--threshold", "1"], "must be in (0, 1)"),
    "evaluate: a file without a folder for its report": (["evaluate.py", "--input", "a.csv"], "give --output FOLDER too"),
    "evaluate: two files for one report": (["evaluate.py", "--input", "a.csv", "b.csv", "--output", "out"], "got 2; to score files give"),
    "evaluate: a backend of a report": (
        ["evaluate.py", "--split", "test", "--backend", "onnx"],
        "--backend onnx: a report is of the model in torch; score the labelled rows with --input FILE --output FILE.csv, which writes",
    ),
    "evaluate: parts of a report": (["evaluate.py", "--part-rows", "9"], "--part-rows: is for scored files; give --output FILE.csv"),
    "evaluate: a split and a file": (
        ["evaluate.py", "--input", "a.csv", "--output", "out", "--split", "test"],
        "--split test: is a split of the run's data, and --input names a file; leave one of them out",
    ),
    "evaluate: a scored file without texts": (
        ["evaluate.py", "--input", "a.csv", "--output", "o.csv", "--no-texts"],
        "--no-texts: is for reports; a scored file has all rows and columns of its input, so leave it out",
    ),
    "evaluate: apostrophes in Excel": (
        ["evaluate.py", "--input", "none.csv", "--output", "a.csv.xlsx", "--excel-safe"],
        "--excel-safe: is for scored csv files",
    ),
    "evaluate: apostrophes in CSV": (
        ["evaluate.py", "--input", "none.csv", "--output", "a.CSV", "--excel-safe"],
        "--input none.csv: no such file",  # the options are right
    ),
    "evaluate: a file into the model": (
        ["evaluate.py", "--model", BOX, "--input", "emotion/data/sample/test.csv", "--output", f"{BOX}/../goemotions-minilm"],
        "is the folder of the model, whose own reports are kept; choose another folder",
    ),
    "export: a split and a file": (["export.py", "--verify", "--input", "a.csv", "--split", "test"], "--input names a file; leave one"),
    "export: rows that are not read": (
        ["export.py", "--refit", "--split", "test"],
        "--split: is an option of --verify or --merge or --onnx or --half, got --refit",
    ),
    "export: no such model": (["export.py", "--model", "runs/none", "--verify"], "no such folder"),
    "export: no task": (["export.py", "--model", "runs/none"], "give one of --verify, --merge FOLDER, --onnx, --half FOLDER, --refit"),
    "export: two tasks": (["export.py", "--onnx", "--verify"], "got --verify and --onnx"),
    "export: int8 without onnx": (["export.py", "--verify", "--int8"], "--int8: is an option of --onnx, got --verify"),
    "export: dry run without push": (["export.py", "--onnx", "--dry-run"], "--dry-run: is an option of --push or --push-space, got --onnx"),
    "export: merge into an existing folder": (["export.py", "--merge", "configs"], "exists already"),
    "train: longer than the positions": (["train.py", "--config", "configs/quickstart.yaml", "data.max_length=600"], "at most 512 tokens"),
    "audit: no such run": (["audit.py", "--run", "runs/none", "--output", "o"], "--run runs/none: is not a run folder (no config.yaml)"),
    "audit: fewer than two folds": (["audit.py", "--run", "runs/a", "--output", "o", "--folds", "1"], "--folds 1: must be at least 2"),
    "infer: no such model": (["infer.py", "--model", "./none", "--text", "a"], "no such folder"),
    "infer: threshold": (["infer.py", "--text", "a", "--threshold", "3"], "must be in (0, 1)"),
    "infer: empty text": (["infer.py", "--text", " "], "is empty"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line_and_status_2(case, tmp_path, monkeypatch, capsys):
    """The script runs in this process, which has everything imported; `test_hub.py` and others test mistakes in a process of their own."""
    (script, *arguments), message = MISTAKES[case]
    for name in ("configs", "emotion"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    for name, value in {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert stopped.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert {path.name for path in tmp_path.iterdir()} == {"configs", "emotion"}  # no partial file is left


MOVED = {
    "--verify": "--verify",
    "--verify --split test": "--verify --split test",
    "--verify --merge out": "--verify --merge out",
    "--export onnx": "--onnx",
    "--export=onnx --int8": "--onnx --int8",
    "--export onnx --input 'my rows.csv' data.text_column=body": "--onnx --input 'my rows.csv' data.text_column=body",
    "--push you/model --dry-run": "--push you/model --dry-run",
    "--refit decision.maximize=micro_f1": "--refit decision.maximize=micro_f1",
}


@pytest.mark.parametrize("options", MOVED)
def test_moved_option_of_evaluate_is_answered_with_the_command_of_export(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--model", "runs/a b", *shlex.split(options)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert error.endswith(f"moved to export.py; run `python export.py --model 'runs/a b' {MOVED[options]}`\n")
    command = error.split("`")[1]
    monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
    runpy.run_path(str(ROOT / "export.py"))["parse_arguments"]()  # export.py accepts it


def test_labels_that_are_not_utf8_and_a_damaged_archive_are_one_line(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,0\nb,1\n")
    (tmp_path / "labels.txt").write_bytes(b"j\xf6y\nfear\n")
    result = run_script("train.py", "--config", "configs/quickstart.yaml", f"data.source={tmp_path}")
    assert result.returncode == 2 and "labels.txt: cannot be read" in result.stderr and "Traceback" not in result.stderr
    (tmp_path / "damaged.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,0\n" * 5_000)[:20] + b"\xff" * 20)
    result = run_script("train.py", "--config", "configs/quickstart.yaml", f"data.source={tmp_path / 'damaged.csv.gz'}")
    assert result.returncode == 2 and "damaged.csv.gz: cannot be read" in result.stderr and "Traceback" not in result.stderr


def test_output_folder_that_is_a_file_is_one_line(tiny_run, tmp_path):
    (tmp_path / "out").touch()
    result = run_script("evaluate.py", "--model", str(tiny_run), "--output", str(tmp_path / "out"))
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        2,
        f"error: --output {tmp_path / 'out'}: {tmp_path / 'out'} is a file; name a folder",
    )


def test_evaluating_validation_again_keeps_the_predictions_of_training(tiny_run):
    path = tiny_run / "predictions" / "validation.parquet"
    before = path.stat().st_mtime_ns
    assert run_script("evaluate.py", "--model", str(tiny_run), "--split", "validation").returncode == 0
    assert path.stat().st_mtime_ns == before


def test_a_finished_run_is_never_overwritten(tiny_bert, tiny_run):
    result = run_script(*build_train_arguments(tiny_bert, tiny_run.parent, "run.name=tiny"))
    assert result.returncode == 2 and "exists already" in result.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_model(tiny_bert, tmp_path):
    script = start_script(*build_train_arguments(tiny_bert, tmp_path, "run.name=cut", "training.epochs=200"))
    metrics = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.time() + 120
    while not metrics.exists() and script.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    script.send_signal(signal.SIGINT)
    assert script.wait(120) == 130
    *_, last = script.outputs[1].read_text().splitlines()
    assert last.startswith("interrupted; go on with: python train.py --config configs/quickstart.yaml ")
    assert last.endswith(" training.epochs=200 run.name=cut --resume")
    assert json.loads((tmp_path / "cut" / "efficiency.json").read_text())["examples_seen"] < 200 * 1_300
    assert Predictor.load(str(tmp_path / "cut")).predict(["I am glad"]).shape == (1, 28)


@pytest.mark.slow
def test_two_processes_train_one_run_and_count_every_row_once(tiny_bert, tmp_path):
    arguments = build_train_arguments(
        tiny_bert, tmp_path, "run.name=two", "training.gradient_accumulation_steps=2", "training.per_device_batch_size=16"
    )
    results = run_processes(*arguments)
    assert [result.returncode for result in results] == [0, 0], results[0].stderr
    assert "2 process(es)" in results[0].stdout
    frame = pd.read_parquet(tmp_path / "two" / "predictions" / "validation.parquet")
    texts = pd.read_csv(SAMPLE / "validation.csv", keep_default_na=False).text.tolist()
    np.testing.assert_allclose(Predictor.load(str(tmp_path / "two")).predict(texts), frame.iloc[:, 29:].to_numpy(), atol=1e-5)
    steps = [row for row in RunFolder(tmp_path / "two").read_metrics() if row["kind"] == "train"]
    assert steps[-1]["step"] == 21 and steps[-1]["examples_seen"] == 1_300  # batches of 2 x 2 x 16


@pytest.mark.slow
def test_two_processes_and_fewer_validation_rows_than_a_batch(tiny_bert, tmp_path):
    """One process has no batch to predict, and must not leave the other waiting."""
    shutil.copytree(SAMPLE, tmp_path / "data")
    lines = (SAMPLE / "validation.csv").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "validation.csv").write_text("".join(lines[:40]))
    arguments = build_train_arguments(tiny_bert, tmp_path, "run.name=two", f"data.source={tmp_path / 'data'}", "data.train_fraction=0.2")
    results = run_processes(*arguments)
    assert [result.returncode for result in results] == [0, 0], results[0].stderr
    assert (tmp_path / "two" / "efficiency.json").is_file()
