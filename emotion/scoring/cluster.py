"""Score files on a Ray cluster: ranges of rows go to workers, each writes a file of the output folder, and what is written stays.

Ray Data places the workers, and gives their parts to others when a machine dies. A part is a range of rows of one input file with a fixed
name in the output, and its marker is written last. So no row can be lost or written twice however often Ray starts a part, the names are in
the order of the rows, and a job that is started again scores what has no marker. Ray's own checkpoint is beta, and needs a column of unique
ids.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.rows import BadRow, format_bad_rows
from emotion.errors import ConfigError, StorageError
from emotion.evaluation.decision import DecisionRule
from emotion.inference.sidecar import fingerprint_files, read_sidecar
from emotion.inference.text_checks import describe_counts
from emotion.locks import hold_lock
from emotion.scoring.batch import BatchOptions, BatchScorer
from emotion.scoring.cluster_parts import CONVERTED, TEXT, FilePart, Plan, check_formats, convert_files, cut_files
from emotion.scoring.cluster_worker import MARKERS, read_markers
from emotion.scoring.formats import name_columns
from emotion.scoring.manifest import PART_ROWS, check_same_job, describe_columns, describe_model
from emotion.scoring.parts import Tally
from emotion.scoring.ray_engine import run_parts
from emotion.scoring.remote_files import HIDDEN, Folder, InputFile, find_inputs
from emotion.text import format_count

MANIFEST, QUARANTINE, LOCK = "_manifest.json", "_quarantine.tsv", "_job.lock"
NEW = "_new"
"""Folder below an output that is to be replaced: the new one, until it is complete."""


@dataclass(frozen=True)
class ClusterJob:
    """What to score on a cluster, and where to write it."""

    inputs: list[str]
    """Local paths, folders and patterns, or URIs."""
    output: str
    """Folder or URI that every machine can write to."""
    columns: DataConfig
    part_rows: int = PART_ROWS
    worker_cores: int = 1
    is_overwriting: bool = False

    @property
    def quarantine(self) -> str:
        """File of the rows that could not be scored."""
        return f"{self.output.rstrip('/')}/{QUARANTINE}"


def score_on_cluster(
    model: str, rule: DecisionRule | None, options: BatchOptions, job: ClusterJob, log: Callable[[str], Any] = print
) -> Tally:
    """Score the inputs into the output, reusing the parts that exist, and return the counts.

    Raises: ConfigError if the output exists or has parts of another job; DataError for an input that cannot be read; LockHeldError if a
    process of this machine scores into this output; ModelError or StorageError if a worker cannot load the model or write.
    """
    scorer, files, output = BatchScorer(model, rule, options), find_inputs(job.inputs), Folder(job.output)
    check_formats(files)
    with _hold_folder(output):
        folder = _choose_folder(scorer, job, files, output)
        tally = _score_into(folder, scorer, job, files, log)
        if folder is not output:
            _replace_output(output, folder)
    return tally


def _score_into(folder: Folder, scorer: BatchScorer, job: ClusterJob, files: list[InputFile], log: Callable[[str], Any]) -> Tally:
    """Score the parts that a folder lacks, and return the counts of all."""
    is_parquet = check_formats(files) == ".parquet"
    plan = _open_plan(scorer, job, files, folder)
    if plan is None:
        plan = _make_plan(scorer, job, files, folder, log)
    missing = _find_missing(plan.parts, folder)
    if missing and not is_parquet and any(not _is_there(part, folder) for part in missing):
        plan = _make_plan(scorer, job, files, folder, log)  # the converted parts were removed when the job was complete
    log(f"data: text from column {plan.text_column!r}")
    if len(missing) < len(plan.parts):
        log(f"{folder.name}: {len(plan.parts) - len(missing):,} of {len(plan.parts):,} parts are done and not scored again")
    if missing:
        options = replace(scorer.options, text_column=plan.text_column if is_parquet else TEXT)
        run_parts(BatchScorer(scorer.model, scorer.rule, options), folder.name, missing, job.worker_cores)
    tally = _collect(plan.parts, folder)
    for name in (CONVERTED, "_partial"):
        folder.delete(name)
    return tally


def _choose_folder(scorer: BatchScorer, job: ClusterJob, files: list[InputFile], output: Folder) -> Folder:
    """Return the folder to score into: the output, or `NEW` below it where there is an output to replace.

    A job that was interrupted goes on where it was; parts of another one in `NEW` are removed.

    Raises: ConfigError if an input is in the output that is to be replaced.
    """
    if not job.is_overwriting:
        return output
    if inside := [file.name for file in files if file.name.startswith(f"{output.name}/")]:
        raise ConfigError(f"--output {job.output}: {inside[0]} is one of the inputs; choose another name")
    new = Folder(f"{output.name}/{NEW}")
    described = _describe(scorer, job, files)
    if (manifest := new.read_json(MANIFEST)) is None or not _is_same(manifest, described):
        before = output.read_json(MANIFEST)
        if manifest is None and (before is None or (_is_same(before, described) and _find_missing(_read_plan(before).parts, output))):
            return output  # which is new, or not complete
        output.delete(NEW)
    return new


def _replace_output(output: Folder, new: Folder) -> None:
    """Replace an output by the complete one in the folder below it. After a kill, the same command scores again what it has lost."""
    scored = [name for name in new.list_sizes() if not name.startswith(HIDDEN)]
    markers = [f"{MARKERS}/{name}" for name in new.list_sizes(MARKERS)]
    quarantine = [QUARANTINE] if QUARANTINE in new.list_sizes() else []
    before = [name for name in output.list_sizes() if not name.startswith(HIDDEN)]
    for name in (MANIFEST, *before, MARKERS, CONVERTED, QUARANTINE):  # first the manifest: what is left is no output
        output.delete(name)
    for name in (*scored, *markers, *quarantine, MANIFEST):
        new.move(name, output)
    output.delete(NEW)


@contextmanager
def _hold_folder(folder: Folder) -> Iterator[None]:
    """Hold the lock of a local output; in the cloud there is none."""
    path = folder.local_path
    if path is None:
        yield
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"--output {path}: cannot be written ({error.strerror}); choose another path") from None
    with hold_lock(path / LOCK, f"{path}: is being scored", "wait for it, or choose another --output"):
        yield


def _open_plan(scorer: BatchScorer, job: ClusterJob, files: list[InputFile], folder: Folder) -> Plan | None:
    """Return the plan of this job that is in the output, None for a new output.

    Raises: ConfigError if the output exists and is not of this job.
    """
    manifest = folder.read_json(MANIFEST)
    names = [name for name in folder.list_sizes() if not name.startswith(HIDDEN)]
    if manifest is None:
        if names:
            raise ConfigError(f"--output {job.output}: exists already and is not of such a job; choose another name")
        return None
    check_same_job(folder.name, manifest["job"], _describe(scorer, job, files))
    return _read_plan(manifest)


def _read_plan(manifest: dict[str, Any]) -> Plan:
    return Plan([FilePart(*values) for values in manifest["parts"]], manifest["columns"], manifest["text_column"])


def _make_plan(scorer: BatchScorer, job: ClusterJob, files: list[InputFile], folder: Folder, log: Callable[[str], Any]) -> Plan:
    """Return the parts of the inputs, and write the manifest."""
    if check_formats(files) == ".parquet":
        plan = cut_files(files, job.columns, job.part_rows)
    else:
        plan = convert_files(files, job.columns, job.part_rows, scorer.model_label_set, folder, log)
    name_columns(str(scorer.options.probabilities), scorer.label_set, plan.columns, files[0].name)
    parts = [list(vars(part).values()) for part in plan.parts]
    values = {"job": _describe(scorer, job, files), "columns": plan.columns, "text_column": plan.text_column, "parts": parts}
    folder.write_json(MANIFEST, values)
    return plan


def _describe(scorer: BatchScorer, job: ClusterJob, files: list[InputFile]) -> dict[str, Any]:
    """Return everything that the output depends on, as JSON values; parts are reused only if it is unchanged."""
    options = scorer.options
    return {
        "inputs": [f"{file.name} ({file.num_bytes:,} bytes)" for file in files],
        "versions of the inputs": [file.mtime_ns for file in files],
        "weights": scorer.version,
        "tokenizer and config": fingerprint_files(scorer.model),
        "model and rule": describe_model(read_sidecar(scorer.model)[0], scorer.rule, options.backend, options.parents),
        "columns": describe_columns(job.columns),
        "probabilities": str(options.probabilities),
        "decimals": options.digits,
        "rows of a part": job.part_rows,
    }


def _is_same(manifest: dict[str, Any], described: dict[str, Any]) -> bool:
    try:
        check_same_job("", manifest["job"], described)
    except ConfigError:
        return False
    return True


def _find_missing(parts: list[FilePart], folder: Folder) -> list[FilePart]:
    return [part for part, marker in zip(parts, read_markers(parts, folder), strict=True) if marker is None]


def _is_there(part: FilePart, folder: Folder) -> bool:
    return part.name.rpartition("/")[2] in folder.list_sizes(CONVERTED)


def _collect(parts: list[FilePart], folder: Folder) -> Tally:
    """Write the list of the bad rows, and return all counts.

    Raises: StorageError if a part is missing.
    """
    total, bad_rows = Tally(), []
    for part, marker in zip(parts, read_markers(parts, folder), strict=True):
        if marker is None or marker["tally"]["num_rows"] != part.num_rows:
            raise StorageError(f"{folder.name}/{part.output}: is not complete; start the command again")
        total.add(Tally(**marker["tally"]))
        bad_rows += [BadRow(*values) for values in marker["bad_rows"]]
    folder.delete(QUARANTINE)
    if bad_rows:
        folder.write(QUARANTINE, format_bad_rows(bad_rows, has_header=True).encode())
    return total


def format_summary(tally: Tally, job: ClusterJob, seconds: float) -> list[str]:
    """Return the lines of the summary: what was found in the texts, then rows, speed and rows without a score."""
    bad = (
        f"{format_count(tally.num_bad, 'row')} could not be scored, listed in {job.quarantine}" if tally.num_bad else "every row was scored"
    )
    rows = f"{job.output}: {format_count(tally.num_rows, 'row')} in {seconds:.1f} s ({tally.num_rows / seconds:,.0f} rows/s); {bad}"
    return [*describe_counts(tally.text_checks, tally.num_scored), rows]
