"""Print the emotions of texts.

python infer.py "I can't believe you did this for me!"
python infer.py                                             # asks for texts on a terminal
cat lines.txt | python infer.py --json > emotions.jsonl
python infer.py --explain "Thanks, but the battery died again."
"""

from emotion.errors import ConfigError, DataError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import sys
    from collections.abc import Iterator
    from contextlib import suppress

    from emotion.arguments import BACKBONE_OPTION, MODEL_OPTION, ArgumentParser
    from emotion.paths import expand_home
    from emotion.text import format_json, is_writable_text, print_message

CHUNK_LINES = 1_024
"""Lines of stdin that are predicted together. A long input is never in memory as a whole."""


def main() -> int:
    arguments = parse_arguments()
    is_prompting = arguments.text is None and sys.stdin.isatty()
    from emotion.inference.answers import build_record, format_table
    from emotion.inference.explanation import explain
    from emotion.inference.loading import load_predictor
    from emotion.inference.text_checks import describe_text
    from emotion.inference.textwise import TextwisePredictor
    from emotion.tracking.locating import choose_model

    model, choice = choose_model(arguments.model)
    is_brief = arguments.text is not None or is_prompting
    predictor = load_predictor(model, arguments.backend, is_brief, arguments.backbone)
    print_message(f"model: {model} ({', '.join(filter(None, (predictor.backend_name, choice)))})")
    rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
    names, textwise = predictor.label_set.names, TextwisePredictor(predictor)
    for texts in prompt_texts() if is_prompting else read_texts(arguments.text):
        probabilities, checks = textwise.predict_checked(texts, rule.thresholds)
        for row, (text, scores, predicted) in enumerate(zip(texts, probabilities, rule.decide(probabilities), strict=True)):
            explanation = explain(predictor, text) if arguments.explain else None
            notes = describe_text(text, checks, row, predictor.sidecar)
            if arguments.json:
                record = build_record(text, names, scores, predicted, rule, arguments.top_k, explanation)
                print(format_json(record | ({"notes": notes} if notes else {})))
            else:
                print(format_table(text, names, scores, predicted, rule, arguments.top_k or 5, explanation))
                for note in notes:
                    print(f"  note: {note}")
        sys.stdout.flush()
    return 0


def prompt_texts() -> Iterator[list[str]]:
    """Yield the lines that are typed on a terminal, one by one, until an empty line or Ctrl-D."""
    with suppress(ImportError):  # not on Windows
        import readline  # noqa: F401  # lets `input` edit the line and find earlier ones
    print_message("type a text and Enter; an empty line or Ctrl-D ends")
    while True:
        try:
            if sys.stdout.isatty():
                text = input("> ")
            else:  # the answers go to a file, the prompt does not
                print("> ", end="", file=sys.stderr, flush=True)
                text = input()
        except EOFError:
            print_message("")
            return
        except UnicodeDecodeError:
            print_message("not valid UTF-8; type it again")
            continue
        if not text.strip():
            return
        if not is_writable_text(text):  # readline turns bytes that are not UTF-8 into lone surrogates
            print_message("not valid UTF-8; type it again")
            continue
        yield [text]


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
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    texts = "texts, after -- if one begins with a dash (default: the lines of stdin; on a terminal, a prompt asks for them)"
    add("texts", nargs="*", metavar="TEXT", help=texts)
    add("--text", action="append", metavar="TEXT", help="a text; can be given several times")
    add("--model", type=expand_home, **MODEL_OPTION)
    add("--backbone", type=expand_home, **BACKBONE_OPTION)
    add("--top-k", type=int, metavar="K", help="most likely labels to show beside the predicted ones (default: 5, all with --json)")
    add("--threshold", type=float, help="one threshold in (0, 1) for all labels instead of the stored ones")
    add("--empty-set", choices=("none", "top1"), help="labels of a text with no label above its threshold: none, or the most likely one")
    add("--explain", action="store_true", help="show how much each word contributes to the logit of each predicted label")
    backends = "onnx is the graph that export.py --onnx writes; numpy is for small encoders and few texts. Both start within a second. "
    backends += "auto uses them where their answers are the same as torch's (default)"
    add("--backend", choices=("auto", "torch", "onnx", "numpy"), default="auto", help=backends)
    add("--json", action="store_true", help="print one JSON object per line")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)  # parse_intermixed_args takes a text behind it for an option
    arguments = parser.parse_intermixed_args(words[:end])
    arguments.text = [*(arguments.text or ()), *arguments.texts, *words[end + 1 :]] or None
    if any(not text.strip() for text in arguments.text or ()):
        raise DataError("a text is empty; give one with words")
    for text in arguments.text or ():
        if not is_writable_text(text):
            raise DataError(f"text {text!r}: not valid UTF-8")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ConfigError(f"--threshold {arguments.threshold}: must be in (0, 1)")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise ConfigError(f"--top-k {arguments.top_k}: must be at least 1")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
