"""The log of a run: rows of metrics.jsonl, a progress bar, and one printed line per validation."""

import hashlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from emotion.checks import is_number
from emotion.evaluation.selection import Candidate
from emotion.files import atomic_write
from emotion.text import is_quiet, print_message
from emotion.tracking.efficiency import COUNTS, EfficiencyMeter, StepResult, measure_peak_memory
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.trackers import Tracking

DRAWN_KEYS = {
    "train": {"step", "loss"},
    "validation": {"step", "epoch", "loss", "macro_average_precision", "macro_f1_tuned", "micro_f1_tuned"},
}
"""What the curves of a run need of a row of metrics.jsonl, by the row's kind."""


def check_position(position: dict[str, Any]) -> None:
    """Raise a ValueError, KeyError or TypeError for a position that `History.capture` cannot have returned."""
    numbers = [position["metrics_size"], *position["losses"], *(position["meter"][name] for name in (*COUNTS, "seconds"))]
    if not all(is_number(number, -math.inf, math.inf) for number in numbers):
        raise ValueError(f"the position of the log is {position!r:.200}")


def restore_log(path: Path, size: int, checksum: str | None) -> str | None:
    """Cut metrics.jsonl to the first `size` bytes, which a state knows, and return a message if they are not what was written.

    Lines of them that are not rows are then dropped. States of older versions have no `checksum`.
    """
    content = _read_bytes(path)
    rows = [line for line in content[:size].splitlines(keepends=True) if _is_row(line)]
    kept = b"".join(rows)
    if kept != content or not path.is_file():
        with atomic_write(path) as partial:
            partial.write_bytes(kept)
    if len(kept) == size and checksum in (None, hashlib.sha256(kept).hexdigest()):
        return None
    return f"{path}: rows are missing or changed; {len(rows):,} of those before the state are left; the model is not affected"


def _read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _is_row(line: bytes) -> bool:
    """Return whether a line of metrics.jsonl is a whole row that can be drawn."""
    try:
        row = json.loads(line)
        return line.endswith(b"\n") and type(row["step"]) is int and row.keys() >= DRAWN_KEYS[row["kind"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


class History:
    """Logs the steps and validations of one run; `is_silent` is for processes other than the main one."""

    def __init__(
        self,
        run: RunFolder,
        meter: EfficiencyMeter,
        num_steps: int,
        steps_per_epoch: int,
        log_every: int,
        is_silent: bool,
        tracking: Tracking,
    ):
        self._run, self._meter, self._log_every = run, meter, log_every
        self._num_steps, self._steps_per_epoch, self._is_silent = num_steps, steps_per_epoch, is_silent
        self._tracking = tracking
        self._losses: list[float] = []
        interval = 0.5 if sys.stderr.isatty() else 30  # seconds; few lines in a log file
        is_hidden = is_silent or is_quiet()
        self._progress = tqdm(total=num_steps, desc="train", unit="step", disable=is_hidden, mininterval=interval, maxinterval=2 * interval)

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()

    def capture(self) -> dict[str, Any]:
        """Return the position of the log, for a resumed run."""
        content = _read_bytes(self._run.metrics)
        log = {"metrics_size": len(content), "metrics_checksum": hashlib.sha256(content).hexdigest()}
        return {**log, "losses": list(self._losses), "meter": self._meter.capture()}

    def restore(self, position: dict[str, Any], step: int) -> None:
        """Continue from a position that `capture` returned after `step` steps; rows that were written later are removed.

        Where earlier rows are lost, a message is printed and the log goes on from those that are left.
        """
        self._losses = list(position["losses"])
        self._meter.restore(position["meter"])
        self._progress.update(step - self._progress.n)
        if not self._is_silent:
            if message := restore_log(self._run.metrics, position["metrics_size"], position.get("metrics_checksum")):
                self.say(message)
            for row in self._run.read_metrics():
                self._tracking.log(row)

    def add_step(self, step: int, result: StepResult, seconds: float) -> None:
        """Count a step; every `log_every` steps, write a row with the mean loss since the last row."""
        self._meter.add(result, seconds)
        self._losses.append(result.loss)
        self._progress.update()
        if result.num_halvings:
            self.say(f"step {step}: out of memory; micro-batches are halved from this step on, batches stay the same")
        if self._is_silent or (step % self._log_every and step != self._num_steps):
            return
        loss = float(np.mean(self._losses))
        self._losses.clear()
        self._progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
        row = {"loss": loss, "grad_norm": result.grad_norm, "learning_rate": result.learning_rate, **self._meter.compute_rates()}
        self._write("train", step, row)

    def add_validation(self, step: int, candidate: Candidate, is_best: bool) -> None:
        """Write a row with the scores of a validation, and print the main ones."""
        if self._is_silent:
            return
        self._write("validation", step, {**candidate.scores, "is_best": is_best})
        scores = candidate.scores
        self.say(
            f"epoch {step / self._steps_per_epoch:.2f}: validation loss {scores['loss']:.4f}, "
            f"mAP {scores['macro_average_precision']:.4f}, tuned macro-F1 {scores['macro_f1_tuned']:.4f}" + (", best" if is_best else "")
        )

    def say(self, message: str) -> None:
        """Print a message above the progress bar, unless `--quiet` is given."""
        if not self._is_silent and not is_quiet():
            with self._progress.external_write_mode():
                print_message(message, sys.stdout)

    def _write(self, row_type: str, step: int, values: dict[str, Any]) -> None:
        row = {
            "kind": row_type,
            "step": step,
            "epoch": step / self._steps_per_epoch,
            "examples_seen": self._meter.num_examples,
            "seconds": time.perf_counter() - self._meter.started,
            "peak_memory": measure_peak_memory(),
            **values,
        }
        self._run.log(row)
        self._tracking.log(row)
