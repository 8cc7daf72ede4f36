"""The report of one split: its four lines, its page, and what its figures show."""

import html
import json
import re
import runpy
import sys
from dataclasses import replace
from itertools import combinations
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from emotion.evaluation import plots
from emotion.evaluation.comparison.figures import plot_differences, plot_pareto_front
from emotion.evaluation.decision import default_rule
from emotion.evaluation.document import Figure, Paragraph, Section, Table, format_html
from emotion.evaluation.fonts import use_fonts
from emotion.evaluation.metrics import confusion_matrices, list_judged_columns
from emotion.evaluation.mistakes import NUM_SHOWN, count_confusions
from emotion.evaluation.reporting import score_split
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.split_page import write_page
from emotion.evaluation.summary import summarize
from emotion.labels import LabelSet
from tests.conftest import ROOT, SAMPLE
from tests.evaluation.comparison.test_accuracy import compare, make_run

NAMES = ("anger", "fear", "joy", "love")
LABELS = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], dtype=bool)
PREDICTIONS = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], dtype=bool)
GENERATOR = np.random.default_rng(0)
PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(12)


def make_rows(predictions=PREDICTIONS, texts=("a", "b", "c", "d", "e")):
    return ScoredRows(list("vwxyz"), LabelSet(NAMES), LABELS, np.where(predictions, 0.9, 0.2), None, texts)


def make_report(predictions=PREDICTIONS):
    return score_split(make_rows(predictions), predictions, default_rule(4), "test")


def write(folder, predictions=PREDICTIONS, texts=("a", "b", "c", "d", "e"), **findings):
    (folder / "a.png").write_bytes(PIXEL)
    figures = dict.fromkeys(("confusions", "reliability", "precision_recall", "thresholds"), Figure(folder / "a.png", PIXEL, "A caption"))
    write_page(folder / "index.html", make_report(predictions) | findings, make_rows(predictions, texts), predictions, figures)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_four_lines_say_scores_costs_of_the_rule_labels_and_calibration():
    """Worked out by hand: 3 of 5 gold labels are found, 3 of 4 predictions are right; F1 is 2/3 for anger, 0 for fear, 0.8 for joy."""
    lines = summarize(make_report())
    assert (
        lines[0].startswith(f"test, 5 rows: macro-F1 {(2 / 3 + 0 + 0.8) / 3:.3f} (95% interval 0.") and "micro-F1 0.667 (95% " in lines[0]
    )
    assert lines[1] == "decision rule: misses 40% of the labels that people gave; 25% of the labels that it gives are wrong"
    assert lines[2] == "labels by F1: best joy 0.80; worst fear 0.00; 1 without a gold row"
    # bin 0.2: 16 pairs, 2 of them gold, gap 16 * 0.2 - 2; bin 0.9: 4 pairs, 3 gold, gap 4 * 0.9 - 3
    assert lines[3] == f"calibration: a probability is {(1.2 + 0.6) / 20:.3f} off on average (expected calibration error)"
    assert len(lines) == 4


def test_a_rule_that_gives_no_label_says_so():
    assert summarize(make_report(np.zeros_like(PREDICTIONS)))[1] == "decision rule: gives no text a label"


def test_page_has_scores_bars_confusions_and_mistakes(tmp_path):
    page = write(tmp_path, model="mine", data="comments.csv", evaluated="2026-11-26 10:00", notes=["2 texts are cut"])
    assert "<title>mine on 5 test rows</title>" in page
    assert "Data: comments.csv. Scored: 2026-11-26 10:00. Decision rule fitted on: nothing: default 0.5." in page
    assert "Note: 2 texts are cut" in page
    labels = re.search(r'<section id="labels">(.*?)</section>', page, re.S)[1]
    assert re.findall(r'<th scope="row">(\w+)', labels) == ["joy", "anger", "fear", "love"]  # by F1; without a gold row last
    assert re.findall(r'<div style="width:([\d.]+)%"></div>', labels) == ["80.0", "66.7", "0.0"]
    assert '<th scope="row">love</th><td></td><td>not measured</td>' in labels
    confusions = re.search(r'<section id="confusions">(.*?)</section>', page, re.S)[1]
    assert re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", confusions)[4:] == ["anger", "joy", "1", "100%"]
    mistakes = re.search(r'<section id="worst-mistakes">(.*?)</section>', page, re.S)[1]
    assert re.findall(r'<th scope="row">(\w)</th><td class="quoted">(\w)</td>', mistakes) == [("w", "b"), ("x", "c")]


def test_page_quotes_no_texts_if_asked(tmp_path):
    page = write(tmp_path, texts=None)
    assert "The texts are left out" in page and '<th scope="col">text</th>' not in page and '<th scope="row">w</th>' in page


def test_page_of_a_perfect_model(tmp_path):
    page = write(tmp_path, predictions=LABELS)
    assert "Every label of every row is right." in page and "No label was missed in a row" in page


def test_page_requests_nothing_and_has_a_dark_version_of_every_figure(tmp_path):
    page = write(tmp_path)
    assert not re.findall(r"""(?:src|href|srcset|url)\s*[=(]\s*["']?(?!data:|#)[^"'\s>]+""", page)
    assert page.count("<picture>") == page.count('media="(prefers-color-scheme: dark)"') == 4


def test_bar_of_a_table_is_drawn_to_scale():
    table = Table("t", ["label", "F1"], [["a", "0.5"], ["b", ""]], bars=[(0.5, 0.25, 0.75), None])
    page = format_html("t", [Section("S", [table])])
    assert '<div style="width:50.0%"></div><span style="left:25.0%;width:50.0%"></span>' in page and "<td></td>" in page


def list_texts(axes):
    return [text.get_text() for text in axes.texts]


def test_confusion_matrices_color_the_errors_only():
    """96 true negatives, which are no news, have no color; 1 of 2 predictions is wrong, 3 of 4 gold rows are missed."""
    figure = plots.plot_confusion_matrices(np.array([[[96, 1], [3, 1]]]), ["anger"])
    image = np.ma.asarray(figure.axes[0].images[0].get_array())
    assert np.ma.getmaskarray(image).tolist() == [[True, False], [False, True]] and image[0, 1] == 0.5 and image[1, 0] == 0.75
    assert {"96", "1\n50%", "3\n75%", "1"} <= set(list_texts(figure.axes[0]))


def test_confusions_are_colored_by_the_fraction_of_the_gold_rows():
    figure = plots.plot_confusions(np.array([[0, 3, 1], [0, 0, 0]]), np.array([10, 5]), ["anger", "fear"])
    axes = figure.axes[0]
    assert list_texts(axes) == ["3", "1"] and np.ma.filled(axes.images[0].get_array(), -1).tolist() == [[-1, 0.3, 0.1], [-1, -1, -1]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["anger", "fear", "(nothing)"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["anger (10)", "fear (5)"]


def test_reliability_says_where_most_pairs_are():
    scores = np.r_[np.linspace(0.001, 0.06, 90), np.full(10, 0.95)]
    figure = plots.plot_reliability(np.r_[np.zeros(90, bool), np.ones(10, bool)], scores)
    bars, log_axes = figure.axes[2], figure.axes[1]
    assert [text for text in list_texts(bars) if text != "<1"] == ["90", "10"]
    assert log_axes.get_xscale() == "log" and log_axes.xaxis.get_major_formatter()(0.1) == "0.1"
    means = np.asarray(log_axes.lines[1].get_xdata())  # after the diagonal
    assert len(means) == plots.NUM_RELIABILITY_BINS and (means < 0.07).sum() >= 13  # 90 of 100 pairs, in bins of as many pairs each


def test_intervals_of_the_reliability_are_wilsons():
    """Of 4 pairs at 0.95 all are positive, of 5 at 0.05 none is: normal intervals would have no length. Their bounds are n / (n + z²)."""
    figure = plots.plot_reliability(np.r_[np.zeros(5, bool), np.ones(4, bool)], np.r_[np.full(5, 0.05), np.full(4, 0.95)])
    collection = figure.axes[0].collections[0]
    assert isinstance(collection, LineCollection)
    bars = collection.get_segments()
    square = NormalDist().inv_cdf(0.975) ** 2
    assert [bar[:, 1].tolist() for bar in bars] == [pytest.approx([0, square / (5 + square)]), pytest.approx([4 / (4 + square), 1])]


def draw_split(names):
    """Return the figures of a split of 40 rows with these labels."""
    labels = GENERATOR.random((40, len(names))) < 0.4
    scores = np.clip(0.4 * labels + 0.6 * GENERATOR.random(labels.shape), 0, 1)
    columns, matrices = list(list_judged_columns(labels, scores, None)), confusion_matrices(labels, scores > 0.5)
    return [
        plots.plot_confusions(count_confusions(labels, scores > 0.5), labels.sum(axis=0), names),
        plots.plot_co_occurrence(labels, scores > 0.5, names),
        plots.plot_confusion_matrices(matrices, names),
        plots.plot_precision_recall(columns, matrices, names),
        plots.plot_thresholds(columns, [0.5] * len(names), names),
    ]


@pytest.mark.parametrize(
    "names", [["joy", "fear"], ["joy", "fear", "anger"], [f"{number} very disappointed people" for number in range(7)]]
)
def test_no_text_of_a_figure_is_cut_off_or_hides_another(names):
    with use_fonts(names):
        figures = draw_split(names)
    for figure in figures:
        figure.draw_without_rendering()
        boxes = {text: text.get_window_extent() for text in figure.findobj(Text) if text.get_visible() and text.get_text()}
        assert len(boxes) > 2 * len(names)
        cut_off = [text for text, box in boxes.items() if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1]
        assert cut_off == []
        assert [(one, other) for one, other in combinations(boxes, 2) if boxes[one].shrunk(0.9, 0.9).overlaps(boxes[other])] == []


def test_long_cells_are_wrapped_whatever_they_begin_with():
    long = "2 hours late, and then they told us to wait outside in the rain"
    rows = [[long, long, "2 hours"], ["1", "0.543 (0.504 to 0.582)", ""], ["2", "2024-03 → 2024-04", ""]]
    page = format_html("t", [Section("S", [Table("t", ["id", long, "text"], rows)])])
    assert f'<th scope="col" class="text">{long}</th>' in page and f'<th scope="row" class="text">{long}</th>' in page
    assert f'<td class="text">{long}</td><td class="quoted">2 hours</td>' in page
    assert '<td class="number">0.543 (0.504 to 0.582)</td>' in page and "<td>2024-03 → 2024-04</td>" in page


def test_words_from_right_to_left_do_not_move_the_numbers_after_them():
    """A quoted text is in its own direction as a whole."""
    sentence, quoted = "**שמחה** is 27% in قناة الأخبار, 2024-02, not in joy", "שלום, מה שלומך?"
    blocks = [Paragraph(sentence), Table("t", ["label", "text"], [["שמחה (12)", quoted]])]
    page = format_html("t שמחה", [Section("S", blocks)])
    assert "<p><strong><bdi>שמחה</bdi></strong> is 27% in <bdi>قناة الأخبار</bdi>, 2024-02, not in joy</p>" in page
    assert f'<bdi>שמחה</bdi> (12)</th><td class="quoted">{quoted}</td>' in page
    assert "<title>t שמחה</title>" in page and "<h1>t <bdi>שמחה</bdi></h1>" in page


@pytest.mark.parametrize(("value", "label"), [(0.1, "0.1"), (0.01, "0.01"), (1.0, "1"), (10_000, "10,000"), (1e-6, "1e-06")])
def test_ticks_are_plain_numbers(value, label):
    assert plots.format_tick(value) == label


def test_points_of_the_pareto_front_are_named_at_the_points_and_apart():
    models, _ = compare(*(make_run(f"model {draw}", error, draw) for draw, error in enumerate((0.1, 0.1, 0.3))))
    figure = plot_pareto_front(models, [0.1, 0.1001, 10.0], "hours")
    axes = figure.axes[0]
    assert sorted(list_texts(axes)) == ["model 0", "model 1", "model 2"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Pareto front"]
    assert axes.xaxis.get_major_formatter()(0.1) == "0.1"
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
    assert all(box.x1 < figure.bbox.x1 and box.x0 > 0 for box in boxes)


@pytest.mark.parametrize("num_models", [2, 9])
def test_cells_of_the_matrix_of_differences_do_not_run_into_each_other(num_models):
    names = ["a-very-long-name-of-a-run-that-somebody-gave", *(f"model {number}" for number in range(1, num_models))]
    models, differences = compare(*(make_run(name, 0.1 + 0.04 * number, number) for number, name in enumerate(names)), num_resamples=100)
    wide = [replace(pair, value=-0.1, interval=(0.123, 0.234), p_value=0.01) for pair in differences]
    with use_fonts(names):
        figure = plot_differences(models, wide)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == num_models * (num_models - 1)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert axes.title.get_window_extent().x1 < figure.bbox.x1


def test_evaluate_prints_lines_and_the_table_on_request(tiny_run, tmp_path, monkeypatch, capsys):
    """The page of a labelled file is written beside the table, without texts if asked."""
    path = tmp_path / "own.csv"
    path.write_text("text,labels\nI love it so much,love\nThis is awful,anger\n")
    arguments = ["evaluate.py", "--model", str(tiny_run), "--input", str(path), "--output", str(tmp_path / "out"), "--no-texts", "--full"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")
    output = capsys.readouterr().out
    folder = tmp_path / "out" / "report" / "own"
    assert stopped.value.code == 0 and output.startswith((folder / "table.txt").read_text())
    lines = output.removeprefix((folder / "table.txt").read_text()).strip().splitlines()
    assert lines[0].startswith("own, 2 rows: macro-F1 ") and lines[4].startswith(f"report: {folder / 'index.html'}, tables")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "The texts are left out" in page and "This is awful" not in page and "Data: own.csv." in page
    assert json.loads((folder / "metrics.json").read_text())["data"] == "own.csv"


def test_training_writes_a_page_that_quotes_the_validation_texts(tiny_run):
    page = (tiny_run / "report" / "validation" / "index.html").read_text(encoding="utf-8")
    texts = [html.escape(text) for text in pd.read_csv(SAMPLE / "validation.csv", keep_default_na=False).text]
    assert "<title>tiny on 300 validation rows</title>" in page and sum(f">{text}<" in page for text in texts) == NUM_SHOWN
