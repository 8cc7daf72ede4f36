"""Labels, runs and texts of any characters: figures, tables, Markdown and HTML show them as they are."""

import csv
import re
import warnings
from html.parser import HTMLParser

import matplotlib.mathtext
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from matplotlib.text import Text

from emotion.config import Config, DataConfig
from emotion.evaluation import drawing
from emotion.evaluation.comparison.report import write_comparison
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.decision import default_rule
from emotion.evaluation.document import (
    Paragraph,
    Section,
    Table,
    escape_markdown,
    format_html,
    format_markdown,
    format_plain,
    write_document,
)
from emotion.evaluation.reporting import format_report, write_report
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.summary import summarize
from emotion.labels import LabelSet
from emotion.text import escape_controls

NAMES = (
    r"$\frac{$",
    "$x$",
    r"\$5",
    "愤怒",
    "غضب",
    "😡🔥",
    "a|b",
    "<script>alert(1)</script>",
    "line\nbreak",
    "back`tick``s",
    "[x](javascript:1)",
    "**bold** _it_ __init__ ~~no~~",
    "\x1b[2J\u202egnirts",
    "# &lt; {brace} \\",
    "a\rb",
    '"quoted", comma',
)
LABELS = LabelSet((*NAMES, "long " * 1_000))
GENERATOR = np.random.default_rng(0)
GOLD = GENERATOR.random((60, len(LABELS))) < 0.3
PROBABILITIES = np.clip(np.where(GOLD, 0.7, 0.3) + GENERATOR.normal(0, 0.2, GOLD.shape), 0.01, 0.99)


TEXTS = ["\x1b]0;title\a | <b> a\nb " + NAMES[row % len(NAMES)] for row in range(len(GOLD))]
RUN_NAMES = ("**a**|_b_ $x$", "_<i>`c`</i>", "[d](javascript:1)&amp;\x1b[2J\udce9")


@pytest.fixture
def drawn(monkeypatch):
    """The texts of each figure that the test writes, and the formulas that matplotlib found in them."""
    figures_texts, formulas, parse = [], set(), matplotlib.mathtext.MathTextParser.parse

    def save_png(figure, target):
        original(figure, target)
        figures_texts.append({text.get_text().replace(r"\$", "$") for text in figure.findobj(Text)})

    def record(self, text, *arguments, **options):
        formulas.add(text)
        return parse(self, text, *arguments, **options)

    original = drawing.save_png
    monkeypatch.setattr(drawing, "DPI", 20)
    monkeypatch.setattr(drawing, "save_png", save_png)
    monkeypatch.setattr(matplotlib.mathtext.MathTextParser, "parse", record)
    return figures_texts, formulas


def assert_shown(names, drawn):
    """Check that each name is in a figure, and that nothing is drawn as a formula but powers of ten on axes."""
    texts, formulas = set.union(*drawn[0]), drawn[1]
    for name in names:
        assert any(escape_controls(name) in text for text in texts), name
    assert not any(character in text for text in texts for character in "\x1b\r\u202e") and max(map(len, texts)) < 200
    assert all(formula.startswith(r"$\mathdefault{") for formula in formulas)


def test_report_of_labels_of_any_characters(drawn, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning for each character without a glyph would fill the terminal
        rows = ScoredRows([f"<{name}>" for name in TEXTS], LABELS, GOLD, PROBABILITIES, None, TEXTS)
        verdict = {"verdict": "weak", "reason": "no <b>", "next_step": "", "scores": {}, "labels_per_text": {}}
        findings = {
            "notes": ["a **note** of <i>"],
            "verdict": verdict,
            "model": RUN_NAMES[0],
            "data": "$x$",
            "evaluated": "2026-11-26 10:00",
        }
        report = write_report(tmp_path, rows, default_rule(len(LABELS)), "caf\udce9", findings)
    assert_shown(NAMES, drawn)
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        *("label_f1", "confusion_matrices", "co_occurrence", "confusions", "reliability", "precision_recall", "thresholds")
    }
    assert len(drawn[0]) == 7 + 4  # those of the page are drawn for a dark page, too
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    cells = Cells(page)
    assert {escape_controls(name) for name in LABELS.names} <= {*cells.cells} and len(cells.captions) == 4
    assert {"table", "img", "strong"} <= cells.tags and not {"script", "i", "b", "em", "a|b"} & cells.tags
    assert any(escape_controls(text) in cells.cells for text in TEXTS) and not any(character in page for character in "\x1b\u202e\udce9")
    for shown in (
        "no &lt;b&gt;",
        "Note: a **note** of &lt;i&gt;",
        "Data: $x$. Scored: 2026-11-26 10:00.",
        "<title>**a**|_b_ $x$ on 60 caf",
    ):
        assert shown in page, shown
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == format_report(report) + "\n"
    assert not any(character in line for line in summarize(report) for character in "\x1b\r\u202e\udce9\n")
    with (tmp_path / "per_label.csv").open(newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == list(LABELS.names)
    assert pd.read_csv(tmp_path / "per_label.csv").label.tolist() == list(LABELS.names)
    lines = format_report(report).split("\n")
    assert [line[: len(escape_controls(name))] for name, line in zip(NAMES, lines[1:], strict=False)] == [*map(escape_controls, NAMES)]
    assert not any(character in line for line in lines for character in "\x1b\r\u202e\udce9")


class Cells(HTMLParser):
    """The tags of a page, the text of each table cell and the captions of the images."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.cells, self.captions, self.is_cell = set(), [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.captions += [value for name, value in attributes if name == "alt"]
        if tag in ("td", "th"):
            self.cells.append("")
            self.is_cell = True

    def handle_endtag(self, tag):
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.is_cell:
            self.cells[-1] += data


def make_run(name, seed):
    noise = np.random.default_rng(seed).normal(0, 0.1 * seed, GOLD.shape)
    probabilities = np.clip(PROBABILITIES + noise, 0.01, 0.99)
    config = Config(data=DataConfig(train_fraction=seed / 4))
    ids = [str(row) for row in range(len(GOLD))]
    return Run(name, config, LABELS, ids, GOLD, probabilities, probabilities >= 0.5, {"total_seconds": 10.0 * seed}, {})


@pytest.mark.parametrize("name", [*NAMES, *RUN_NAMES])
def test_plain_text_of_escaped_markdown_is_the_text(name):
    assert format_plain(f"**{escape_markdown(name)}** is {escape_markdown(name)}") == f"{escape_controls(name)} is {escape_controls(name)}"


def test_comparison_of_runs_and_labels_of_any_characters(drawn, tmp_path):
    runs = [make_run(name, seed) for seed, name in enumerate(RUN_NAMES, start=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conclusion = write_comparison(tmp_path, runs, TEXTS, None)
    assert_shown([*RUN_NAMES, *NAMES], drawn)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"accuracy", "differences", "labels", "pareto_training", "scale", "confusions"}
    of_models = [figure for figure in drawn[0] if "predicted instead" not in figure]
    assert len(drawn[0]) == 12 and len(of_models) == 10
    assert all(figure & {" _<i>`c`</i>", *map(escape_controls, RUN_NAMES)} for figure in of_models)
    complete = [figure for figure in drawn[0] if all(any(escape_controls(name) in text for text in figure) for name in RUN_NAMES)]
    assert len(complete) == 8  # all but the curve, which names its last model: each for a light and for a dark page
    assert not any(character in sentence for sentence in conclusion for character in "\x1b\udce9\n")
    markdown, page = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    from_markdown = Cells(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))
    from_html = Cells(page)
    shown = [escape_controls(name) for name in (*LABELS.names, *RUN_NAMES)]
    assert {*shown} <= {*from_html.cells} and [cell.strip() for cell in from_html.cells] == [cell.strip() for cell in from_markdown.cells]
    assert not {"script", "i", "b", "em", "s", "del"} & (from_markdown.tags | from_html.tags) and "a" not in from_markdown.tags
    assert from_html.tags >= {"strong", "table", "img"} and from_markdown.tags >= {"strong", "table", "img"}
    best = re.match(r"\*\*(.+?)\*\* has the highest", conclusion[0]).group(1)
    shown_best = next(name for name in RUN_NAMES if escape_markdown(name) == best)
    assert f"minus F1 of {escape_controls(shown_best)};" in " ".join(from_html.captions) and from_html.captions == from_markdown.captions
    with (tmp_path / "labels.csv").open(newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == list(LABELS.names)


@pytest.mark.parametrize("name", [*NAMES, *RUN_NAMES, "__a__", "a_b_c", "a__b", "_", "*", "`", "![i](u)", "<http:x>", "_a _b_ c__ d_e"])
def test_a_name_in_a_sentence_is_text(name, tmp_path):
    shown, escaped = escape_controls(name), escape_markdown(name)
    sections = [Section("Title", [Paragraph(f"**{escaped}** is better; `code`, {escaped}."), Table("t", [name], [[name]])])]
    page = format_html("Report", sections)
    paragraph = re.search(r"<p>(.*?)</p>", page).group(1)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(format_markdown("Report", sections))
    children = next(token.children for token in tokens if token.type == "inline" and "is better" in token.content)
    kinds = [token.type for token in children if token.type not in ("text", "text_special")]
    assert kinds == ["strong_open", "strong_close", "code_inline"]
    expected = f"{shown} is better; code, {shown}."
    assert "".join(token.content for token in children) == expected
    assert (
        Cells(f"<td>{paragraph}</td>").cells == [expected]
        and paragraph.count("<strong>") == paragraph.count("</strong>") == paragraph.count("<code>") == 1
    )
    assert not re.search(r"(?<!\\)\$", escaped)  # GitHub draws what is between two dollar signs as a formula
    heading = next(token for token in MarkdownIt("commonmark").parse(format_markdown(f"Of {name}.", [])) if token.type == "inline")
    assert "".join(child.content for child in heading.children) == f"Of {shown}."
    assert {child.type for child in heading.children} <= {"text", "text_special"}
    write_document(tmp_path, "Report", sections)
    assert next(csv.reader((tmp_path / "t.csv").open(newline=""))) == [name.encode("utf-8", "backslashreplace").decode()]
