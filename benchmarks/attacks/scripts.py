"""Run the scripts of a checkout as a user does, and judge how they end: what the groups of `benchmarks.hostile` share.

A trial is a function that gets an empty folder and a random generator; it raises `BrokeError` if the scripts did not hold. Scripts are
forked from a process that has the slow packages imported (`tests/warm.py`), except by `Target.shell`.
"""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Script, make_backbone, make_variables, start_script

Attack = Callable[[Path, random.Random], object]
Trials = Iterator[tuple[str, Attack]]

LABELS = ("anger", "fear", "joy", "love")
LABEL_WORDS = ("hate", "lost", "happy", "love")
"""Words whose texts have these labels."""
DISCRIMINATING = ("training.epochs=20", "training.learning_rate=1e-2", "training.head_learning_rate=1e-2")
"""Settings with which the tiny model learns to tell texts apart: another token, row or weight then shows in the output."""
MAX_SECONDS = 60
"""A script that has not ended by then hangs. Each takes a few seconds at most."""
MAX_OTHER_LINES = 2
"""Lines on stderr beside the error that are not about the model or the data."""
VOCABULARY = "the of a to happy sad why it rains again love hate thanks never always maybe today friend help lost found late home work"


class BrokeError(Exception):
    """What a script did instead of holding."""


def expect(condition: object, reason: str) -> None:
    """Raise a `BrokeError` with the reason unless the condition is true."""
    if not condition:
        raise BrokeError(reason)


@dataclass(frozen=True)
class Result:
    """How a script ended."""

    status: int | None
    """Exit status; negative: the signal; None: it was killed at the time limit."""
    out: str
    err: str
    peak_bytes: int = 0
    """Peak memory; 0 where the system does not tell."""

    @property
    def is_refused(self) -> bool:
        """Whether it exited with status 2."""
        return self.status == 2

    def check(self) -> "Result":
        """Return this result if the script succeeded, or refused its input in one line.

        Raises: BrokeError otherwise.
        """
        expect(self.status is not None, f"no end: {self.tail}")
        expect("Traceback (most recent call last)" not in self.err, f"traceback: {self.tail}")
        expect(self.status in (0, 2), f"status {self.status}: {self.tail}")
        if self.is_refused:
            lines = [line for line in re.split(r"[\n\r]+", self.err) if line.strip()]
            others = [line for line in lines if not re.match("error:|model: |data: |score: |train: ", line)]
            expect(sum(line.startswith("error:") for line in lines) == 1, f"not one error line: {self.tail}")
            expect(len(others) <= MAX_OTHER_LINES, f"{len(others)} lines around the error: {self.tail}")
        return self

    def check_done(self) -> "Result":
        """Return this result if the script succeeded. Raises: BrokeError otherwise."""
        expect(self.check().status == 0, f"refused: {self.tail}")
        return self

    def check_refused(self) -> "Result":
        """Return this result if the script refused its input in one line. Raises: BrokeError otherwise."""
        expect(self.check().is_refused, "accepted")
        return self

    @property
    def tail(self) -> str:
        """The end of stderr, on one line."""
        return ascii(self.err.strip()[-200:])


class Target:
    """The checkout under attack, with a tiny model that its own code has trained."""

    def __init__(self, code: Path, folder: Path) -> None:
        self.code = code.resolve()
        (folder / "backbone").mkdir()
        self.backbone = make_backbone("bert", folder / "backbone")
        self.data = write_data(folder / "data", LABELS)
        result = self.run(*self.train_words(folder / "runs", "tiny", *DISCRIMINATING), limit=300)
        if result.status != 0:
            raise SystemExit(f"{code}: cannot train the model to attack:\n{result.err}")
        self.trained = folder / "runs" / "tiny"

    def train_words(self, folder: Path, name: str, *settings: str) -> list[str]:
        """Return the command line of a run of train.py."""
        own = [f"model.backbone={self.backbone}", f"data.source={self.data}", f"run.folder={folder}", f"run.name={name}"]
        usual = ["training.epochs=1", "training.per_device_batch_size=16", "tracking.backend=none"]
        return ["train.py", "--config", "configs/quickstart.yaml", *own, *usual, *settings]

    def score_words(self, source: Path | str, output: Path | str, *options: str, model: Path | None = None) -> list[str]:
        """Return the command line that scores a file."""
        return ["evaluate.py", "--model", str(model or self.trained), "--input", str(source), "--output", str(output), *options]

    def start(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Script:
        return start_script(*arguments, folder=self.code, stdin=stdin, warm=True, **environment)

    def run(self, *arguments: str, stdin: bytes = b"", limit: float = MAX_SECONDS, **environment: str) -> Result:
        """Run a script to its end, or to the time limit."""
        return finish(self.start(*arguments, stdin=stdin, **environment), limit)

    def score(self, source: Path | str, output: Path | str, *options: str, model: Path | None = None, **more: Any) -> Result:
        """Run evaluate.py on a file."""
        return self.run(*self.score_words(source, output, *options, model=model), **more)

    def infer(self, *arguments: str, model: Path | None = None, **more: Any) -> Result:
        """Run infer.py."""
        return self.run("infer.py", "--model", str(model or self.trained), *arguments, **more)

    def shell(self, command: str, stdin: int = subprocess.DEVNULL, when: Callable[[subprocess.Popen], Any] | None = None) -> Result:
        """Run a command of the shell in the checkout; `python` is an interpreter of its own. `when` is called once it has started."""
        search = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
        process = subprocess.Popen(["sh", "-c", command], cwd=self.code, env=make_variables(**search), stdin=stdin, **options)
        status: int | None
        try:
            if when is not None:
                when(process)
            out, err = process.communicate(timeout=MAX_SECONDS)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            (out, err), status = process.communicate(), None
        return Result(status, *(text.decode("utf-8", "surrogateescape") for text in (out, err)))

    def quote(self, *words: object) -> str:
        """Return `exec python WORDS` for `shell`."""
        return "exec " + shlex.join(["python", *map(str, words)])

    def copy_model(self, folder: Path) -> Path:
        """Copy the model folder."""
        return Path(shutil.copytree(self.trained / "model", folder))


def finish(script: Script, limit: float = MAX_SECONDS) -> Result:
    """Wait for a script's end, and kill it at the time limit."""
    deadline, peak = time.monotonic() + limit, 0
    while script.poll() is None and time.monotonic() < deadline:
        peak = max(peak, read_peak(script.pid))
        time.sleep(0.01)
    status = script.poll()
    script.send_signal(signal.SIGKILL)
    while script.poll() is None:
        time.sleep(0.01)
    out, err = (path.read_bytes().decode("utf-8", "surrogateescape") for path in script.outputs)
    return Result(status, out, err, peak)


def stop_when(script: Script, is_due: Callable[[], Any], number: int = signal.SIGKILL) -> Result:
    """Send a script a signal once `is_due()`, and wait for its end; without the signal if it ends before."""
    wait_for(lambda: is_due() or script.poll() is not None, MAX_SECONDS)
    script.send_signal(number)
    return finish(script)


def wait_for(is_due: Callable[[], Any], seconds: float) -> None:
    """Wait until `is_due()`, or until the seconds are over."""
    deadline = time.monotonic() + seconds
    while not is_due() and time.monotonic() < deadline:
        time.sleep(0.001)


def read_peak(process: int) -> int:
    """Return the peak memory of a process in bytes, 0 if it is not known."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def write_data(folder: Path, labels: tuple[str, ...], num_rows: int = 96) -> Path:
    """Write a folder of labelled rows as jsonl: all to train on, half as many for validation and test. Each label belongs to a word."""
    generator = random.Random(0)
    folder.mkdir(parents=True)
    for split, count in (("train", num_rows), ("validation", num_rows // 2), ("test", num_rows // 2)):
        lines = []
        for row in range(count):
            text = f"{make_text(generator)} {LABEL_WORDS[row % len(labels)]}"
            own = [label for label, word in zip(labels, LABEL_WORDS, strict=True) if word in text.split()]
            lines.append(json.dumps({"id": f"{split}{row}", "text": text, "labels": own}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def make_text(generator: random.Random) -> str:
    return " ".join(generator.choices(VOCABULARY.split(), k=generator.randint(3, 20)))


def write_texts(path: Path, num_rows: int, generator: random.Random) -> Path:
    """Write a csv of random texts."""
    path.write_text("id,text\n" + "".join(f"{row},{make_text(generator)} {row}\n" for row in range(num_rows)))
    return path


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip_byte(path: Path, generator: random.Random, num_flips: int = 1) -> None:
    """Change random bytes of a file."""
    content = bytearray(path.read_bytes())
    for _ in range(num_flips):
        content[generator.randrange(len(content))] ^= generator.randint(1, 255)
    path.write_bytes(content)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
