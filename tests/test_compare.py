"""compare.py, run as a user runs it, on simulated runs of the bundled test split; its page in a browser if one is installed."""

import csv
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emotion.config import load_config, to_dict
from emotion.data.reading import read_dataset
from emotion.evaluation.decision import default_rule
from emotion.evaluation.metrics import score_predictions
from emotion.files import write_json
from emotion.tracking.run_folder import RunFolder
from tests.conftest import ROOT, run_script

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PLOTS = {"accuracy", "confusions", "differences", "labels", "pareto_inference", "pareto_training", "scale"}
TABLES = {"accuracy", "differences", "labels", "efficiency", "scale", "throughput", "confusions", "errors", "slices", "runs"}
RUNS = {  # name: (noise, settings, texts per second)
    "full-seed0": (0.6, [], 100),
    "full-seed1": (0.62, ["training.seed=1"], 100),
    "quarter": (1.2, ["data.train_fraction=0.25"], 100),
    "tfidf": (1.6, ["training.epochs=1", "training.per_device_batch_size=64"], 5_000),
}
RUN_WITHOUT_TORCH = "import runpy, sys; sys.argv[:] = sys.argv[1:]; code = 0\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
RUN_WITHOUT_TORCH += "except SystemExit as stop: code = stop.code\nassert 'torch' not in sys.modules, 'torch was imported'\nsys.exit(code)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of simulated runs, with the files that train.py and evaluate.py write."""
    parent = tmp_path_factory.mktemp("runs")
    dataset = read_dataset(load_config(None).data)
    test = dataset["test"]
    for number, (name, (noise, settings, texts_per_second)) in enumerate(RUNS.items()):
        run = RunFolder(parent / name)
        config = load_config(None, [f"run.folder={parent}", f"run.name={name}", *settings])
        run.path.mkdir()
        run.config.write_text(json.dumps(to_dict(config)))
        logits = np.where(test.labels, 1.2, -1.2) + noise * np.random.default_rng(number).standard_normal(test.labels.shape)
        run.write_predictions("test", test.ids, test.labels, 1 / (1 + np.exp(-logits)), dataset.label_set)
        write_json(run.report("test") / "metrics.json", {"decision": default_rule(28).to_dict()})
        write_json(run.speed("test"), {"texts_per_second": texts_per_second, "milliseconds_per_text": 9.5, "device": "CPU"})
        counts = {"parameters": 100, "trainable_parameters": 100 if "full" in name else 10, "total_seconds": 60.0 + number}
        rates = {"examples_per_second": 50.0, "tokens_per_second": 900.0, "peak_memory": 2**30, "model_size": 10**6, "num_processes": 1}
        write_json(run.efficiency, counts | rates)
        write_json(run.environment, {"device": "NVIDIA <H100>" if name == "tfidf" else "x86_64"})
    return [str(parent / name) for name in RUNS]


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    """The folder of the report and what compare.py printed, in a process that imports no torch."""
    folder = tmp_path_factory.mktemp("comparison")
    result = run_script("-c", RUN_WITHOUT_TORCH, "compare.py", *runs, "--output", str(folder), "--price-per-hour", "0.5")
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Return a function that runs compare.py in this process and returns status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "compare.py"), run_name="__main__")
        return stopped.value.code, *capsys.readouterr()

    return run


def read_table(report, name):
    with (report[0] / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_report_has_exactly_the_documented_files(report):
    names = {path.name for path in report[0].iterdir()}
    assert names == {"report.html", "report.md"} | {f"{name}.png" for name in PLOTS} | {f"{name}.csv" for name in TABLES}
    markdown = (report[0] / "report.md").read_text()
    assert set(re.findall(r"\]\((\w+)\.png\)", markdown)) == PLOTS


@pytest.mark.slow
def test_scores_are_those_of_the_predictions(report, runs):
    rows = {row["model"]: row for row in read_table(report, "accuracy")}
    assert set(rows) == {"full", "quarter", "tfidf"} and rows["full"]["seeds"] == "2"
    frame = pd.read_parquet(Path(runs[2]) / "predictions" / "test.parquet")
    names = [column for column in frame if f"gold:{column}" in frame]
    scores = score_predictions(frame[[f"gold:{name}" for name in names]].to_numpy(bool), frame[names].to_numpy() >= 0.5)
    for metric in ("macro_f1", "micro_recall", "subset_accuracy", "jaccard_samples"):
        assert rows["quarter"][metric].startswith(f"{scores[metric]:.3f} (")
    assert "±" in rows["full"]["macro_f1"] and "±" not in rows["quarter"]["macro_f1"]


@pytest.mark.slow
def test_conclusion_follows_the_tests(report):
    verdicts = {row["pair"]: row["verdict"] for row in read_table(report, "differences") if row["metric"] == "macro_f1"}
    assert len(verdicts) == 3 and verdicts["full - tfidf"] == "full is better"
    assert "full has the highest macro-F1" in report[1] and "better than quarter and tfidf" in report[1]


@pytest.mark.slow
def test_cost_uses_the_given_price(report):
    rows = {row["model"]: row for row in read_table(report, "efficiency")}
    assert rows["tfidf"]["cost per million texts at 0.5/h"] == f"{1e6 / 5_000 / 3_600 * 0.5:.2f}" and rows["tfidf"]["trained"] == "10.0%"


@pytest.mark.slow
def test_training_times_of_different_devices_are_not_in_one_picture(report):
    rows = {row["model"]: row["trained on"] for row in read_table(report, "efficiency")}
    assert rows == {model: "NVIDIA <H100>" if model == "tfidf" else "x86_64" for model in ("full", "quarter", "tfidf")}
    text = (report[0] / "report.md").read_text()
    assert "The cost of training was measured on another device for tfidf (NVIDIA \\<H100\\>); it is not drawn." in text
    assert "Macro-F1 against the cost of training on x86_64." in text and "Macro-F1 against the cost of inference on CPU." in text


def test_errors_are_listed_with_their_texts(report):
    dataset = read_dataset(load_config(None).data)
    texts = dict(zip(dataset["test"].ids, dataset["test"].texts, strict=True))
    rows = read_table(report, "errors")
    assert len(rows) == 10 and all(texts[row["id"]] == row["text"] for row in rows)


def test_single_model_is_reported_without_texts_if_asked(runs, tmp_path, run_here):
    status, output, _ = run_here(runs[2], "--output", str(tmp_path), "--no-texts")
    assert status == 0 and "nothing to compare it with" in output
    assert "text" not in read_table([tmp_path], "errors")[0] and any("words" in row["rows"] for row in read_table([tmp_path], "slices"))


def test_texts_that_a_run_does_not_quote_are_not_quoted_beside_other_runs(runs, tmp_path, run_here):
    run = Path(shutil.copytree(runs[3], tmp_path / "private"))
    config = json.loads((run / "config.yaml").read_text())
    config["run"]["quote_texts"] = False
    (run / "config.yaml").write_text(json.dumps(config))
    status, *_ = run_here(runs[2], str(run), "--output", str(tmp_path / "out"))
    assert status == 0 and "text" not in read_table([tmp_path / "out"], "errors")[0]


def test_thresholds_given_by_hand_are_said(runs, tmp_path, run_here):
    run = Path(shutil.copytree(runs[2], tmp_path / "run"))
    write_json(run / "report" / "test" / "metrics.json", {"decision": default_rule(28).with_overrides(0.4).to_dict()})
    status, _, errors = run_here(str(run), "--output", str(tmp_path / "out"), "--no-texts")
    note = "it was evaluated with one threshold given by hand (--threshold)"
    assert status == 0 and f"run: {note}; `python evaluate.py --model {run} --split test`" in errors
    assert f"**run**: {note.replace('_', chr(92) + '_')}" in (tmp_path / "out" / "report.md").read_text()


def test_another_empty_set_policy_than_the_models_is_said(runs, tmp_path, run_here):
    run = Path(shutil.copytree(runs[2], tmp_path / "run"))
    write_json(run / "report" / "test" / "metrics.json", {"decision": default_rule(28).with_overrides(empty_set="top1").to_dict()})
    status, _, errors = run_here(str(run), "--output", str(tmp_path / "out"), "--no-texts")
    assert status == 0 and "run: it was evaluated with --empty-set top1, which is not the model's; " in errors
    assert "**run**: it was evaluated with --empty-set top1" in (tmp_path / "out" / "report.md").read_text()


def test_nothing_of_an_earlier_comparison_stays(report, runs, tmp_path, run_here):
    shutil.copytree(report[0], tmp_path / "out")
    status, *_ = run_here(runs[2], "--output", str(tmp_path / "out"))
    assert status == 0
    left = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"accuracy", "efficiency", "confusions", "errors", "slices", "runs"}
    assert left == {"report.html", "report.md", "accuracy.png", "confusions.png"} | {f"{name}.csv" for name in tables}


@pytest.mark.parametrize("price", ["0", "-1", "nan", "inf"])
def test_prices_that_cannot_be_used(price, run_here):
    status, _, errors = run_here("any", "--output", "out", "--price-per-hour", price)
    assert (status, errors) == (2, f"error: --price-per-hour {price}: must be above 0, and finite\n")


def test_runs_with_other_test_rows_are_one_line(runs, tmp_path, run_here):
    shutil.copytree(runs[0], tmp_path / "other")
    path = tmp_path / "other" / "predictions" / "test.parquet"
    pd.read_parquet(path).iloc[:-3].to_parquet(path, index=False)
    status, _, errors = run_here(runs[0], str(tmp_path / "other"), "--output", str(tmp_path / "out"))
    assert status == 2 and len(errors.splitlines()) == 1 and "397 ids in common" in errors
    shutil.rmtree(tmp_path / "other" / "predictions")
    status, _, errors = run_here(str(tmp_path / "other"), "--output", str(tmp_path / "out"))
    assert status == 2 and "evaluate.py --model" in errors and not (tmp_path / "out").exists()


@pytest.fixture
def given(runs, tmp_path):
    """Predictions of two models that were not trained here, labels only and probabilities, for the rows of the runs in another order."""
    frame = pd.read_parquet(Path(runs[2]) / "predictions" / "test.parquet")
    names = [column for column in frame if f"gold:{column}" in frame]
    labels = ["|".join(name for name in names if row[name] >= 0.5) for row in frame.to_dict("records")]
    pd.DataFrame({"id": frame.id, "predicted_labels": labels}).iloc[:-5].sample(frac=1, random_state=0).to_csv(
        tmp_path / "labels.csv", index=False
    )
    frame[["id", *names]].sample(frac=1, random_state=1).to_json(tmp_path / "probabilities.jsonl", orient="records", lines=True)
    return [f"--predictions=labels={tmp_path / 'labels.csv'}", "--predictions", f"values={tmp_path / 'probabilities.jsonl'}"]


@pytest.mark.slow
def test_predictions_of_other_models_join_the_report(runs, given, tmp_path, run_here):
    status, output, errors = run_here(runs[2], *given, "--equivalence-margin", "0.02", "--output", str(tmp_path / "out"))
    assert status == 0 and "The predictions of labels and values were read from files" in output
    assert "labels: 5 of 400 test rows are missing and count as rows without labels" in errors
    rows = {row["model"]: row for row in read_table([tmp_path / "out"], "accuracy")}
    same = ("macro_f1", "micro_f1", "subset_accuracy", "macro_average_precision", "expected_calibration_error")
    assert [rows["values"][name] for name in same] == [rows["quarter"][name] for name in same]
    assert rows["labels"]["macro_average_precision"] == rows["labels"]["expected_calibration_error"] == "labels only"
    assert rows["labels"]["seeds"] == "not known" and rows["quarter"]["seeds"] == "1"
    verdicts = {row["pair"]: row["verdict"] for row in read_table([tmp_path / "out"], "differences") if row["metric"] == "macro_f1"}
    assert len(verdicts) == 3 and verdicts["quarter - values"] == "practically equal"  # 0.98^400 is small enough for three pairs
    assert [row["backbone"] for row in read_table([tmp_path / "out"], "runs")][1:] == ["not trained here"] * 2
    assert [row["model"] for row in read_table([tmp_path / "out"], "efficiency")] == ["quarter"]
    assert "5 of 400 test rows are missing" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_a_comparison_on_the_parents_of_a_taxonomy(runs, given, tmp_path, run_here):
    copy = shutil.copytree(runs[2], tmp_path / "quarter")
    shutil.copy(copy / "predictions" / "test.parquet", copy / "predictions" / "validation.parquet")
    status, _, _ = run_here(str(copy), *given, "--taxonomy", "sentiment", "--output", str(tmp_path / "out"))
    assert status == 0 and "400 test rows, labels of the taxonomy sentiment" in (tmp_path / "out" / "report.md").read_text()
    assert [row["label"] for row in read_table([tmp_path / "out"], "labels")] == ["positive", "negative", "ambiguous", "neutral"]
    rows = {row["model"]: row for row in read_table([tmp_path / "out"], "accuracy")}
    assert rows["values"]["macro_average_precision"] == "labels only" != rows["quarter"]["macro_average_precision"]
    status, _, errors = run_here(runs[0], "--taxonomy", "sentiment", "--output", str(tmp_path / "other"))
    assert (status, len(errors.splitlines())) == (2, 1) and f"{runs[0]}/predictions/validation.parquet does not exist" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--predictions", "a.csv"], "--predictions a.csv: must be NAME=FILE, such as gpt=answers.csv"),
        (["--predictions", "a=missing.csv"], "missing.csv: cannot be read (No such file or directory)"),
        (["--equivalence-margin", "0"], "--equivalence-margin 0: must be in (0, 1)"),
    ],
)
def test_options_that_cannot_be_used_are_one_line(words, message, runs, tmp_path, run_here):
    status, _, errors = run_here(runs[0], *words, "--output", str(tmp_path / "out"))
    assert (status, errors) == (2, f"error: {message}\n")


PROBE = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><iframe width="390" height="800"></iframe><script>
const frame = document.querySelector("iframe");
frame.srcdoc = SOURCE;
frame.onload = () => {
  const page = frame.contentDocument, images = [...page.images];
  const found = {
    width: page.documentElement.scrollWidth, images: images.length,
    loaded: images.filter(image => image.complete && image.naturalWidth > 100).length,
    requests: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name).filter(name => !name.startsWith("data:")),
    color: getComputedStyle(page.body).color,
  };
  document.body.innerHTML = "<pre id='found'></pre>";
  document.querySelector("#found").textContent = JSON.stringify(found);
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_a_browser(scheme, report, tmp_path):
    """At 390 pixels, the width of a phone: all plots are loaded, nothing is requested, nothing scrolls sideways, the console is empty."""
    page = (report[0] / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|srcset|url)\s*[=(]\s*["']?(?!data:|#)[^"'\s>]+""", page)
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("SOURCE", json.dumps(page).replace("</", "<\\/")))
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=10000", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    command += ["--force-dark-mode"] if scheme == "dark" else []
    result = subprocess.run([*command, probe.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', result.stdout).group(1))
    assert found["images"] == found["loaded"] == len(PLOTS) and found["requests"] == [] and found["width"] <= 390
    assert found["color"] == {"light": "rgb(27, 31, 36)", "dark": "rgb(230, 232, 235)"}[scheme]
    assert "CONSOLE" not in result.stderr
