"""Print the emotions of texts.

python infer.py --text "I can't believe you did this for me!"
cat lines.txt | python infer.py --json > emotions.jsonl
python infer.py --explain --text "Thanks, but the battery died again."
"""

import argparse
import sys
from collections.abc import Iterator

from emotion.errors import ConfigError, DataError, exit_on_error
from emotion.paths import expand_home
from emotion.text import format_json, is_writable_text, print_message

CHUNK_LINES = 1_024
"""Lines of stdin that are predicted together. A long input is never in memory as a whole."""


def main() -> int:
    arguments = parse_arguments()
    if arguments.text is None and sys.stdin.isatty():
        raise ConfigError('no text: give one with --text "...", or lines on stdin')
    from emotion.inference.answers import build_record, format_table
    from emotion.inference.explanation import explain
    from emotion.inference.loading import load_predictor
    from emotion.inference.text_checks import describe_text
    from emotion.tracking.run_folder import find_default_model

    model, choice = (arguments.model, "") if arguments.model else find_default_model()
    predictor = load_predictor(model, arguments.backend, is_brief=arguments.text is not None)
    print_message(f"model: {model} ({', '.join(filter(None, (predictor.backend_name, choice)))})")
    rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
    names = predictor.label_set.names
    for texts in read_texts(arguments.text):
        probabilities, checks = predictor.predict_checked(texts)
        for row, (text, scores, predicted) in enumerate(zip(texts, probabilities, rule.decide(probabilities), strict=True)):
            explanation = explain(predictor, text) if arguments.explain else None
            notes = describe_text(text, checks, row, predictor.sidecar.max_length)
            if arguments.json:
                record = build_record(text, names, scores, predicted, rule, arguments.top_k, explanation)
                print(format_json(record | ({"notes": notes} if notes else {})))
            else:
                print(format_table(text, names, scores, predicted, rule, arguments.top_k or 5, explanation))
                for note in notes:
                    print(f"  note: {note}")
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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--text", action="append", metavar="TEXT", help="a text; can be given several times (default: the lines of stdin)")
    add(
        "--model",
        type=expand_home,
        metavar="FOLDER",
        help="run folder, model folder or Hub id (default: the newest finished run, or else the shipped model)",
    )
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
        if not is_writable_text(text):
            raise DataError(f"--text {text!r}: not valid UTF-8")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ConfigError(f"--threshold {arguments.threshold}: must be in (0, 1)")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise ConfigError(f"--top-k {arguments.top_k}: must be at least 1")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
