"""prevalence.py, run as a user runs it: from unscored and from scored rows, its files, and mistakes."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from emotion.analysis.prevalence.cells import CellCounter, CellKey
from emotion.analysis.prevalence.changes import list_comparisons, measure, sum_cells
from emotion.analysis.prevalence.grouping import parse_grouping
from emotion.analysis.prevalence.histograms import round_scores
from emotion.analysis.prevalence.levels import Levels, list_columns
from emotion.analysis.prevalence.reading import read_scored
from emotion.analysis.prevalence.report import Analysis, write_prevalences
from emotion.analysis.prevalence.validation import count_rows, count_validation
from emotion.analysis.prevalence.words import POOR_FIT
from emotion.config import DataConfig, DecisionConfig
from emotion.errors import DataError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.parents import fit_parents
from emotion.evaluation.rows import ScoredRows as EvaluatedRows
from emotion.evaluation.taxonomy import Taxonomy
from emotion.labels import LabelSet
from emotion.scoring.manifest import describe_version
from tests.analysis.simulated import NAMES, RULE, draw
from tests.conftest import SAMPLE, run_script

NUM_ROWS = 300
FILES = {"report.html", "report.md", "prevalence.csv", "changes.csv", "periods.png", "groups.png", "top_changes.csv", "labels.csv"}


def write_input(path):
    """Write rows of the bundled corpus with a day, a source and an author; the third row has no text and the fourth no date."""
    frame = pd.read_csv(SAMPLE / "train.csv").head(NUM_ROWS)[["text"]]
    frame["day"] = [f"{1 + number % 28:02d}.{1 + number % 2:02d}.2024" for number in range(NUM_ROWS)]
    frame["source"] = ["app" if number < NUM_ROWS // 2 else "<b>forum|" for number in range(NUM_ROWS)]
    frame["author"] = np.arange(NUM_ROWS) // 2
    frame.loc[2, "text"], frame.loc[3, "day"] = "", ""
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def report(tiny_run, tmp_path_factory):
    """The folder of a report on unscored rows, and what was printed."""
    folder = tmp_path_factory.mktemp("prevalence")
    command = ["prevalence.py", "--model", tiny_run, "--input", write_input(folder / "rows.csv"), "--by", "month(day),source"]
    result = run_script(*map(str, command), "--date-format", "%d.%m.%Y", "--cluster", "author", "--output", str(folder / "report"))
    assert result.returncode == 0, result.stderr
    return folder / "report", result


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_files_and_messages(report):
    folder, result = report
    assert {path.name for path in folder.iterdir()} >= FILES | {"scored.parquet"}
    assert "dates in column 'day' are read as %d.%m.%Y: '01.01.2024' is in 2024-01\n" in result.stderr
    assert "1 row left out: not scored (first: " in result.stderr
    assert "1 row left out: no date (first: " in result.stderr
    assert f"({NUM_ROWS - 2} rows in " in result.stdout


@pytest.mark.slow
def test_every_cell_has_every_label(report):
    rows = read_csv(report[0] / "prevalence.csv")
    cells = {(row["period"], row["group"]): int(row["rows"]) for row in rows}
    periods, groups = ("2024-01", "2024-02"), ("app", "<b>forum|")
    expected = {(period, group) for period in ("", *periods) for group in ("", *groups)}
    assert set(cells) == expected and len(rows) == 28 * len(cells)
    assert cells["", ""] == NUM_ROWS - 2 == sum(cells[period, ""] for period in periods) == sum(cells["", group] for group in groups)
    for row in rows:
        is_small = int(row["rows"]) < 100
        assert (row["remark"] == "too few rows") == is_small == (row["prevalence"] == "")
        if row["prevalence"]:
            assert 0 <= float(row["low"]) <= float(row["prevalence"]) <= float(row["high"]) <= 1


@pytest.mark.slow
def test_names_of_groups_are_shown_as_they_are(report):
    page, markdown = ((report[0] / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "&lt;b&gt;forum|" in page and "<b>" not in page and r"\<b\>forum\|" in markdown
    assert page.count("<script") == 0 and "default-src 'none'" in page


@pytest.mark.slow
def test_a_scored_file_gives_the_same_report(report, tiny_run, tmp_path):
    """In two files of other formats, and without its texts."""
    frame = pd.read_parquet(report[0] / "scored.parquet")
    frame = frame.drop(columns=["text"])
    frame["predicted_labels"] = frame.predicted_labels.map(lambda labels: "" if labels is None else "|".join(labels))
    frame.head(100).to_csv(tmp_path / "1.csv", index=False)
    frame.tail(NUM_ROWS - 100).to_json(tmp_path / "2.jsonl", orient="records", lines=True)
    command = ["prevalence.py", "--model", tiny_run, "--input", tmp_path / "1.csv", tmp_path / "2.jsonl", "--by", "month(day),source"]
    output = ["--date-format", "%d.%m.%Y", "--cluster", "author", "--no-texts", "--output", tmp_path / "report"]
    result = run_script(*map(str, [*command, *output]))
    assert result.returncode == 0, result.stderr
    assert "texts were not compared with those of the validation rows: the input has no text column" in result.stderr
    assert "another model" not in result.stderr
    for name in ("prevalence.csv", "changes.csv"):
        assert (tmp_path / "report" / name).read_bytes() == (report[0] / name).read_bytes()
    assert "Typical rows" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def run_in(run, tmp_path, content, *arguments):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    result = run_script("prevalence.py", "--model", str(run), "--input", str(path), "--output", str(tmp_path / "report"), *arguments)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_mistakes(tiny_run, tmp_path):
    message = run_in(
        tiny_run, tmp_path, "text,source\na,b\n", "--input", str(tmp_path / "rows.csv"), str(tmp_path / "r*.csv"), "--by", "source"
    )
    assert message.startswith(f"error: {tmp_path / 'rows.csv'}: is named more than once by --input, so its rows would count more than once")
    labels = json.loads((tiny_run / "model" / "emotion.json").read_text())["labels"]
    header, zeros = ",".join(["day", *(f"probability_{name}" for name in labels)]), ",0.1" * len(labels)
    path = tmp_path / "rows.csv"
    message = run_in(tiny_run, tmp_path, "text,source,predicted_labels\na,b,joy\n", "--by", "source")
    assert message == f"error: {path}: was scored without the probabilities of all labels; score it again with --probabilities all"
    message = run_in(tiny_run, tmp_path, f"{header}\n2024-01-01{zeros}\n", "--by", "source")
    assert message.startswith(f"error: {path}: has no column 'source' to group by; its columns are 'day', ")
    message = run_in(tiny_run, tmp_path, f"{header}\n" + f"31/01/2024{zeros}\n" * 20, "--by", "month(day)")
    assert message == (
        f"error: {path}: 20 of 20 rows would be left out, and a report on the others would mislead; of 20, their 'day' is no date by "
        f"ISO 8601 (first: {path}:2: '31/01/2024'); give their format, such as --date-format %d/%m/%Y"
    )
    message = run_in(tiny_run, tmp_path, f"{header}\n2024-01-01{zeros[:-3]}1.5\n", "--by", "day")
    assert message == f"error: {path}:2: '1.5' is no probability; score the file with --probabilities all"
    message = run_in(tiny_run, tmp_path, f"day,probability_{labels[0]}\n2024-01-01,0.1\n", "--by", "day")
    assert message.startswith(f"error: {path}: has no column 'probability_{labels[1]}', so another model scored it; give that model, ")
    message = run_in(tiny_run, tmp_path, f"{header}\n2024-01-01{zeros}\n", "--by", "day", "--cluster", "author")
    assert message.startswith(f"error: {path}: has no column 'author'; its columns are 'day', ")


@pytest.mark.slow
def test_mistakes_are_found_before_scoring(tiny_run, tmp_path):
    others = "week(COLUMN), month(COLUMN), quarter(COLUMN), year(COLUMN)"
    path, rows = tmp_path / "rows.csv", "text,day,author\n" + "good,31/01/2024,1\n" * 20
    for options, message in (
        (["--by", "date"], f"{path}: has no column 'date' to group by; its columns are 'text', 'day', 'author'"),
        (["--by", "month("], f"{path}: has no column 'month(' to group by; a date is one of day(COLUMN), {others}"),
        (["--by", "day", "--cluster", "writer"], f"{path}: has no column 'writer'; its columns are 'text', 'day', 'author'"),
        (
            ["--by", "month(day)"],
            f"{path}:2: '31/01/2024' in column 'day' is no date by ISO 8601, and no row of the first 1,000 has one; "
            "give the format, such as --date-format %d/%m/%Y, or unix for seconds",
        ),
    ):
        assert run_in(tiny_run, tmp_path, rows, *options) == f"error: {message}"
        assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_scored_rows_are_reused_for_the_same_job_only(report, tiny_run, tmp_path):
    folder = shutil.copytree(report[0], tmp_path / "report")
    scored = folder / "scored.parquet"

    def repeat(*options):
        command = ["prevalence.py", "--model", tiny_run, "--input", report[0].parent / "rows.csv", "--by", "source", "--output", folder]
        result = run_script(*map(str, command), *options)
        return result.returncode, result.stderr.splitlines()

    refused = f"error: {scored}: exists already; give it as --input, or remove it to score the files again"
    status, lines = repeat()  # the file is a copy, not the one that was written
    assert (status, lines[-1]) == (2, refused)
    job = json.loads((folder / "scored.json").read_text()) | {"output": describe_version(scored)}
    (folder / "scored.json").write_text(json.dumps(job))
    status, lines = repeat()
    assert status == 0 and f"{scored}: is reused; it holds these files, scored by this model with these settings" in lines
    status, lines = repeat("data.text_column=source")
    assert (status, lines[-1]) == (2, refused)


@pytest.mark.slow
def test_settings_of_the_input_are_not_those_of_the_scored_rows(tiny_run, tmp_path):
    """The input is read by them, and the parquet file that is made of it has none of them, nor columns for paths within a column."""
    texts = [f"caf\xe9 {row}" for row in range(120)]
    (tmp_path / "a.csv").write_text("\n".join(["body;source", *(f"{text};a" for text in texts)]), encoding="latin-1")
    rows = [json.dumps({"post": {"body": text}, "source": "a"}) for text in texts]
    (tmp_path / "b.jsonl").write_text("\n".join(rows))
    for name, settings, has_texts in (
        ("a.csv", ["data.separator=;", "data.encoding=latin-1", "data.text_column=body"], True),
        ("b.jsonl", ["data.text_column=post.body"], False),
    ):
        command = [
            "prevalence.py",
            "--model",
            tiny_run,
            "--input",
            tmp_path / name,
            "--by",
            "source",
            "--output",
            tmp_path / f"{name}.report",
        ]
        result = run_script(*map(str, command), *settings)
        assert result.returncode == 0, result.stderr
        assert "(120 rows in " in result.stdout
        assert ("the input has no text column" in result.stderr) != has_texts


@pytest.mark.slow
def test_a_model_without_validation_predictions(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "alone")
    message = run_in(tmp_path / "alone", tmp_path, "day\n1\n", "--by", "day")
    assert message == (
        f"error: --model {tmp_path / 'alone'}: the correction is fitted on validation rows, and {tmp_path / 'alone'}/predictions/"
        "validation.parquet does not exist; give the run folder, or copy predictions/validation.parquet of the run into the model folder"
    )


@pytest.mark.slow
def test_parents_are_the_same_from_rows_scored_as_labels_or_as_parents(tiny_run, tmp_path):
    """And a model folder may hold its own validation predictions."""
    model = tmp_path / "alone"
    shutil.copytree(tiny_run / "model", model)
    shutil.copytree(tiny_run / "predictions", model / "predictions")
    rows, found = write_input(tmp_path / "rows.csv"), {}
    for name, options in (("labels", []), ("parents", ["--taxonomy", "ekman"])):
        scored = tmp_path / f"{name}.parquet"
        command = ["evaluate.py", "--model", tiny_run, "--input", rows, "--output", scored, "--probabilities", "all", *options]
        assert run_script(*map(str, command)).returncode == 0
        output = tmp_path / name
        command = ["prevalence.py", "--model", model, "--input", scored, "--by", "source", "--taxonomy", "ekman", "--quiet"]
        result = run_script(*map(str, [*command, "--output", output]))
        assert result.returncode == 0 and not result.stderr
        found[name] = pd.read_csv(output / "prevalence.csv")
    assert list(found["labels"].label.unique()) == ["anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral"]
    columns = ["prevalence", "low", "high", "plain_count"]
    one_bin = 0.25  # the input has four decimals, and a bin of probabilities is 0.25 wide in the logit
    np.testing.assert_allclose(found["labels"][columns], found["parents"][columns], rtol=one_bin, atol=0.01)


def test_levels_find_the_columns_of_labels_or_of_parents():
    labels = LabelSet(("joy", "love", "anger"))
    gold, scores = make_rows()
    parents = fit_parents(Taxonomy("t", {"good": ("joy", "love"), "bad": ("anger",)}).apply(labels), gold, scores, DecisionConfig())
    levels = Levels(labels, DecisionRule((0.5,) * 3), parents)
    assert levels.label_set.names == ("good", "bad") and levels.rule is parents.rule
    assert levels.find_scored("f", ["text", *list_columns(labels)]) == labels
    assert levels.find_scored("f", ["text", *list_columns(parents.label_set)]) == parents.label_set
    assert levels.find_scored("f", ["text"]) is None
    probabilities = np.array([[0.2, 0.4, 0.9]])
    np.testing.assert_array_equal(levels.convert(probabilities, labels), parents.convert(probabilities))
    np.testing.assert_array_equal(levels.convert(probabilities[:, :2], parents.label_set), probabilities[:, :2])
    with pytest.raises(DataError, match=r"^f: has no column 'probability_joy', so another model scored it"):
        levels.find_scored("f", ["probability_good"])


def test_rows_of_validation_fit_themselves_when_rounded():
    """Parents of rare labels: their probabilities are not those that rounded labels give."""
    generator, labels = np.random.default_rng(0), LabelSet(("joy", "love", "anger", "fear"))
    scores = 1 / (1 + np.exp(-generator.normal((-8, -8, -1, -8), 2.0, (2_000, 4))))
    gold = generator.random(scores.shape) < scores
    level = Taxonomy("t", {"good": ("joy", "love"), "bad": ("anger",), "rare": ("fear", "love")}).apply(labels)
    levels = Levels(labels, DecisionRule((0.5,) * 4), fit_parents(level, gold, scores, DecisionConfig()))
    rows = EvaluatedRows([str(row) for row in range(len(gold))], labels, gold, scores)
    for label_set, probabilities in (
        (labels, levels.convert(round_scores(scores), labels)),
        (levels.label_set, round_scores(levels.convert(scores, labels))),
    ):
        counter, group = CellCounter(3, has_clusters=False), np.tile(probabilities, (20, 1))
        counter.add([CellKey()] * len(group), group, levels.rule.decide(group))
        validation = count_rows(rows, levels, label_set)
        assert not measure(counter.cells, validation, []).is_misfit.any()
        np.testing.assert_array_equal(counter.cells[CellKey()].counts, 20 * (validation.positives + validation.negatives))


@pytest.mark.parametrize(
    "predicted, others",
    [
        ("joy,joy|anger,,anger", 0),  # the fourth by --empty-set top1, the second beyond rounding
        ('"[""joy""]",joy,,', 0),
        ("anger,joy,,joy|anger", 2),
        ("my words,joy,,", 0),  # no labels: the row is not compared
    ],
)
def test_rows_of_another_model_are_noticed(tmp_path, predicted, others):
    path, levels = tmp_path / "a.csv", Levels(LabelSet(("joy", "anger")), DecisionRule((0.5, 0.49996)))
    cells, scores = predicted.split(","), ("0.9,0.1", "0.6,0.5", "0.1,0.2", "0.2,0.4")
    path.write_text("\n".join(["predicted_labels,probability_joy,probability_anger", *map(",".join, zip(cells, scores, strict=True))]))
    notes = read_scored([path], parse_grouping("predicted_labels"), levels, DataConfig()).notes
    assert len(notes) == (others > 0)
    assert not others or notes[0].startswith(f"'predicted_labels' of {others} of 4 rows is not what the thresholds of this model give: ")


def test_an_integer_beyond_the_range_of_a_float_is_no_probability(tmp_path):
    path, levels = tmp_path / "a.jsonl", Levels(LabelSet(("joy", "anger")), DecisionRule((0.5,) * 2))
    path.write_text(json.dumps({"day": "1", "probability_joy": 0.5, "probability_anger": 10**400}) + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1: '10{49}' is no probability; score the file with --probabilities all$"):
        read_scored([path], parse_grouping("day"), levels, DataConfig())


def test_rows_without_a_cluster_are_independent(tmp_path):
    """An author who is not known is not one author with 100 rows."""
    path, levels = tmp_path / "a.csv", Levels(LabelSet(("joy", "anger")), DecisionRule((0.5,) * 2))
    lines = [f"{'' if row < 100 else row % 10},{0.9 if row < 100 else 0.1},0.2" for row in range(200)]
    path.write_text("\n".join(["author,probability_joy,probability_anger", *lines]))
    scored = read_scored([path], parse_grouping("probability_anger"), levels, DataConfig(), "author")
    assert scored.notes == ["100 rows without 'author', each counted as independent of all others"]
    (cell,) = scored.counter.cells.values()
    assert (cell.batches[:, 0] > 0).sum() > 40 and cell.batches[:, 0].max() < 40 and cell.num_rows == cell.batches[:, 0].sum() == 200


def make_analysis():
    """Return a report on two groups, in one of which joy is twice as common."""
    generator = np.random.default_rng(0)
    (gold, rows), *groups = (draw(2_000, generator, factors) for factors in ((1, 1, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1)))
    validation = count_validation([str(row) for row in range(2_000)], gold, rows, None, RULE)
    counter = CellCounter(4, has_clusters=False)
    for name, (_, probabilities) in zip("ab", groups, strict=True):
        texts = [f"secret {row}" for row in range(2_000)]
        counter.add([CellKey("", name)] * 2_000, probabilities, RULE.decide(probabilities), texts)
    cells = sum_cells(counter.cells)
    prevalences = measure(cells, validation, list_comparisons(cells))
    return Analysis(LabelSet(NAMES), cells, validation, prevalences, [], [])


def test_nothing_of_an_earlier_report_stays(tmp_path):
    """The second report on the same folder quotes no text: neither does the folder. Files of others are left alone."""
    analysis = make_analysis()
    write_prevalences(tmp_path, analysis, quote_texts=True)
    assert "secret" in (tmp_path / "examples.csv").read_text()
    (tmp_path / "own.csv").write_text("mine")
    write_prevalences(tmp_path, analysis, quote_texts=False)
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".md", ".html", ".png"} and (tmp_path / "own.csv").is_file()
    assert not [path.name for path in tmp_path.iterdir() if b"secret" in path.read_bytes()]


def test_too_few_rows_say_nothing_on_the_page_either(tmp_path):
    analysis = make_analysis()
    counter = CellCounter(4, has_clusters=False)
    counter.add([CellKey()], np.array([[0.9, 0.1, 0.1, 0.1]]), np.array([[True, False, False, False]]), ["one text"])
    few = replace(analysis, cells=counter.cells, prevalences=measure(counter.cells, analysis.validation, []))
    write_prevalences(tmp_path, few, quote_texts=False)
    for name in ("labels.csv", "prevalence.csv"):
        rows = read_csv(tmp_path / name)
        assert [row["remark"] for row in rows] == ["too few rows"] * 4
        assert {row["prevalence"] for row in rows} <= {"", "unknown"}


def test_the_figure_of_groups_claims_differences_only_if_they_were_tested(tmp_path):
    """One group is large enough, so that there is nothing to compare it with."""
    generator, counter = np.random.default_rng(0), CellCounter(4, has_clusters=False)
    gold, probabilities = draw(300, generator)
    counter.add([CellKey("", "a")] * 250 + [CellKey("", "b")] * 50, probabilities, RULE.decide(probabilities))
    cells = sum_cells(counter.cells)
    validation = count_validation([], gold, probabilities, None, RULE)
    prevalences = measure(cells, validation, list_comparisons(cells))
    for analysis, which in (
        (Analysis(LabelSet(NAMES), cells, validation, prevalences, [], []), "most common labels"),
        (make_analysis(), "labels with the clearest"),
    ):
        write_prevalences(tmp_path, analysis, quote_texts=False)
        assert f"The 4 {which}" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_table_of_all_differences_marks_a_poor_fit(tmp_path):
    analysis = make_analysis()
    assert not analysis.prevalences.is_misfit.any()
    analysis.prevalences.is_misfit[analysis.rows[CellKey("", "a")], 0] = True
    write_prevalences(tmp_path, analysis, quote_texts=False)
    rows = {row["label"]: row for row in read_csv(tmp_path / "changes.csv")}
    assert {name: row["remark"] for name, row in rows.items()} == {"joy": POOR_FIT, "anger": "", "fear": "", "pride": ""}
    assert rows["joy"]["is_shown"] == "true"


def make_rows():
    """Return gold labels and probabilities of 400 rows."""
    generator = np.random.default_rng(0)
    gold = generator.random((400, 3)) < 0.4
    return gold, np.clip(np.where(gold, 0.7, 0.3) + generator.normal(0, 0.2, gold.shape), 0.01, 0.99)
