"""Groups of `benchmarks.hostile` on runs: labels, damaged files of a run to resume, two processes at once, permissions."""

import csv
import html
import json
import random
import re
import shutil
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.attacks.scripts import Target, Trials, cut_in_half, expect, finish, flip_byte, stop_when, write_data, write_texts

TIMES = {"seconds", "peak_memory", "examples_per_second", "tokens_per_second"}
"""Keys of metrics.jsonl that are measurements of the machine."""
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)")
MARKUP = re.compile(r"(?<!\\)(?:<script>alert|\]\(javascript|\*\*b\*\*)")
"""What the hostile labels are if they are not text."""
STOPPED_SETTINGS = ("training.epochs=4", "training.save_every_steps=3", "training.log_every=1")
"""24 steps."""
HOSTILE_LABELS = {
    "broken mathtext": r"$\frac{$",
    "unknown mathtext": r"$\nosuch$",
    "Chinese": "高兴",
    "Arabic": "فرح",
    "emoji": "😀🏳️‍🌈",
    "a pipe": "a|b",
    "HTML": "<script>alert(1)</script>",
    "a newline": "a\nb",
    "a link": "[x](javascript:1)",
    "backticks": "`a` **b** _c_",
    "YAML": "a: [b, {c}] # d",
    "quotes": '"it\'s"',
}
SHOWN_AS_IT_IS = ("broken mathtext", "unknown mathtext", "Chinese", "Arabic", "emoji")


def attack_labels(target: Target, folder: Path) -> Trials:
    """Labels of any characters are trained on, drawn and written as text: in figures, tables, card and comparison."""
    for name, label in HOSTILE_LABELS.items():
        yield name, partial(check_label, target, name, label)


def check_label(target: Target, name: str, label: str, folder: Path, generator: random.Random) -> None:
    data = write_data(folder / "data", (label, "fear", "joy", "love"))
    target.run(*target.train_words(folder, "run", f"data.source={data}"), RENDER="1").check_done()
    run = folder / "run"
    target.run("evaluate.py", "--model", str(run), RENDER="1").check_done()
    target.run("compare.py", str(run), "--output", str(folder / "compared"), RENDER="1").check_done()
    with (run / "report" / "test" / "per_label.csv").open(newline="", encoding="utf-8") as stream:
        expect(sorted(row["label"] for row in csv.DictReader(stream)) == sorted([label, "fear", "joy", "love"]), "per_label.csv")
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    yaml.safe_load(card.split("---")[1])
    page = (folder / "compared" / "report.html").read_text(encoding="utf-8")
    table = (folder / "compared" / "report.md").read_text(encoding="utf-8")
    for where, text in {"card": card, "page": page, "report": table}.items():
        found = re.search("<script>alert", text) if where == "page" else MARKUP.search(CODE_SPAN.sub("", text))
        expect(found is None, f"markup in the {where}: {found[0]}" if found else "")
        expect(label != "a\nb" or label not in text, f"a line is split in the {where}")
    is_shown = label.replace("\\", "") in html.unescape(card).replace("\\", "")
    expect(is_shown or name not in SHOWN_AS_IT_IS, "the label is not in the card")
    for text in (card, table):
        for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            expect(len(widths) == 1, f"a table with rows of {sorted(widths)} columns")


def make_stopped_run(target: Target, folder: Path, name: str) -> Path:
    """Return a run that SIGKILL has ended after a few states."""
    run = folder / name
    for _ in range(10):
        stop_when(target.start(*target.train_words(folder, name, *STOPPED_SETTINGS)), (run / "state" / "step-000000009").exists)
        if not (run / "efficiency.json").exists():
            return run
        shutil.rmtree(run)
    raise RuntimeError("every run ended before it was killed")


def read_run(run: Path) -> tuple[Any, bytes]:
    """Return the log without its times, and the weights."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows], (
        run / "model" / "model.safetensors"
    ).read_bytes()


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(content)


def in_newest(name: str, damage: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return what damages a file of the newest state."""
    return lambda run: damage(max((run / "state").glob("step-*")) / name)


def flip(path: Path) -> None:
    flip_byte(path, random.Random(1))


def accept_unchecked(state: Path) -> None:
    """Flip weights, and remove the checksums that would show it."""
    (state / "checksums.json").write_text("{}")
    content = bytearray((state / "weights.safetensors").read_bytes())
    content[-1_000] ^= 0x40
    (state / "weights.safetensors").write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "metrics.jsonl removed": lambda run: (run / "metrics.jsonl").unlink(),
    "metrics.jsonl emptied": write("metrics.jsonl", b""),
    "metrics.jsonl cut in half": lambda run: cut_in_half(run / "metrics.jsonl"),
    "metrics.jsonl with a flipped byte": lambda run: flip(run / "metrics.jsonl"),
    "metrics.jsonl of NULs": write("metrics.jsonl", bytes(5_000)),
    "efficiency.json emptied": write("efficiency.json", b""),
    "efficiency.json a list": write("efficiency.json", b"[]"),
    "efficiency.json null": write("efficiency.json", b"null"),
    "efficiency.json not UTF-8": write("efficiency.json", b"\xff"),
    "checksums.json a list": in_newest("checksums.json", lambda path: path.write_text("[]")),
    "checksums.json null": in_newest("checksums.json", lambda path: path.write_text("null")),
    "checksums.json a number": in_newest("checksums.json", lambda path: path.write_text("7")),
    "checksums.json not UTF-8": in_newest("checksums.json", lambda path: path.write_bytes(b"\xff")),
    "checksums.json nested deep": in_newest("checksums.json", lambda path: path.write_text("[" * 100_000)),
    "checksums.json {}, weights flipped": in_newest(".", accept_unchecked),
    "progress.json cut in half": in_newest("progress.json", cut_in_half),
    "weights with a flipped byte": in_newest("weights.safetensors", flip),
    "optimizer emptied": in_newest("optimizer.safetensors", lambda path: path.write_bytes(b"")),
    "a state that is a file": lambda run: (run / "state" / "step-000000999").write_bytes(b""),
    "a state with an odd name": lambda run: (run / "state" / "step-new").mkdir(),
    "config.yaml emptied": write("config.yaml", b""),
}


def attack_states(target: Target, folder: Path) -> Trials:
    """A killed run with damaged files, resumed, has the undisturbed weights and a whole log, or is refused."""
    (stopped := folder / "stopped").mkdir()
    make_stopped_run(target, stopped, "cut")
    target.run(*target.train_words(folder, "whole", *STOPPED_SETTINGS)).check_done()
    rows, weights = read_run(folder / "whole")

    def check(damage: Callable[[Path], object], tmp_dir: Path, generator: random.Random) -> None:
        run = Path(shutil.copytree(stopped / "cut", tmp_dir / "cut"))
        damage(run)
        if target.run(*target.train_words(tmp_dir, "cut", *STOPPED_SETTINGS), "--resume").check().is_refused:
            return
        found, final = read_run(run)
        expect(final == weights, "other weights than undisturbed")
        expect(all(row in rows for row in found) and found == sorted(found, key=rows.index), "other rows in the log than undisturbed")

    for name, damage in DAMAGES.items():
        yield name, partial(check, damage)


def attack_locks(target: Target, folder: Path) -> Trials:
    """Of two processes on one output or run, one works and the other names it; a killed one leaves no lock behind."""
    source = write_texts(folder / "in.csv", 4_000, random.Random(0))
    target.score(source, folder / "alone.csv", "--part-rows", "100").check_done()
    alone = (folder / "alone.csv").read_bytes()
    target.run(*target.train_words(folder, "whole", *STOPPED_SETTINGS)).check_done()
    whole = read_run(folder / "whole")
    stopped = make_stopped_run(target, folder, "cut")

    def score_twice(options: tuple[str, ...], tmp_dir: Path, generator: random.Random) -> None:
        words = target.score_words(source, tmp_dir / "out.csv", "--part-rows", "100")
        run_both(target, words, [*words, *options], generator)
        expect((tmp_dir / "out.csv").read_bytes() == alone or options, "other rows than alone")

    def train_twice(is_resumed: bool, tmp_dir: Path, generator: random.Random) -> None:
        if is_resumed:
            shutil.copytree(stopped, tmp_dir / "run")
        words = target.train_words(tmp_dir, "run", *STOPPED_SETTINGS, *["--resume"] * is_resumed)
        run_both(target, words, words, generator)
        expect(read_run(tmp_dir / "run") == whole, "other log or weights than alone")

    def kill_and_score(tmp_dir: Path, generator: random.Random) -> None:
        words = target.score_words(source, tmp_dir / "out.csv", "--part-rows", "100")
        stop_when(target.start(*words), lambda: list(tmp_dir.glob(".out.csv.parts/part-*.json")))
        target.run(*words).check_done()
        expect((tmp_dir / "out.csv").read_bytes() == alone, "other rows than alone")

    def kill_and_train(tmp_dir: Path, generator: random.Random) -> None:
        words = target.train_words(tmp_dir, "run", *STOPPED_SETTINGS, "--resume")
        stop_when(target.start(*words), lambda: list(tmp_dir.glob("run/state/step-*")))
        target.run(*words).check_done()
        expect(read_run(tmp_dir / "run") == whole, "other log or weights than alone")

    for number in range(5):
        yield f"two scorers {number}", partial(score_twice, ())
        yield f"two trainers that resume {number}", partial(train_twice, True)
    for number in range(2):
        yield f"two scorers with other options {number}", partial(score_twice, ("--threshold", "0.3"))
        yield f"two new trainers {number}", partial(train_twice, False)
        yield f"a killed scorer {number}", kill_and_score
        yield f"a killed trainer {number}", kill_and_train


def run_both(target: Target, first: list[str], second: list[str], generator: random.Random) -> None:
    """Start two scripts shortly one after the other, and check that one works and the other one's message names it."""
    scripts = [target.start(*first)]
    time.sleep(generator.uniform(0, 0.5))
    scripts.append(target.start(*second))
    results = [finish(script) for script in scripts]
    for result in results:
        result.check()
    expect(sorted(result.status or 0 for result in results) == [0, 2], "both worked" if not results[1].status else "neither worked")
    loser = [result.is_refused for result in results].index(True)
    message = results[loser].err
    is_named = str(scripts[1 - loser].pid) in message or re.search("exists already|is finished", message)
    expect(is_named, f"does not name the other process: {results[loser].tail}")


MASKED = "import os, runpy, sys; os.umask(int(sys.argv[1], 8)); sys.argv = sys.argv[2:]; sys.path[0] = os.getcwd(); "
MASKED += "runpy.run_path(sys.argv[0], run_name='__main__')"


def attack_permissions(target: Target, folder: Path) -> Trials:
    """All files and folders that are written have the permissions that the umask leaves."""
    for mask in ("022", "027", "077", "002"):
        yield f"a run, umask {mask}", partial(check_permissions, target, mask, "run")
        yield f"a scored file, umask {mask}", partial(check_permissions, target, mask, "scored")


def check_permissions(target: Target, mask: str, what: str, tmp_dir: Path, generator: random.Random) -> None:
    (folder := tmp_dir / "written").mkdir()
    source = write_texts(tmp_dir / "in.csv", 3, generator)
    words = target.train_words(folder, "run") if what == "run" else target.score_words(source, folder / "out.csv")
    target.run("-c", MASKED, mask, *words).check_done()
    written = [*folder.rglob("*")]
    expect(written, "nothing is written")
    for path in written:
        mode, usual = stat.S_IMODE(path.stat().st_mode), 0o777 if path.is_dir() else 0o666
        expect(mode == usual & ~int(mask, 8), f"{path.relative_to(folder)} is {mode:o}")
