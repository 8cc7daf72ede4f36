"""The log of a run: rows of metrics.jsonl, a progress bar, and one printed line per validation."""

import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from emotion.evaluation.selection import Candidate
from emotion.tracking.efficiency import EfficiencyMeter, StepResult, measure_peak_memory
from emotion.tracking.run_folder import RunFolder
from emotion.tracking.trackers import Tracking


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
        self._progress = tqdm(total=num_steps, desc="train", unit="step", disable=is_silent, mininterval=interval, maxinterval=2 * interval)

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()

    def capture(self) -> dict[str, Any]:
        """Return the position of the log, for a resumed run."""
        size = self._run.metrics.stat().st_size if self._run.metrics.is_file() else 0
        return {"metrics_size": size, "losses": list(self._losses), "meter": self._meter.capture()}

    def restore(self, position: dict[str, Any], step: int) -> None:
        """Continue from a position that `capture` returned after `step` steps; rows that were written later are removed."""
        self._losses = list(position["losses"])
        self._meter.restore(position["meter"])
        self._progress.update(step - self._progress.n)
        if not self._is_silent:
            with self._run.metrics.open("ab") as stream:
                stream.truncate(position["metrics_size"])
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
        self._progress.write(
            f"epoch {step / self._steps_per_epoch:.2f}: validation loss {scores['loss']:.4f}, "
            f"mAP {scores['macro_average_precision']:.4f}, tuned macro-F1 {scores['macro_f1_tuned']:.4f}"
            + (" (best so far)" if is_best else "")
        )

    def say(self, message: str) -> None:
        """Print a line above the progress bar."""
        if not self._is_silent:
            self._progress.write(message)

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
