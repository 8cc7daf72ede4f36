"""Group of `benchmarks.hostile` on what is printed: terminal escapes, and lines that look like results."""

import json
import random
import re
import shutil
from functools import partial
from pathlib import Path

from benchmarks.attacks.scripts import Target, Trials, change_json, expect, write_texts

TITLE, CLEAR, C1 = "\x1b]0;owned\x07", "\x1b[2J", "\x9b31m\x9d0;owned\x9c"
PAYLOADS = {"a title": TITLE, "a cleared screen": CLEAR, "C1": C1, "a turned direction": "\u202eevil\u2066"}
FORGED = "fine\n  ● joy             99.9%  "
"""A text whose second line looks like a result."""


def attack_escapes(target: Target, folder: Path) -> Trials:
    """Nothing of others reaches the terminal as a control character; --json still holds the text as it was."""
    for name, payload in PAYLOADS.items():
        yield f"--text with {name}", partial(check_infer, target, payload)
        yield f"--json with {name}", partial(check_json_text, target, payload)
    yield "stdin", partial(check_stdin, target, TITLE + CLEAR + C1)
    yield "--explain", partial(check_infer, target, CLEAR, options=("--explain", "--backend", "torch", "--empty-set", "top1"))
    yield "a newline in --text", partial(check_forged_line, target)
    words = {
        "a file that is missing": ["evaluate.py", "--model", "{run}", "--input", "no" + TITLE + ".csv", "--output", "{folder}/out.csv"],
        "a model that is missing": ["infer.py", "--model", "./no" + TITLE, "--text", "a"],
        "an override": ["train.py", "--config", "configs/quickstart.yaml", "data.text_colum" + TITLE + "=x"],
        "a config": ["train.py", "--config", "configs/no" + CLEAR + ".yaml"],
        "a run to compare": ["compare.py", "runs/no" + CLEAR, "runs/other", "--output", "{folder}/out"],
        "a column that is named": [
            "evaluate.py",
            "--model",
            "{run}",
            "--input",
            "{csv}",
            "--output",
            "{folder}/out.csv",
            "data.text_column=" + CLEAR,
        ],
    }
    for name, command in words.items():
        yield name, partial(check_words, target, command)
    for name, content in {
        "column names": f"id{CLEAR},text{TITLE},id{CLEAR}\n1,a,2\n",
        "detected column": f"id,{CLEAR}x\n1,a b c\n",
    }.items():
        yield name, partial(check_rows, target, content)
    yield "a label", partial(check_label, target, "joy" + TITLE)


def check_clean(*streams: str) -> None:
    """Check that no control character but newline, tab and carriage return is printed."""
    found = re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "".join(streams))
    expect(found is None, f"prints {found[0]!r}" if found else "")


def check_infer(target: Target, payload: str, folder: Path, generator: random.Random, options: tuple[str, ...] = ()) -> None:
    result = target.infer("--text", f"happy {payload} friend", *options).check()
    check_clean(result.out, result.err)


def check_json_text(target: Target, payload: str, folder: Path, generator: random.Random) -> None:
    text = f"happy {payload}\n friend\u2028"
    result = target.infer("--json", "--text", text).check_done()
    check_clean(result.out, result.err)
    expect(json.loads(result.out)["text"] == text, "the text is changed")


def check_stdin(target: Target, payload: str, folder: Path, generator: random.Random) -> None:
    result = target.infer(stdin=f"happy {payload} friend\n".encode()).check()
    check_clean(result.out, result.err)


def check_forged_line(target: Target, folder: Path, generator: random.Random) -> None:
    result = target.infer("--text", FORGED).check()
    expect(not any(line.startswith(FORGED.splitlines()[1].rstrip()) for line in result.out.splitlines()), "a result line is forged")


def check_words(target: Target, words: list[str], folder: Path, generator: random.Random) -> None:
    places = {"run": target.trained, "folder": folder, "csv": write_texts(folder / "in.csv", 3, generator)}
    result = target.run(*(word.format(**places) for word in words)).check_refused()
    check_clean(result.out, result.err)


def check_rows(target: Target, content: str, folder: Path, generator: random.Random) -> None:
    (folder / f"in{TITLE}.csv").write_text(content)
    result = target.score(folder / f"in{TITLE}.csv", folder / "out.csv").check()
    check_clean(result.out, result.err)


def check_label(target: Target, label: str, folder: Path, generator: random.Random) -> None:
    run = Path(shutil.copytree(target.trained, folder / "run"))
    change_json(run / "model" / "emotion.json", labels=[label, "fear", "sadness", "love"])
    result = target.infer("--text", "happy friend", model=run).check()
    check_clean(result.out, result.err)
