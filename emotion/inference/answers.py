"""One text's answer for the user: a table for the terminal, or a record for JSON."""

import shutil
import sys
from typing import Any

import numpy as np

from emotion.evaluation.decision import DecisionRule, rank_labels
from emotion.inference.explanation import Explanation
from emotion.text import count_columns, escape_controls

COLOR_FOR, COLOR_AGAINST = (86, 180, 233), (230, 159, 0)
"""Blue and orange, which color-blind readers can tell apart."""
DIGITS = 4
"""Decimals of a probability in JSON."""
NAME_WIDTH = 15
"""Columns of a label's name in a table, unless a longer one is shown."""
MIN_HIGHLIGHT = 0.1
"""A word is highlighted from this fraction of the strongest word's contribution."""
MIN_CONTRIBUTION = 0.05
"""A word is highlighted from this contribution, in logits: less is shown as 0.0."""


def build_record(
    text: str,
    names: tuple[str, ...],
    scores: np.ndarray,
    predicted: np.ndarray,
    rule: DecisionRule,
    top_k: int | None,
    explanation: Explanation | None,
) -> dict[str, Any]:
    """Return what --json prints for a text; `scores` are its probabilities, (L,), and `predicted` its predictions, bool (L,)."""
    order = rank_labels(scores)
    labels = [int(i) for i in order if predicted[i]]
    record: dict[str, Any] = {"text": text, "labels": [names[i] for i in labels]}
    record["probabilities"] = {names[i]: round(float(scores[i]), DIGITS) for i in order[:top_k]}
    if rule.empty_set == "top1":  # the label may be predicted only because no label reaches its threshold
        record["is_below_threshold"] = bool((scores < np.asarray(rule.thresholds)).all())
    if explanation is not None:  # by label: (word, logits) in the order of the text
        columns = {names[i]: explanation.contributions[:, i].tolist() for i in labels}
        record["contributions"] = {
            name: [(w, round(x, 3)) for w, x in zip(explanation.words, column, strict=True)] for name, column in columns.items()
        }
    return record


def format_table(
    text: str,
    names: tuple[str, ...],
    scores: np.ndarray,
    predicted: np.ndarray,
    rule: DecisionRule,
    top_k: int,
    explanation: Explanation | None,
) -> str:
    """Return a text with its `top_k` most likely labels and all predicted ones, one per line with a bar. Explanations follow.

    A dot marks predicted labels. A circle marks a label that is below its threshold and predicted only because no label reaches its own.
    """
    order = rank_labels(scores)
    rows = [i for rank, i in enumerate(order) if rank < top_k or predicted[i]]
    width = min(shutil.get_terminal_size().columns, 100)
    shown, names = escape_controls(text), tuple(map(escape_controls, names))
    names_width = max(NAME_WIDTH, *(count_columns(names[i]) for i in rows))
    lines = [shown if len(shown) <= width else shown[: width - 1] + "…"]
    for i in rows:
        is_reached, bar = scores[i] >= rule.thresholds[i], "█" * round(float(scores[i]) * 30)
        dot = " " if not predicted[i] else "●" if is_reached else "○"
        note = f"likeliest, below its threshold of {rule.thresholds[i]:.0%}" if dot == "○" else f"from {rule.thresholds[i]:.0%}"
        lines.append(f"  {dot} {names[i]}{' ' * (names_width - count_columns(names[i]))} {scores[i]:5.1%}  {bar:<30}  ({note})")
    if not predicted.any():
        lines.append("    no label reaches its threshold")
    lines.append("")
    if explanation is not None:
        for i in order[predicted[order]]:
            lines += [f"  {names[i]:<15} {highlight_words(explanation, i)}", ""]
        if explanation.limit and predicted.any():
            lines += [f"  {explanation.limit}", ""]
    return "\n".join(lines)


def highlight_words(explanation: Explanation, label: int) -> str:
    """Return the text with the words for a label in blue and those against it in orange, stronger words in fuller colors.

    Without a terminal, the contribution follows each of these words in brackets.
    """
    values = explanation.contributions[:, label]
    parts, position = [], 0
    for (start, end), value, fraction in zip(explanation.spans, values, scale_contributions(values), strict=True):
        word = escape_controls(explanation.text[start:end])
        if fraction and sys.stdout.isatty():
            color = COLOR_FOR if fraction > 0 else COLOR_AGAINST
            red, green, blue = (round(255 - (255 - tone) * abs(fraction)) for tone in color)
            word = f"\x1b[48;2;{red};{green};{blue};38;2;0;0;0m{word}\x1b[0m"
        elif fraction:
            word += f"[{value:+.1f}]"
        parts += [escape_controls(explanation.text[position:start]), word]
        position = end
    return "".join([*parts, escape_controls(explanation.text[position:])])


def scale_contributions(values: np.ndarray) -> list[float]:
    """Return how strongly each word is highlighted, in [-1, 1], from the contributions to a label, float (W,): weak ones have 0."""
    strongest = abs(values).max(initial=0)
    is_shown = abs(values) >= max(MIN_HIGHLIGHT * strongest, MIN_CONTRIBUTION)
    return [float(value / strongest) if shown else 0.0 for value, shown in zip(values, is_shown, strict=True)]
