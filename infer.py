"""Print the emotions of texts.

python infer.py --text "I can't believe you did this for me!"
cat lines.txt | python infer.py --json > emotions.jsonl
python infer.py --explain --text "Thanks, but the battery died again."
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from emotion.errors import ConfigError, DataError, exit_on_error
from emotion.terminal import escape_controls, format_json, print_message

if TYPE_CHECKING:
    import numpy as np

    from emotion.evaluation.decision import DecisionRule
    from emotion.inference.explanation import Explanation

COLOR_FOR, COLOR_AGAINST = (86, 180, 233), (230, 159, 0)
"""Blue and orange, which color-blind readers can tell apart."""
MIN_HIGHLIGHT = 0.1
"""A word is highlighted from this fraction of the strongest word's contribution."""
CHUNK_LINES = 1_024
"""Lines of stdin that are predicted together. A long input is never in memory as a whole."""


def main() -> int:
    arguments = parse_arguments()
    if arguments.text is None and sys.stdin.isatty():
        raise ConfigError('no text: give one with --text "...", or lines on stdin')
    from emotion.inference.loading import load_predictor
    from emotion.tracking.run_folder import find_newest_run

    model = arguments.model or str(find_newest_run().path)
    predictor = load_predictor(model, arguments.backend, is_brief=arguments.text is not None)
    print_message(f"model: {model} ({predictor.backend_name})")
    if arguments.explain:
        from emotion.inference.explanation import explain
    rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
    names = predictor.label_set.names
    for texts in read_texts(arguments.text):
        probabilities = predictor.predict(texts)
        for text, scores, predicted in zip(texts, probabilities, rule.decide(probabilities), strict=True):
            explanation = explain(predictor, text) if arguments.explain else None
            if arguments.json:
                record = build_record(text, names, scores, predicted, arguments.top_k, explanation)
                print(format_json(record))
            else:
                print(format_table(text, names, scores, predicted, rule, arguments.top_k or 5, explanation))
        sys.stdout.flush()
    return 0


def read_texts(given: list[str] | None) -> Iterator[list[str]]:
    """Yield the given texts at once, or the lines of stdin in chunks.

    Raises: DataError for an empty line, or input that is not UTF-8.
    """
    if given is not None:
        yield given
        return
    chunk: list[str] = []
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"stdin:{number}: not valid UTF-8 ({error.reason} at byte {error.start})") from None
        if not text.strip():
            raise DataError(f"stdin:{number}: is empty; leave such lines out, for example with grep .")
        chunk.append(text)
        if len(chunk) == CHUNK_LINES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def build_record(
    text: str, names: tuple[str, ...], scores: "np.ndarray", predicted: "np.ndarray", top_k: int | None, explanation: "Explanation | None"
) -> dict[str, Any]:
    """Return what --json prints for a text; `scores` are its probabilities, (L,), and `predicted` its predictions, bool (L,)."""
    order = scores.argsort()[::-1]
    labels = [int(i) for i in order if predicted[i]]
    record: dict[str, Any] = {"text": text, "labels": [names[i] for i in labels]}
    record["probabilities"] = {names[i]: round(float(scores[i]), 4) for i in order[:top_k]}
    if explanation is not None:  # by label: (word, logits) in the order of the text
        columns = {names[i]: explanation.contributions[:, i].tolist() for i in labels}
        record["contributions"] = {
            name: [(w, round(x, 3)) for w, x in zip(explanation.words, column, strict=True)] for name, column in columns.items()
        }
    return record


def format_table(
    text: str,
    names: tuple[str, ...],
    scores: "np.ndarray",
    predicted: "np.ndarray",
    rule: "DecisionRule",
    top_k: int,
    explanation: "Explanation | None",
) -> str:
    """Return a text and its most likely labels, one per line with a bar; a dot marks predicted labels. Explanations follow."""
    order = scores.argsort()[::-1]
    width = min(shutil.get_terminal_size().columns, 100)
    shown, names = escape_controls(text), tuple(map(escape_controls, names))
    lines = [shown if len(shown) <= width else shown[: width - 1] + "…"]
    for i in order[:top_k]:
        dot, bar = "●" if predicted[i] else " ", "█" * round(float(scores[i]) * 30)
        lines.append(f"  {dot} {names[i]:<15} {scores[i]:5.1%}  {bar:<30}  (from {rule.thresholds[i]:.0%})")
    if not predicted[order[:top_k]].any():
        lines.append("    no label reaches its threshold")
    lines.append("")
    if explanation is not None:
        for i in order[predicted[order]]:
            lines += [f"  {names[i]:<15} {highlight_words(explanation, i)}", ""]
    return "\n".join(lines)


def highlight_words(explanation: "Explanation", label: int) -> str:
    """Return the text with the words for a label in blue and those against it in orange, stronger words in fuller colors.

    Without a terminal, the contribution follows each of these words in brackets.
    """
    values = explanation.contributions[:, label]
    scale = max(abs(values).max(initial=0), 1e-6)
    parts, position = [], 0
    for (start, end), value in zip(explanation.spans, values, strict=True):
        fraction = float(value / scale)
        word = escape_controls(explanation.text[start:end])
        if abs(fraction) >= MIN_HIGHLIGHT and sys.stdout.isatty():
            color = COLOR_FOR if fraction > 0 else COLOR_AGAINST
            red, green, blue = (round(255 - (255 - tone) * abs(fraction)) for tone in color)
            word = f"\x1b[48;2;{red};{green};{blue};38;2;0;0;0m{word}\x1b[0m"
        elif abs(fraction) >= MIN_HIGHLIGHT:
            word += f"[{value:+.1f}]"
        parts += [escape_controls(explanation.text[position:start]), word]
        position = end
    return "".join([*parts, escape_controls(explanation.text[position:])])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--text", action="append", metavar="TEXT", help="a text; can be given several times (default: the lines of stdin)")
    add("--model", metavar="FOLDER", help="run folder, model folder or Hub id (default: the newest finished run)")
    add("--top-k", type=int, metavar="K", help="labels to show for each text (default: 5 in the table, all with --json)")
    add("--threshold", type=float, help="one threshold in (0, 1) for all labels instead of the stored ones")
    add("--empty-set", choices=("none", "top1"), help="labels of a text with no label above its threshold: none, or the most likely one")
    add("--explain", action="store_true", help="show how much each word contributes to the logit of each predicted label")
    backends = "onnx is the graph that export.py --onnx writes; numpy is for small encoders and few texts. Both start within a second. "
    backends += "auto uses them where their answers are the same as torch's (default)"
    add("--backend", choices=("auto", "torch", "onnx", "numpy"), default="auto", help=backends)
    add("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args()
    if any(not text.strip() for text in arguments.text or ()):
        raise DataError("--text: is empty")
    for text in arguments.text or ():
        if re.search("[\ud800-\udfff]", text):  # what bytes that are not UTF-8 are read as
            raise DataError(f"--text {text!r}: not valid UTF-8")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ConfigError(f"--threshold {arguments.threshold}: must be in (0, 1)")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise ConfigError(f"--top-k {arguments.top_k}: must be at least 1")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
