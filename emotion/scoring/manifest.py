"""What a scoring job is, and the ledger that parts of it lie under: parts of another job are never taken for this one's."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion.config import DataConfig
from emotion.errors import ConfigError, DataError
from emotion.evaluation.decision import DecisionRule
from emotion.files import write_json
from emotion.inference.torch_free import TorchFreePredictor
from emotion.scoring.formats import check_format

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

PART_ROWS = 16_384
"""Rows of a part where nothing else is said: the work that a kill can cost."""
WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class ScoringJob:
    """What is to be scored, and how. `probabilities` is `none`, `all`, or the number of likeliest labels to give, as text."""

    inputs: tuple[Path, ...]
    output: Path
    columns: DataConfig
    probabilities: str = "none"
    part_rows: int = PART_ROWS
    process: int = 0
    num_processes: int = 1

    @property
    def folder(self) -> Path:
        """Where parts lie until all are there."""
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def quarantine(self) -> Path:
        return self.output.with_name(f"{self.output.name}.quarantine.tsv")

    @property
    def metrics(self) -> Path:
        return self.output.with_name(f"{self.output.name}.metrics.json")


def describe_job(predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob) -> dict[str, Any]:
    """Return all that the output's bytes depend on, as JSON holds it; parts of another description are not gone on from."""
    model = json.dumps([asdict(predictor.sidecar), rule.to_dict(), predictor.form], sort_keys=True, default=list)
    return {
        "inputs": [describe_input(path) for path in job.inputs],
        "model and rule": hashlib.sha256(model.encode()).hexdigest()[:16],
        "columns": json.loads(json.dumps(asdict(job.columns))),
        "probabilities": job.probabilities,
        "rows of a part": job.part_rows,
    }


def describe_input(path: Path) -> str:
    """Return name, size and time of change of an input.

    Raises: DataError if it is not there.
    """
    if path == Path("-"):
        return f"stdin at {time.time()}"  # what it held is gone: nothing to go on from
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"--input {path}: cannot be read ({error.strerror})") from None
    return f"{path} ({status.st_size:,} bytes, changed {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(status.st_mtime))})"


def enter_folder(job: ScoringJob, description: dict[str, Any]) -> None:
    """Make the folder of the parts, or hold the one that is there to be of the same job; other processes than the first wait for it.

    Raises: ConfigError if it is of another, or the output is there already.
    """
    ledger = job.folder / "ledger.json"
    while job.process > 0 and not (ledger.is_file() and json.loads(ledger.read_text(encoding="utf-8")) == description):
        time.sleep(WAIT_SECONDS)
    if job.process > 0:
        return
    check_format(job.output)
    if job.output.exists():
        raise ConfigError(f"--output {job.output}: exists already; choose another name, or remove it")
    if ledger.is_file():
        before = json.loads(ledger.read_text(encoding="utf-8"))
        if changed := [key for key in description if description[key] != before.get(key)]:
            raise ConfigError(
                f"{job.folder}: holds parts of another job ({'; '.join(f'{k}: {before.get(k)} -> {description[k]}' for k in changed)}): "
                "give the old input, model and options to go on, or remove that folder to start anew"
            )
        return
    write_json(ledger, description)


def wait_for(paths: list[Path]) -> None:
    """Return when all paths are there."""
    for path in paths:
        while not path.exists():
            time.sleep(WAIT_SECONDS)
