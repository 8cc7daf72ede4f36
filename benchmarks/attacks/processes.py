"""Groups of `benchmarks.hostile` on several processes and on what killed ones leave behind: scoring jobs and locks."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.attacks.scripts import (
    Result,
    Target,
    Trials,
    change_json,
    cut_in_half,
    expect,
    finish,
    flip_byte,
    stop_when,
    wait_for,
    write_texts,
)
from tests.conftest import Script

PART_ROWS = 5
NUM_ROWS = 400
LATE_SECONDS = 3
PROCESS_SECONDS = 30
"""Scoring a few rows takes a second; processes that have not ended by then wait for one another."""
OPTIONS = ("--part-rows", str(PART_ROWS), "--probabilities", "all")


def attack_processes(target: Target, folder: Path) -> Trials:
    """Scoring by several processes, one of them late or killed, ends with the bytes of a single process."""
    for num_processes in (2, 3, 5):
        for num_parts in (0, 1, 2, 7):
            yield f"{num_processes} processes, {num_parts} parts", partial(check_processes, target, num_processes, num_parts)
    for num_processes in (2, 3):
        yield f"{num_processes} processes, one killed", partial(check_processes, target, num_processes, 40, is_one_killed=True)


def check_processes(
    target: Target, num_processes: int, num_parts: int, folder: Path, generator: random.Random, is_one_killed: bool = False
) -> None:
    source = write_texts(folder / "in.csv", max(PART_ROWS * num_parts - 2, 0), generator)
    alone = target.score(source, folder / "alone.csv", *OPTIONS).check()
    ranks = generator.sample(range(num_processes), num_processes)
    late = generator.randrange(1, num_processes) if is_one_killed else ranks[-1]
    scripts: dict[int, Script] = {}
    for rank in [*(rank for rank in ranks if rank != late), late]:
        if rank == late:
            wait_for(lambda: all(script.poll() is not None for script in scripts.values()), LATE_SECONDS)
        words = target.score_words(source, folder / "out.csv", *OPTIONS)
        scripts[rank] = target.start(*words, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_processes))
    if is_one_killed:
        time.sleep(generator.uniform(0, 0.2))  # before it has scored anything
        scripts[late].send_signal(signal.SIGKILL)
    results = {rank: finish(script, PROCESS_SECONDS) for rank, script in scripts.items()}
    for rank, result in results.items():
        if not is_one_killed or rank != late:
            result.check()
    if not alone.is_refused:
        expect((folder / "out.csv").read_bytes() == (folder / "alone.csv").read_bytes(), "other bytes than by one process")


class KilledJob:
    """A scoring job that SIGKILL has ended after a few parts."""

    def __init__(self, target: Target, folder: Path, generator: random.Random) -> None:
        self.target, self.model = target, target.copy_model(folder / "model")
        self.source = write_texts(folder / "in.csv", NUM_ROWS, generator)
        self.output, self.parts, self.saved = folder / "out.csv", folder / ".out.csv.parts", folder / "saved"
        for _ in range(10):
            stop_when(
                target.start(*target.score_words(self.source, self.output, *OPTIONS, model=self.model)),
                (self.parts / "part-000004.json").exists,
            )
            if not self.output.exists():
                break
            self.output.unlink()  # it ended before the kill
        shutil.copytree(self.parts, self.saved)

    def repeat(self, damage: Callable[[Path], object] = lambda parts: None) -> Result:
        """Damage the parts as they were left, and run the command again."""
        self.output.unlink(missing_ok=True)
        shutil.rmtree(self.parts, ignore_errors=True)
        shutil.copytree(self.saved, self.parts)
        damage(self.parts)
        return self.target.score(self.source, self.output, *OPTIONS, model=self.model).check()

    def score_anew(self) -> bytes:
        """Return the bytes of the output as a job without parts writes it."""
        output = self.output.with_name("anew.csv")
        self.target.score(self.source, output, *OPTIONS, model=self.model).check_done()
        return output.read_bytes()


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda parts: (parts / name).write_bytes(content)


def swap(parts: Path) -> None:
    first, second = parts / "part-000001", parts / "part-000002"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def count_more(parts: Path) -> None:
    """Change the counts in a marker."""
    marker = parts / "part-000001.json"
    marker.write_text(marker.read_text().replace(str(PART_ROWS), str(PART_ROWS + 1), 1))


def make_folder(parts: Path) -> None:
    (parts / "part-000009.json").mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda parts: None,
    "a part cut in half": lambda parts: cut_in_half(parts / "part-000001"),
    "a part emptied": write("part-000001", b""),
    "a byte of a part flipped": lambda parts: flip_byte(parts / "part-000001", random.Random(1)),
    "a part removed": lambda parts: (parts / "part-000001").unlink(),
    "bytes after a part": lambda parts: write("part-000001", (parts / "part-000001").read_bytes() + b"0,x,joy\n")(parts),
    "two parts swapped": swap,
    "the bad rows of a part removed": lambda parts: (parts / "part-000001.bad").unlink(),
    "a marker cut in half": lambda parts: cut_in_half(parts / "part-000001.json"),
    "a marker emptied": write("part-000001.json", b""),
    "a marker null": write("part-000001.json", b"null"),
    "a marker of a list": write("part-000001.json", b"[]"),
    "a marker of NULs": write("part-000001.json", bytes(300)),
    "a marker not UTF-8": write("part-000001.json", b"\xff\xfe"),
    "a marker nested deep": write("part-000001.json", b"[" * 100_000),
    "a marker with other counts": count_more,
    "a marker as a folder": make_folder,
    "the manifest emptied": write("manifest.json", b""),
    "the manifest null": write("manifest.json", b"null"),
    "the manifest a list": write("manifest.json", b"[]"),
    "the manifest not UTF-8": write("manifest.json", b"\xff"),
    "the manifest removed": lambda parts: (parts / "manifest.json").unlink(),
}
"""What happened to the folder of parts after the kill."""


def attack_parts(target: Target, folder: Path) -> Trials:
    """After a kill and damage, the repeated command ends with the bytes of an undisturbed one, or refuses."""
    job = KilledJob(target, folder, random.Random(0))
    whole = job.score_anew()

    def check(damage: Callable[[Path], object], tmp_dir: Path, generator: random.Random) -> None:
        result = job.repeat(damage)
        expect(result.is_refused or job.output.read_bytes() == whole, "other rows than undisturbed")
        expect(result.is_refused or f"{NUM_ROWS} rows" in result.err, "the summary has another number of rows")

    for name, damage in DAMAGES.items():
        yield name, partial(check, damage)


def attack_stale_parts(target: Target, folder: Path) -> Trials:
    """Parts of another input, model or rule never mix into a result; nor does an ONNX graph of other weights answer."""
    for name, change in CHANGES.items():
        yield name, partial(check_stale, target, change)
    graph = target.copy_model(folder / "graph")
    target.run("export.py", "--model", str(graph), "--onnx", "--input", str(target.data / "test.jsonl"), limit=300).check_done()
    change_weights(graph)
    for script in ("infer.py", "evaluate.py"):
        yield f"an ONNX graph of other weights, {script}", partial(check_graph, target, graph, script)


def check_stale(target: Target, change: Callable[[KilledJob], object], tmp_dir: Path, generator: random.Random) -> None:
    job = KilledJob(target, tmp_dir, generator)
    change(job)
    result = job.repeat()
    expect(result.is_refused or job.output.read_bytes() == job.score_anew(), "parts of before are mixed into the result")


def check_graph(target: Target, graph: Path, script: str, tmp_dir: Path, generator: random.Random) -> None:
    write_texts(tmp_dir / "in.csv", 9, generator)
    if script == "infer.py":
        target.infer("--text", "happy", "--backend", "onnx", model=graph).check_refused()
    else:
        target.score(tmp_dir / "in.csv", tmp_dir / "out.csv", "--backend", "onnx", model=graph).check_refused()


def rewrite(job: KilledJob) -> None:
    """Write other texts into the input: same size, same second, same inode."""
    status = job.source.stat()
    job.source.write_bytes(swap_rows(job.source.read_bytes()))
    second = status.st_mtime_ns // 10**9 * 10**9
    os.utime(job.source, ns=(status.st_atime_ns, second + (status.st_mtime_ns + 10**6) % 10**9))


def replace(job: KilledJob) -> None:
    """Put another file in the input's place: same size, same modification time."""
    other = job.source.with_name("other.csv")
    other.write_bytes(swap_rows(job.source.read_bytes()))
    shutil.copystat(job.source, other)
    other.replace(job.source)


def swap_rows(content: bytes) -> bytes:
    header, first, second, *rest = content.splitlines(keepends=True)
    return b"".join([header, second, first, *rest])


def change_weights(model: Path, name: str = "classifier.weight") -> None:
    """Turn the sign of a tensor."""
    weights = load_file(model / "model.safetensors")
    save_file(weights | {name: np.negative(weights[name])}, model / "model.safetensors", metadata={"format": "pt"})


def swap_tokens(model: Path) -> None:
    """Give the tokens of two common words each other's ids."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["why"], words["happy"] = words["happy"], words["why"]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))


def change_rule(model: Path) -> None:
    decision = json.loads((model / "emotion.json").read_text())["decision"]
    change_json(model / "emotion.json", decision=decision | {"thresholds": [0.01, 0.99, 0.01, 0.99]})


CHANGES: dict[str, Callable[[KilledJob], object]] = {
    "the input rewritten within a second": rewrite,
    "the input replaced": replace,
    "the embeddings of other weights": lambda job: change_weights(job.model, "bert.embeddings.word_embeddings.weight"),
    "the head of other weights": lambda job: change_weights(job.model),
    "another tokenizer": lambda job: swap_tokens(job.model),
    "another config.json": lambda job: change_json(job.model / "config.json", layer_norm_eps=0.5),
    "another rule": lambda job: change_rule(job.model),
}
