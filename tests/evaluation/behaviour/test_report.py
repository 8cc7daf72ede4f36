"""What is written of behaviour checks: the report, the sections of model card and comparison, and what evaluate.py does."""

import json
import runpy
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from emotion.config import Config
from emotion.errors import ModelError
from emotion.evaluation.behaviour.checks import list_texts
from emotion.evaluation.behaviour.pages import format_card_section, format_results, rank_worst, write_behaviour_report
from emotion.evaluation.behaviour.results import FILE_NAME, PassedCases, collect_results, has_rule, list_passed, read_results
from emotion.evaluation.behaviour.suite import Case
from emotion.evaluation.comparison.accuracy import score_models
from emotion.evaluation.comparison.behaviour import report_behaviour
from emotion.evaluation.comparison.runs import Run, group_seeds
from emotion.evaluation.decision import default_rule
from emotion.evaluation.document import Paragraph
from emotion.files import write_json
from emotion.labels import LabelSet
from emotion.tracking.finished_runs import read_finished_run
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.taxonomies import merge_run
from tests.conftest import ROOT

NAME = "<b>|`x`\x1b[2J **$y$**"
LABELS = LabelSet(("anger", NAME))
RULE = default_rule(2)
FILES = {FILE_NAME, "report.md", "report.html", "capabilities.csv", "worst.csv", "gaps.csv"}


def make_cases():
    """Five texts that should get the second label, one that is hard and skipped labels; two sentences with two terms."""
    absolute = [Case(f"m{n}", NAME, f"text {n} {NAME}", "any", (NAME,), "", "", "", "why", n == 4) for n in range(5)]
    absolute.append(Case("s", NAME, "skipped", "any", ("pride",), "", "", "", "why", False))
    pairs = [(group, term) for group in "pq" for term in ("one", NAME)]
    return absolute + [Case(g + t, "who", f"{t} in {g}", "same", (), "", g, t, "why", False) for g, t in pairs]


def collect(is_quoted=True):
    cases = make_cases()
    probabilities = np.full((len(list_texts(cases)), 2), 0.4)
    probabilities[0, 1] = 0.9  # the first passes
    probabilities[-1, 0], probabilities[-3, 0] = 0.9, 0.9  # the second term raises anger in both sentences
    results = collect_results(cases, f"suite {NAME}", probabilities, LABELS, RULE, is_quoted)
    return results | {"model": "m", "evaluated": "2026-11-26 10:00"}


def test_report_has_the_documented_files_and_its_json_is_read_back(tmp_path):
    results = collect()
    write_behaviour_report(tmp_path, results)
    assert {path.name for path in tmp_path.iterdir()} == FILES and read_results(tmp_path / FILE_NAME) == results
    (of_labels, of_terms) = results["capabilities"]
    assert (of_labels["passed"], of_labels["cases"], of_labels["hard"], results["skipped"]) == (1, 5, 1, 1)
    assert (of_terms["passed"], of_terms["cases"]) == (0, 4) and results["missing_labels"] == {"pride": 1}
    gap = results["gaps"][0]["gaps"][0]
    assert (gap["label"], abs(gap["difference"])) == ("anger", pytest.approx(0.25)) and gap["low"] == pytest.approx(gap["difference"])
    page, markdown = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "<b>" not in page and "\x1b" not in page + markdown and "&lt;b&gt;|`x`\\x1b[2J **$y$**" in page
    assert "1 more were skipped, because the model does not have the labels 'pride'" in markdown


def test_nothing_of_another_suite_stays(tmp_path):
    write_behaviour_report(tmp_path, collect())
    cases = make_cases()[:1]
    results = collect_results(cases, "own", np.full((1, 2), 0.9), LABELS, RULE, True) | {"model": "m", "evaluated": "2026-11-26 10:00"}
    write_behaviour_report(tmp_path, results)
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"worst.csv", "gaps.csv"}


def test_terminal_shows_counts_worst_cases_and_a_sentence_per_group_of_terms():
    lines = format_results(collect())
    assert any("1/5  0.20" in line and line.endswith("(1 hard)") for line in lines)
    failed = [line for line in lines if line.startswith("failed: ")]
    assert [line.split(": ")[1] for line in failed] == ["pone", "qone", "m1", "m2"]  # the first fail by 0.15, the others by 0.1
    assert sum(line.startswith("failed: ") for line in format_results(collect(), is_full=True)) == 8
    sentence = next(line for line in lines if line.startswith("identity terms: "))
    assert "whose mean probability of anger is 0.250 " in sentence and sentence.endswith(
        " than with all 2 terms of who in the same 2 sentences"
    )
    assert any(" differences between a term and the mean are significant after correction, and " in line for line in lines)
    assert not any("fair" in line.lower() or "unbiased" in line.lower() for line in lines)


def test_worst_cases_leave_out_hard_ones_and_variants_of_one_sentence():
    results = collect()
    worst = rank_worst(results, 20)
    assert {case["id"] for case in worst if case["capability"] == "who"} <= {f"{g}{t}" for g in "pq" for t in ("one", NAME)}
    assert len(worst) == 3 + 2 and "m4" not in {case["id"] for case in worst}
    assert [case["excess"] for case in worst] == sorted((case["excess"] for case in worst), reverse=True)


def test_without_texts_none_is_written(tmp_path):
    write_behaviour_report(tmp_path, collect(is_quoted=False))
    assert not any(word in path.read_text(encoding="utf-8") for path in tmp_path.iterdir() for word in ("text 1", "in p", "why"))
    assert all("“" not in line for line in format_results(collect(is_quoted=False), is_full=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("suite"), "suite is missing"),
        (lambda values: values.update(version=9), "version=9: must be 1"),
        (lambda values: values["cases"][1].update(passed="yes"), "cases[1].passed='yes': must be true or false"),
        (lambda values: values["cases"].insert(0, 3), "cases[0]: must be a JSON object, not 3"),
        (lambda values: values["capabilities"][0].update(rate=2), "capabilities[0].rate=2: must be a number in [0, 1]"),
        (lambda values: values["gaps"][0].update(gaps=[]), "gaps[0].gaps=[]: must be a list"),
        (lambda values: values["gaps"][0]["gaps"][0].update(low=None), "gaps[0].low=None: must be a number"),
    ],
)
def test_damaged_results_are_one_line(change, message, tmp_path):
    results = collect()
    change(results)
    (tmp_path / FILE_NAME).write_text(json.dumps(results))
    with pytest.raises(ModelError) as caught:
        read_results(tmp_path / FILE_NAME)
    assert str(caught.value).startswith(f"{tmp_path / FILE_NAME}: {message}") and str(caught.value).endswith("; check the behaviour again")


def test_results_belong_to_a_decision_rule():
    results = json.loads(json.dumps(collect()))
    assert (
        has_rule(results, RULE)
        and not has_rule(results, RULE.with_overrides(0.4))
        and not has_rule(results, RULE.with_overrides(None, "top1"))
    )
    assert not has_rule(results | {"decision": {}}, RULE)


def make_run(name, passed=None, seed=0, fingerprint="f", error=0.1):
    """Return a run with the passes of 40 independent cases of two capabilities."""
    labels = np.random.default_rng(0).random((60, 2)) < 0.4
    predictions = labels ^ (np.random.default_rng([seed, 1]).random(labels.shape) < error)
    config = replace(Config(), training=replace(Config().training, seed=seed), run=replace(Config().run, name=name))
    config = replace(config, data=replace(config.data, source=name.split("-")[0]))
    ids = [str(row) for row in range(40)]
    cases = None if passed is None else PassedCases(fingerprint, ["a"] * 20 + ["b"] * 20, ids, np.array(passed, float), np.arange(40))
    run_ids = [str(row) for row in range(60)]
    return Run(name, config, LabelSet(("x", "y")), run_ids, labels, predictions * 0.8 + 0.1, predictions, {}, {}, behaviour=cases)


def compare(*runs):
    return report_behaviour(score_models(group_seeds(runs), 20))


def test_comparison_marks_only_what_the_test_shows():
    best = make_run("best", [1] * 20 + [1] * 20)
    other = make_run("other", [0] * 12 + [1] * 8 + [0] + [1] * 19)  # 12 of 20 against 1 of 20
    (section,) = compare(best, other)
    rates, differences = section.blocks
    assert rates.columns == ["capability", "cases", "best", "other"] and [row[0] for row in rates.rows] == ["a", "b"]
    assert rates.rows[0][1:3] == ["20", "1.000 (0.839 to 1.000)"] and rates.rows[0][3].startswith("0.400 (")
    assert differences.rows == [["a", "-0.600 ●"], ["b", "-0.050"]]


def test_comparison_leaves_out_models_that_have_not_answered_the_same_cases():
    assert compare(make_run("one"), make_run("two")) == []
    (section,) = compare(make_run("one", [1] * 40), make_run("two"), make_run("three", [1] * 40, fingerprint="g"))
    table, note = section.blocks
    assert table.columns == ["capability", "cases", "one"] and isinstance(note, Paragraph)
    assert note.text.startswith("Not checked on these cases with the present decision rule: two, three; `python evaluate.py")


def test_models_of_others_and_coarser_labels_have_no_behaviour():
    one = make_run("one", [1] * 40)
    (section,) = compare(one, replace(make_run("other", error=0.2), config=None))
    assert len(section.blocks) == 1 and section.blocks[0].columns == ["capability", "cases", "one"]
    assert merge_run(replace(one, label_set=LabelSet(("joy", "anger"))), "sentiment", None).behaviour is None


def test_seeds_of_one_model_are_averaged():
    (section,) = compare(make_run("one-seed0", [1] * 40), make_run("one-seed1", [0] * 20 + [1] * 20, seed=1))
    assert section.blocks[0].columns == ["capability", "cases", "one"] and section.blocks[0].rows[0][2].startswith("0.500 (")
    assert compare(make_run("one-seed0", [1] * 40), make_run("one-seed1", seed=1)) == []


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """Return a function that runs evaluate.py in this process and returns status, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_evaluate_writes_report_and_card_and_compare_reads_them(tiny_run, tmp_path, evaluate):
    run = RunFolder(tmp_path / "copy")
    shutil.copytree(tiny_run, run.path)
    shutil.copytree(run.report("validation"), run.report("test"))
    shutil.copy(run.predictions("validation"), run.predictions("test"))
    assert read_finished_run(str(run.path)).behaviour is None  # a run of an earlier version has none
    suite = tmp_path / "own.csv"
    suite.write_text("capability,text,expect,labels\nmine,Thank you!,any,gratitude\nmine,Hm.,any,nosuch\n")
    status, output, _ = evaluate("--model", run.path, "--behaviour", suite)
    assert (
        status == 0
        and "of 1 cases of the suite own.csv passed; 1 more were skipped, because the model does not have the labels 'nosuch'" in output
    )
    results = read_results(run.behaviour / FILE_NAME)
    card = (run.model / "README.md").read_text()
    assert card.count("## Behaviour\n") == 1 and format_card_section(results) in card
    finished = read_finished_run(str(run.path)).behaviour
    assert finished.ids == ["1"] and finished.fingerprint == list_passed(results).fingerprint
    write_json(run.behaviour / FILE_NAME, results | {"decision": RULE.to_dict()})
    assert read_finished_run(str(run.path)).behaviour is None  # of another decision rule
    write_json(run.behaviour / FILE_NAME, results | {"cases": 3})
    with pytest.raises(ModelError, match="cases=3: must be a list"):
        read_finished_run(str(run.path))


@pytest.mark.slow
def test_evaluate_of_the_bundled_suite_with_another_threshold_leaves_the_card(tiny_run, tmp_path, evaluate):
    card = (tiny_run / "model" / "README.md").read_bytes()
    status, output, _ = evaluate("--model", tiny_run / "model", "--behaviour", "--threshold", "0.3", "--output", tmp_path, "--quiet")
    assert status == 0 and "of 977 cases of the bundled suite passed" in output
    assert {path.name for path in (tmp_path / "report" / "behaviour").iterdir()} == FILES
    assert (tiny_run / "model" / "README.md").read_bytes() == card and not (tiny_run / "report" / "behaviour").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--behaviour", "--split", "test"],
            "--split: has no effect on --behaviour, which reads its suite only; leave it out, or call evaluate.py a second time",
        ),
        (["--behaviour", "--input", "a.csv", "--output", "o"], "--input: has no effect on --behaviour, which reads its suite only"),
        (["--behaviour", "--taxonomy", "ekman"], "--taxonomy: has no effect on --behaviour, which reads its suite only"),
        (["--behaviour", "--overwrite"], "--overwrite: has no effect on --behaviour, which reads its suite only"),
        (["--behaviour", "a.csv", "data.encoding=utf-8"], "data.encoding=utf-8: has no effect on --behaviour, which reads its suite only"),
        (["--behaviour", "--output", "o.csv"], "--output o.csv: --behaviour writes a report; give a folder"),
        (["--behaviour", "gone.csv"], "gone.csv: cannot be read (No such file or directory); give another suite"),
    ],
)
def test_options_that_do_not_fit_are_one_line(arguments, message, evaluate):
    status, output, errors = evaluate("--model", "models/goemotions-minilm", *arguments)
    assert status == 2 and output == "" and errors.splitlines()[-1].startswith(f"error: {message}")
