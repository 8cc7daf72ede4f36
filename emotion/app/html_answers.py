"""Answers as HTML: bars with thresholds, colored words, and what the thresholds give on validation. All text of others is escaped."""

from html import escape

from emotion.app.answers import Answer
from emotion.app.thresholds import OperatingPoint
from emotion.inference.answers import COLOR_AGAINST, COLOR_FOR, scale_contributions
from emotion.inference.explanation import Explanation
from emotion.text import escape_controls

NUM_BARS = 8
"""Labels that are always shown; the others are folded, so that the page keeps its height."""
MAX_LABELS = 200
"""Labels in a list or a table; a model may have thousands."""
METHOD = "Leave-one-out (Li et al. 2016): how much the label's logit falls when the word is left out."
EMPTY = '<p class="hint">Write or choose a text; the answer appears here.</p>'
CHOOSE_LABEL = '<p class="hint">Choose an emotion above to see the words that speak for and against it.</p>'


def format_text(text: str) -> str:
    """Return text of others as HTML that shows it as it is, in its own direction."""
    shown = "\n".join(map(escape_controls, text.splitlines()))
    return f'<bdi dir="auto" class="text">{escape(shown)}</bdi>'


def format_name(name: str) -> str:
    """Return a label's name as HTML."""
    return f'<bdi dir="auto">{escape(escape_controls(name))}</bdi>'


def format_answers(answers: list[Answer]) -> str:
    """Return the answers of one or two models side by side; two have the names of their models as titles."""
    sections = "".join(_format_answer(answer, has_title=len(answers) > 1) for answer in answers)
    return f'<div class="answers columns-{len(answers)}">{sections}</div>'


def format_notice(message: str) -> str:
    """Return an error or a note as one line."""
    return f'<p class="notice" role="alert">{escape(escape_controls(message))}</p>'


def format_explanation(explanation: Explanation, answer: Answer, column: int) -> str:
    """Return the text with the words for a label in blue and those against it in orange, and the name of the method."""
    values = explanation.contributions[:, column]
    parts, position = [], 0
    for (start, end), value, fraction in zip(explanation.spans, values, scale_contributions(values), strict=True):
        parts.append(escape(explanation.text[position:start]))
        parts.append(_format_word(explanation.text[start:end], float(value), fraction))
        position = end
    rest = escape(answer.text[position : answer.num_read])
    unread = f'<span class="unread">{escape(answer.text[answer.num_read :])}</span>' if answer.is_cut else ""
    title = f"<h2>Words for and against {format_name(answer.model.predictor.label_set.names[column])}</h2>"
    method = " ".join(filter(None, [METHOD, explanation.limit]))
    legend = f'<p class="hint"><mark class="for">for</mark> <mark class="against">against</mark> {escape(method)}</p>'
    return f'{title}<p class="words"><bdi dir="auto" class="text">{"".join(parts)}{rest}{unread}</bdi></p>{legend}'


def format_point(point: OperatingPoint | None, fitted: OperatingPoint | None, sensitivity: float) -> str:
    """Return what the thresholds give on the validation rows, beside what the fitted rule gives."""
    if point is None or fitted is None:
        return '<p class="hint">No validation predictions are stored beside this model, so precision and recall are not known.</p>'
    cells = []
    for name, title in (("precision", "of the given labels are right"), ("recall", "of the right labels are given")):
        now, before = getattr(point, name), getattr(fitted, name)
        change = f' <span class="hint">({_format_percent(before)} at the fitted rule)</span>' if sensitivity else ""
        cells.append(f"<dt>{name.capitalize()}</dt><dd><b>{_format_percent(now)}</b> {title}{change}</dd>")
    cells.append(f"<dt>Labels</dt><dd><b>{point.labels_per_text:.1f}</b> per text</dd>")
    state = "moved from the fitted rule" if sensitivity else "the fitted rule"
    note = f"On {point.num_rows:,} validation rows, {state}. The rule was fitted on these rows, so new texts do slightly worse."
    return f'<dl class="point">{"".join(cells)}</dl><p class="hint">{note}</p>'


def format_label_points(point: OperatingPoint | None) -> str:
    """Return threshold, precision and recall of each label as a table."""
    if point is None:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("label", "threshold", "precision", "recall", "gold", "predicted"))
    rows = [
        f'<tr><th scope="row">{format_name(label.name)}</th>'
        + "".join(
            f'<td class="number">{value}</td>'
            for value in (
                f"{label.threshold:.0%}",
                *map(_format_percent, (label.precision, label.recall)),
                f"{label.num_gold:,}",
                f"{label.num_predicted:,}",
            )
        )
        + "</tr>"
        for label in sorted(point.labels, key=lambda label: -label.num_gold)[:MAX_LABELS]
    ]
    return format_table(head, rows, "Each label on the validation rows, the most frequent first")


def format_table(head: str, rows: list[str], caption: str) -> str:
    """Return a table that scrolls sideways where it is too wide."""
    table = f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">{table}</div>'


def _format_percent(value: float | None) -> str:
    """Return a fraction in percent; a dash for one that could not be measured."""
    return "–" if value is None else f"{value:.0%}"


def _format_answer(answer: Answer, has_title: bool) -> str:
    names = answer.model.predictor.label_set.names
    given = [names[column] for column in answer.order if answer.predictions[column]]
    summary = ", ".join(map(format_name, given)) if given else "no emotion reaches its threshold"
    notes = "".join(f'<p class="notice">{escape(escape_controls(_add_position(answer, note)))}</p>' for note in answer.notes)
    bars = [_format_bar(answer, column) for column in answer.order[:MAX_LABELS]]
    num_shown = max(NUM_BARS, len(given))
    more = f"<details><summary>{len(bars) - num_shown} more</summary><ul role='list'>{''.join(bars[num_shown:])}</ul></details>"
    title = f"<h2>{escape(escape_controls(answer.model.name))}</h2>" if has_title else ""
    return (
        f'<section aria-label="Answer of {escape(answer.model.name)}">{title}'
        f'<p class="summary" aria-live="polite">{summary}</p>'
        f"<ul role='list'>{''.join(bars[:num_shown])}</ul>{more if len(bars) > num_shown else ''}{notes}</section>"
    )


def _add_position(answer: Answer, note: str) -> str:
    """Return a note; the one of a cut text also says where."""
    return f"{note} (after {answer.num_read:,} of {len(answer.text):,} characters)" if answer.is_cut and "not read" in note else note


def _format_bar(answer: Answer, column: int) -> str:
    name, probability = answer.model.predictor.label_set.names[column], float(answer.probabilities[column])
    threshold, is_predicted = answer.rule.thresholds[column], bool(answer.predictions[column])
    is_reached = probability >= threshold
    state = "given" if is_predicted and is_reached else "likeliest, below its threshold" if is_predicted else "not given"
    mark = "●" if is_predicted and is_reached else "○" if is_predicted else ""
    description = f"{state}: {probability:.1%}, threshold {threshold:.0%}"
    return (
        f'<li><button type="button" class="bar{" given" if is_predicted else ""}" data-label="{escape(name)}" '
        f'data-model="{escape(answer.model.name)}" title="{escape(description)}">'
        f'<span class="mark" aria-hidden="true">{mark}</span><span class="name">{format_name(name)}</span>'
        f'<span class="track" aria-hidden="true"><span class="fill" style="width:{probability:.2%}"></span>'
        f'<span class="threshold" style="left:{threshold:.2%}"></span></span>'
        f'<span class="value" aria-hidden="true">{probability:.1%}</span><span class="unseen">{escape(description)}</span></button></li>'
    )


def _format_word(word: str, value: float, fraction: float) -> str:
    if not fraction:
        return escape(word)
    color = COLOR_FOR if fraction > 0 else COLOR_AGAINST
    red, green, blue = (round(255 - (255 - tone) * abs(fraction)) for tone in color)
    direction = "for" if fraction > 0 else "against"
    style = f"background:rgb({red} {green} {blue})"
    return (
        f'<mark class="{direction}" style="{style}" title="{value:+.2f}">{escape(word)}<span class="unseen"> ({value:+.1f})</span></mark>'
    )
