"""A scoring job, and the manifest in the folder of its parts, which prevents the parts of another job from being reused."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import emotion
from emotion.config import DataConfig
from emotion.errors import ConfigError, DataError
from emotion.evaluation.decision import DecisionRule
from emotion.evaluation.parents import ParentModel
from emotion.files import write_json
from emotion.inference.sidecar import OPTIONAL, Sidecar, fingerprint_files, fingerprint_weights
from emotion.inference.torch_free import TorchFreePredictor
from emotion.scoring.shards import Shard

if TYPE_CHECKING:
    from emotion.inference.predictor import Predictor

PART_ROWS = 16_384
"""Default number of rows in a part: the work that is lost when a process is killed."""
MANIFEST = "manifest.json"
FINISHED = "finished.json"
"""Describes the output when it is complete, before it gets its name."""
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
    is_excel_safe: bool = False
    """Whether cells of a csv that a spreadsheet would take for a formula begin with an apostrophe."""
    is_overwriting: bool = False
    """Whether an output that exists is replaced."""
    parents: ParentModel | None = None
    """Parents of a taxonomy, which the output has in place of the labels of the model."""
    shard: Shard | None = None
    """Which parts of the inputs to score, if not all; `join_shards` then writes the output."""
    command: str = ""
    """Command that scores a shard, without `--shard`; messages of the join name it."""
    old_version: str | None = None
    """Version of the output when the job was made, which is taken then; empty if there was none."""

    def __post_init__(self) -> None:
        if self.old_version is None:
            object.__setattr__(self, "old_version", describe_version(self.output) if self.output.exists() else "")

    @property
    def folder(self) -> Path:
        """Folder of the parts until the output is complete."""
        return self.output.with_name(f"{self.output.name}{self.shard.suffix}" if self.shard else f".{self.output.name}.parts")

    @property
    def title(self) -> str:
        """The output, and the shard of it, in messages."""
        return f"{self.output}: shard {self.shard}" if self.shard else str(self.output)

    def is_own(self, number: int) -> bool:
        """Return whether this process is to score a part, numbered from 0."""
        return self.shard.has_part(number) if self.shard else number % self.num_processes == self.process

    def is_finished(self) -> bool:
        """Return whether the output is there, and not the one that is to be replaced."""
        return self.output.exists() and not (self.is_overwriting and describe_version(self.output) == self.old_version)

    def is_left_over(self) -> bool:
        """Return whether the parts are those of an output that is there: their process was killed when it had named it."""
        if self.shard is not None or not self.output.exists():
            return False
        return read_manifest(self.folder / FINISHED) == {"output": describe_version(self.output)}

    def check_output(self) -> None:
        """Check that an output that exists is to be replaced.

        Raises: ConfigError if it is not, or is one of the inputs.
        """
        if not self.output.exists():
            return
        if not self.is_overwriting:
            raise ConfigError(f"--output {self.output}: exists already; choose another name, or give --overwrite")
        if any(path != Path("-") and path.samefile(self.output) for path in self.inputs):
            raise ConfigError(f"--output {self.output}: is one of the inputs; choose another name")

    @property
    def lock(self) -> Path:
        """Lock that this process holds while it scores."""
        return self.find_lock(self.process)

    def find_lock(self, process: int) -> Path:
        """Return the lock of a process of this job."""
        return self.folder / f"process-{process}.lock"

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
    of_shard = {"shard": str(job.shard), "version": emotion.__version__, "backend": predictor.backend_name} if job.shard else {}
    return {
        "inputs": [describe_input(path) for path in job.inputs],
        "versions of the inputs": [describe_version(path) for path in job.inputs],
        "weights": fingerprint_weights(job.model) if job.model is not None else None,
        "tokenizer and config": fingerprint_files(job.model) if job.model is not None else None,
        "model and rule": describe_model(predictor.sidecar, rule, predictor.backend_name, job.parents),
        "columns": describe_columns(job.columns),
        "probabilities": job.probabilities,
        "rows of a part": job.part_rows,
        "Excel-safe": job.is_excel_safe,
        **of_shard,
    }


def describe_model(sidecar: Sidecar, rule: DecisionRule, backend_name: str, parents: ParentModel | None) -> str:
    """Return a SHA-256 of what the answers depend on besides the weights and the tokenizer."""
    values = {key: value for key, value in asdict(sidecar).items() if key not in OPTIONAL}
    described: list[Any] = [values, rule.to_dict(), backend_name]
    if sidecar.segments is not None:  # no answer depends on the other optional keys
        described.append(asdict(sidecar.segments))
    if parents is not None:
        described += [parents.label_set.names, parents.slopes, parents.intercepts, parents.level.children.tolist()]
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=list).encode()).hexdigest()[:16]


def describe_columns(columns: DataConfig) -> dict[str, Any]:
    """Return the settings that say how to read the inputs, as JSON values."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(columns)))
    return settings


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


def write_manifest(job: ScoringJob, description: dict[str, Any]) -> None:
    """Write the manifest of a job, or check that an existing one is the same; the first process does this.

    Where an output is to be replaced, so are the parts of another job.

    Raises: ConfigError if the folder belongs to another job, or the output exists, and they are not to be replaced.
    """
    manifest = job.folder / MANIFEST
    job.check_output()
    if (job.folder / OLD_MANIFEST).is_file():
        (job.folder / OLD_MANIFEST).replace(manifest)
    if job.is_left_over():
        clear_folder(job.folder)
    try:
        before = read_own_manifest(job, description)
    except ConfigError:
        if not job.is_overwriting:
            raise
        clear_folder(job.folder)
        before = {}
    if before != description:  # a new folder, or one of a version that described less
        write_json(manifest, description)


def clear_folder(folder: Path) -> None:
    """Remove the files of a folder of parts but the locks, which other processes may hold."""
    (folder / MANIFEST).unlink(missing_ok=True)  # first: other processes then wait
    for path in folder.iterdir():
        if path.suffix != ".lock":
            path.unlink(missing_ok=True)


def read_own_manifest(job: ScoringJob, description: dict[str, Any]) -> dict[str, Any]:
    """Return the description in the folder of a job; empty if the folder has no parts.

    Raises: ConfigError if it is of another job, or damaged.
    """
    manifest = job.folder / MANIFEST
    before = read_manifest(manifest)
    if before is None and any(job.folder.glob("part-*")):
        raise ConfigError(f"{manifest}: is missing or damaged, so its parts cannot be reused; remove {job.folder} to start again")
    before = before or {}
    if isinstance(before.get("columns"), dict):  # of a version that had fewer settings
        before["columns"] = describe_columns(DataConfig()) | before["columns"]
    check_same_job(job.folder, before, description)
    return before


def check_same_job(folder: Path | str, before: dict[str, Any], description: dict[str, Any]) -> None:
    """Check that the job whose parts are in a folder is the described one; an earlier version may have described less.

    Raises: ConfigError naming what is different.
    """
    if changed := [f"{key}: {before[key]} -> {value}" for key, value in description.items() if value != before.get(key, value)]:
        raise ConfigError(
            f"{folder}: contains parts of another job ({'; '.join(changed)}): "
            "use the earlier input, model and options, such as --threshold, to resume it, or --overwrite to start again"
        )


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the description in a manifest; None if the file does not exist or is damaged."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return description if isinstance(description, dict) else None
