"""Print the emotions of texts.

python infer.py --text "I can't believe you did this for me!"
cat lines.txt | python infer.py --json > emotions.jsonl
python infer.py --explain --text "Thanks, but the battery died again."
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from emotion.errors import ConfigError, DataError, exit_on_error

if TYPE_CHECKING:
    from emotion.inference.explanation import Explanation

FOR, AGAINST = (86, 180, 233), (230, 159, 0)
"""Blue and orange, told apart by the colour-blind."""
SHOWN_SHARE = 0.1
"""Share of the strongest word's contribution from which a word is marked."""
LINES_AT_ONCE = 1_024
"""Lines of stdin that are predicted together, so that a long input needs little memory."""


def main() -> int:
    arguments = parse_arguments()
    if arguments.text is None and sys.stdin.isatty():
        raise ConfigError('no text: give one with --text "...", or lines on stdin')
    from emotion.inference.loading import load_predictor
    from emotion.tracking.run_folder import find_newest_run

    model = arguments.model or str(find_newest_run().path)
    predictor = load_predictor(model, arguments.backend, is_brief=arguments.text is not None)
    print(f"model: {model} ({predictor.form})", file=sys.stderr)
    if arguments.explain:
        from emotion.inference.explanation import explain
    rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
    names = predictor.label_set.names
    for texts in read_texts(arguments.text):
        probabilities = predictor.predict(texts)
        predictions = rule.decide(probabilities)
        for text, scores, is_on in zip(texts, probabilities, predictions, strict=True):
            order = scores.argsort()[::-1]
            explanation = explain(predictor, text) if arguments.explain else None
            on = [int(i) for i in order if is_on[i]]
            if arguments.json:
                kept = order[: arguments.top_k]
                record = {"text": text, "labels": [names[i] for i in on]}
                record["probabilities"] = {names[i]: round(float(scores[i]), 4) for i in kept}
                if explanation is not None:
                    record["contributions"] = {names[i]: list_contributions(explanation, i) for i in on}
                print(json.dumps(record, ensure_ascii=False))
                continue
            print_table(text, [(names[i], float(scores[i]), rule.thresholds[i], bool(is_on[i])) for i in order[: arguments.top_k or 5]])
            for i in on if explanation is not None else ():
                print(f"  {names[i]:<15} {paint(explanation, i)}\n")
        sys.stdout.flush()
    return 0


def read_texts(given: list[str] | None) -> Iterator[list[str]]:
    """Yield the texts in portions: those given, or the lines of stdin.

    Raises: DataError for an empty line, or input that is not UTF-8.
    """
    if given is not None:
        yield given
        return
    portion: list[str] = []
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"stdin:{number}: not valid UTF-8 ({error.reason} at byte {error.start})") from None
        if not text.strip():
            raise DataError(f"stdin:{number}: is empty; leave such lines out, for example with grep .")
        portion.append(text)
        if len(portion) == LINES_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion


def list_contributions(explanation: "Explanation", label: int) -> list[tuple[str, float]]:
    """Return (word, contribution in logits) in the order of the text."""
    return [(word, round(float(value), 3)) for word, value in zip(explanation.words, explanation.contributions[:, label], strict=True)]


def paint(explanation: "Explanation", label: int) -> str:
    """Return the text with words for a label on blue and those against it on orange, the stronger the fuller.

    Where there is no terminal, words that count have their contribution behind them.
    """
    values = explanation.contributions[:, label]
    scale = max(abs(values).max(initial=0), 1e-6)
    parts, position = [], 0
    for (start, end), value in zip(explanation.spans, values, strict=True):
        share = float(value / scale)
        word = explanation.text[start:end]
        if not sys.stdout.isatty():
            word += f"[{value:+.1f}]" if abs(share) >= SHOWN_SHARE else ""
        elif abs(share) >= SHOWN_SHARE:
            red, green, blue = (round(255 - (255 - tone) * abs(share)) for tone in (FOR if share > 0 else AGAINST))
            word = f"\x1b[48;2;{red};{green};{blue};38;2;0;0;0m{word}\x1b[0m"
        parts += [explanation.text[position:start], word]
        position = end
    return "".join([*parts, explanation.text[position:]])


def print_table(text: str, rows: list[tuple[str, float, float, bool]]) -> None:
    """Print a text and, a line each, its likeliest labels with a bar; those the rule gives are marked."""
    width = min(shutil.get_terminal_size().columns, 100)
    print(text if len(text) <= width else text[: width - 1] + "…")
    for name, probability, threshold, is_on in rows:
        bar = "█" * round(probability * 30)
        print(f"  {'●' if is_on else ' '} {name:<15} {probability:5.1%}  {bar:<30}  (from {threshold:.0%})")
    if not any(row[3] for row in rows):
        print("    no label reaches its threshold")
    print()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--text", action="append", metavar="TEXT", help="a text; may be given many times")
    parser.add_argument("--model", metavar="FOLDER", help="run folder, model folder or Hub id; the newest finished run if left out")
    parser.add_argument("--top-k", type=int, metavar="K", help="labels shown of a text (table: 5, --json: all)")
    parser.add_argument("--threshold", type=float, help="one threshold for all labels in place of the stored ones, in (0, 1)")
    parser.add_argument("--empty-set", choices=("none", "top1"), help="what a text without a label above its threshold gets")
    parser.add_argument(
        "--explain", action="store_true", help="what each word contributes to each label given: the loss of its logit without the word"
    )
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "onnx", "numpy"),
        default="auto",
        help="onnx: the form made by evaluate.py --export onnx; numpy: small encoders, a few texts. Both start within a second, and auto "
        "takes them where they answer the same as torch",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    if any(not text.strip() for text in arguments.text or ()):
        raise DataError("--text: is empty")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ConfigError(f"--threshold {arguments.threshold}: must be in (0, 1)")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise ConfigError(f"--top-k {arguments.top_k}: must be at least 1")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
