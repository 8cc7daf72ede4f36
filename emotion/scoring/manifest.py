"""A scoring job, and the manifest in the folder of its parts, which prevents the parts of another job from being reused."""

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
from emotion.inference.sidecar import fingerprint_weights
from emotion.inference.torch_free import TorchFreePredictor
from emotion.scoring.formats import check_format

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

PART_ROWS = 16_384
"""Default number of rows in a part: the work that is lost when a process is killed."""
WAIT_SECONDS = 0.2
"""Between two looks at a file that another process writes."""
MANIFEST = "manifest.json"
OLD_MANIFEST = "ledger.json"
"""Name of the manifest in folders that earlier versions wrote."""


@dataclass(frozen=True)
class ScoringJob:
    """What to score, and how."""

    inputs: tuple[Path, ...]
    output: Path
    columns: DataConfig
    probabilities: str = "none"
    """Probabilities to write: `none`, `all`, or the number of most likely labels, as text."""
    part_rows: int = PART_ROWS
    process: int = 0
    num_processes: int = 1
    model: str | None = None
    """Folder or Hub id of the model, whose weights are part of the job."""

    @property
    def folder(self) -> Path:
        """Folder of the parts until the output is complete."""
        return self.output.with_name(f".{self.output.name}.parts")

    @property
    def quarantine(self) -> Path:
        """File of the rows that could not be scored."""
        return self.output.with_name(f"{self.output.name}.quarantine.tsv")

    @property
    def metrics(self) -> Path:
        """File of the scores against gold labels."""
        return self.output.with_name(f"{self.output.name}.metrics.json")


def describe_job(predictor: "Predictor | TorchFreePredictor", rule: DecisionRule, job: ScoringJob) -> dict[str, Any]:
    """Return everything that the output's bytes depend on, as JSON values; parts are reused only if it is unchanged."""
    model = json.dumps([asdict(predictor.sidecar), rule.to_dict(), predictor.backend_name], sort_keys=True, default=list)
    return {
        "inputs": [describe_input(path) for path in job.inputs],
        "versions of the inputs": [describe_version(path) for path in job.inputs],
        "weights": fingerprint_weights(job.model) if job.model is not None else None,
        "model and rule": hashlib.sha256(model.encode()).hexdigest()[:16],
        "columns": json.loads(json.dumps(asdict(job.columns))),
        "probabilities": job.probabilities,
        "rows of a part": job.part_rows,
    }


def describe_input(path: Path) -> str:
    """Return name, size and modification time of an input.

    Raises: DataError if the input does not exist.
    """
    if path == Path("-"):
        return f"stdin at {time.time()}"  # stdin cannot be read again, so its parts are never reused
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"--input {path}: cannot be read ({error.strerror})") from None
    return f"{path} ({status.st_size:,} bytes, changed {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(status.st_mtime))})"


def describe_version(path: Path) -> str:
    """Return modification time in nanoseconds and inode of an input: it may be written again within a second, at the same size."""
    if path == Path("-"):
        return "stdin"
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_ino}"


def enter_folder(job: ScoringJob, description: dict[str, Any]) -> bool:
    """Create the folder of the parts with its manifest, or check that an existing one belongs to the same job.

    The first process does this. The others wait for the manifest of their job; False if the first has written the output by then.

    Raises: ConfigError if the folder belongs to another job, or the output exists.
    """
    manifest = job.folder / MANIFEST
    if job.process > 0:
        while _read_manifest(manifest) != description:
            if job.output.exists():
                return False
            time.sleep(WAIT_SECONDS)
        return True
    check_format(job.output)
    if job.output.exists():
        raise ConfigError(f"--output {job.output}: exists already; choose another name, or remove it")
    if (job.folder / OLD_MANIFEST).is_file():
        (job.folder / OLD_MANIFEST).replace(manifest)
    before = _read_manifest(manifest) or {}
    if changed := [f"{key}: {before[key]} -> {value}" for key, value in description.items() if value != before.get(key, value)]:
        raise ConfigError(
            f"{job.folder}: contains parts of another job ({'; '.join(changed)}): "
            "use the earlier input, model and options to resume it, or remove that folder to start again"
        )
    if before != description:  # a new folder, or one of a version that described less
        write_json(manifest, description)
    return True


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the description in a manifest; None if the file does not exist."""
    if not path.is_file():
        return None
    description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return description
