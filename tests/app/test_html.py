"""Text of others is shown as text, whatever characters it has; names, numbers and widths are those of the answer."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from emotion.app.about import About, Score, find_comparison, read_about, read_card
from emotion.app.answers import Answer, answer_text, explain_text
from emotion.app.handlers import Handlers
from emotion.app.html_answers import CHOOSE_LABEL, EMPTY, format_answers, format_explanation
from emotion.app.html_files import format_comparison, format_result, format_scores, format_upload
from emotion.app.results import LabelFrequency, Progress, ScoredFile
from emotion.app.uploads import Upload, UploadStore
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.verdict import Verdict
from emotion.labels import LabelSet
from emotion.text import escape_controls
from emotion.tracking.run_folder import RunFolder
from tests.app.conftest import HOSTILE_TEXTS

HOSTILE_NAMES = ("<b>x</b>", '"><script>', "a|b", "愤怒", "غضب", "$&{}", "\u202egnirts")


class Shown(HTMLParser):
    """Tags, attributes and text of a fragment; text for screen readers only is left out."""

    def __init__(self, fragment):
        super().__init__()
        self.tags, self.attributes, self.text, self._is_unseen = [], [], "", False
        self.feed(fragment)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._is_unseen = ("class", "unseen") in attributes

    def handle_endtag(self, tag):
        self._is_unseen = False

    def handle_data(self, data):
        self.text += "" if self._is_unseen else data


def check_harmless(shown):
    """Check that nothing of a text or a name became markup."""
    assert not {"script", "img", "b"} & set(shown.tags) and not [name for name, _ in shown.attributes if name.startswith("on")]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_words_of_any_text_are_shown_as_they_are(model, text):
    answer = answer_text(model, text)
    shown = Shown(format_explanation(explain_text(model, text), answer, 3))
    assert text in shown.text
    check_harmless(shown)


def test_words_have_the_sign_of_their_contribution(model):
    text = "Thank you so much, you saved my day"
    found = explain_text(model, text)
    explanation = replace(found, contributions=10_000 * found.contributions)  # those of an untrained model are too small to be shown
    shown = Shown(format_explanation(explanation, answer_text(model, text), 5))
    values = [float(value) for name, value in shown.attributes if name == "title"]
    contributions = explanation.contributions[:, 5]
    expected = [value for value in contributions if abs(value) >= 0.1 * abs(contributions).max()]
    assert values == pytest.approx(expected, abs=0.006) and len(values) > 2
    classes = [value for name, value in shown.attributes if name == "class" and value in ("for", "against")][: len(values)]
    assert classes == ["for" if value > 0 else "against" for value in expected]
    weak = replace(found, contributions=np.full_like(found.contributions, 0.04))
    assert "title" not in dict(Shown(format_explanation(weak, answer_text(model, text), 5)).attributes)


def make_answer(model, names, probabilities, rule):
    predictor = replace(model.predictor, label_set=LabelSet(names))
    other = type(model)("<i>m</i>", model.location, "numpy", predictor, model.run, None)
    values = np.array(probabilities, np.float32)
    return Answer("text", other, rule, values, rule.decide(values[None])[0], 4, [])


def test_bars_of_labels_of_any_name(model):
    rule = DecisionRule((0.5, 0.9, 0.2, 0.3, 0.4, 0.6, 0.7))
    answer = make_answer(model, HOSTILE_NAMES, [0.6, 0.8, 0.1, 0.35, 0.2, 0.5, 0.9], rule)
    shown = Shown(format_answers([answer, answer]))
    check_harmless(shown)
    labels = [value for name, value in shown.attributes if name == "data-label"]
    assert labels[:7] == labels[7:] and labels[:3] == [HOSTILE_NAMES[6], HOSTILE_NAMES[0], HOSTILE_NAMES[3]]
    assert all(escape_controls(name) in shown.text for name in HOSTILE_NAMES) and "<i>m</i>" in shown.text
    styles = [value for name, value in shown.attributes if name == "style"]
    assert styles[:4] == ["width:90.00%", "left:70.00%", "width:60.00%", "left:50.00%"]


def test_a_likeliest_label_below_its_threshold_is_not_marked_as_decided(model):
    html = format_answers([make_answer(model, ("a", "b"), [0.3, 0.2], DecisionRule((0.5, 0.5), "top1"))])
    assert "likeliest, below its threshold: 30.0%, threshold 50%" in html and "○" in html and "●" not in html
    none = format_answers([make_answer(model, ("a", "b"), [0.3, 0.2], DecisionRule((0.5, 0.5)))])
    assert "no emotion reaches its threshold" in none and "○" not in none


def test_a_cut_text_says_so(model):
    text = "word " * 500
    answer = answer_text(model, text)
    shown = Shown(format_answers([answer])).text
    assert f"longer than 128 tokens: the rest was not read (after {answer.num_read:,} of {len(text):,} characters)" in shown
    assert "was not read" not in format_answers([answer_text(model, "word")])


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_files_of_any_text_are_shown_as_they_are(text, tmp_path):
    upload = Upload(tmp_path / "<b>.csv", ["id", text], text, [text], 1, 0, [["1", text]])
    result = ScoredFile(
        tmp_path, None, 9, 0, [LabelFrequency("<b>", 1, 0.5, (0.1, 0.9))], [(text, ["<b>"])], None, [text], Progress(9, 9, 0, 1.0)
    )
    for fragment in (format_upload(upload), format_result(result)):
        shown = Shown(fragment.replace("<b>", "<strong>"))
        assert "\n".join(map(escape_controls, text.splitlines())) in shown.text
        check_harmless(shown)


def test_model_tab_has_the_report_of_the_run(model):
    about = read_about(model)
    metrics = json.loads((model.run.report("validation") / "metrics.json").read_text())
    assert about.split == "validation" and len(about.figures) == 7 and len(about.labels) == 28
    assert about.scores[0] == Score(
        "macro-F1", metrics["at_decision_rule"]["macro_f1"], tuple(metrics["at_decision_rule_interval_95"]["macro_f1"])
    )
    weakest = [float(row["f1"]) for row in about.weakest]
    assert weakest == sorted(float(row["f1"]) for row in about.labels if int(row["support"]))[:5]
    assert f"{about.scores[0].value:.3f}" in format_scores(about) and "optimistic" in format_scores(about)


def test_without_a_report_the_page_says_how_to_get_one():
    assert "evaluate.py --split test" in format_scores(About("", "", 0, [], [], None, [], [], None))


def test_a_score_that_was_not_measured_is_a_dash():
    row = {"label": "a", "support": "3", "f1": "0.5", "precision": "", "recall": "0.25", "f1_low": "", "f1_high": ""}
    assert (
        "F1 0.50; – of its predictions are right, 25% of its 3 rows"
        in Shown(format_scores(About("", "test", 9, [], [], None, [row], [], None))).text
    )


@pytest.mark.parametrize(("verdict", "style"), [("useful", "notice good"), ("weak", "notice"), ("do not use it", "notice")])
def test_the_verdict_is_shown_and_only_a_good_one_looks_so(verdict, style):
    about = About("", "test", 9, [], [], Verdict(verdict, "<b>", "", {}, {}), [], [], None)
    assert f'<p class="{style}">verdict: {verdict}: &lt;b&gt;</p>' in format_scores(about)


def test_comparison_report_beside_the_run_is_shown_without_scripts(model, tmp_path):
    (tmp_path / "comparison").mkdir()
    report = "<html><script>alert(\"x\")</script><p class='a'>&amp; report</p></html>"
    (tmp_path / "comparison" / "report.html").write_text(report)
    other = type(model)("m", model.location, "numpy", model.predictor, RunFolder(tmp_path / "run"), None)
    assert find_comparison(model) is None and find_comparison(other) == tmp_path / "comparison" / "report.html"
    shown = Shown(format_comparison(replace(read_about(model), comparison=find_comparison(other))))
    assert dict(shown.attributes)["srcdoc"] == report and ("sandbox", None) in shown.attributes and "script" not in shown.tags


def test_card_without_front_matter(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: x\n---\n\n# Name\n\n---\nmore\n")
    assert read_card(tmp_path / "README.md") == "# Name\n\n---\nmore"


def test_handlers_answer_every_event_with_html(model, tmp_path, capsys, monkeypatch):
    handlers = Handlers({"tiny": model, "other": model}, UploadStore(tmp_path))
    assert handlers.show_answers(" ", 0, "tiny", "")[0] == EMPTY and handlers.show_words("", "tiny", "joy") == CHOOSE_LABEL
    answers, point, labels = handlers.show_answers("I love it", 1.0, "tiny", "other")
    assert "columns-2" in answers and "at the fitted rule" in point and labels.count("<tr>") == 29
    assert "at the fitted rule" not in handlers.show_answers("I love it", 0, "tiny", "")[1]
    assert "is not served here; choose one of tiny, other" in handlers.show_answers("I love it", 0, "gone", "")[0]
    assert "does not have it" in handlers.show_words("I love it", "tiny", "hunger")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(type(model.predictor), "predict_checked", None)
    notice = handlers.show_answers("I love it", 0, "tiny", "")[0]
    assert re.fullmatch(r'<p class="notice" role="alert">The model failed: TypeError: [^\n]*</p>', notice)
    assert "Traceback" in capsys.readouterr().err
