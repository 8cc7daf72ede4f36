"""What scripts do with files of any size: score them, alone, as one of several or on a cluster, join shards, reuse what is scored.

The model is loaded and packages are imported where they are needed, after the options were checked.
"""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.config import load_config
from emotion.errors import ConfigError
from emotion.text import print_message

if TYPE_CHECKING:
    from emotion.evaluation.parents import ParentModel
    from emotion.labels import LabelSet
    from emotion.scoring.manifest import ScoringJob


def score(arguments: argparse.Namespace, model: str, process: int, num_processes: int) -> int:
    """Score the input files into one file, alone or as one of several processes, and print a summary."""
    from emotion.data.reading.streams import expand_patterns
    from emotion.inference.loading import load_predictor
    from emotion.inference.sidecar import find_model_folder
    from emotion.scoring.manifest import PART_ROWS, ScoringJob
    from emotion.scoring.output import format_tally
    from emotion.scoring.scoring import score_files
    from emotion.scoring.shards import Shard, describe_command

    columns, is_stdout = load_config(None, arguments.overrides).data, arguments.output == "-"
    with tempfile.TemporaryDirectory() as tmp_dir:
        output = Path(f"{tmp_dir}/stdout.csv" if is_stdout else arguments.output)
        inputs = expand_patterns(arguments.input)
        if num_processes > 1 and (Path("-") in inputs or is_stdout):
            raise ConfigError(f"{num_processes} processes cannot share stdin or stdout: give files, or start one process")
        if num_processes > 1 and arguments.shard:
            raise ConfigError(f"--shard {arguments.shard}: {num_processes} processes; start one for each shard, without a launcher")
        part_rows = arguments.part_rows or PART_ROWS
        job = ScoringJob(inputs, output, columns, arguments.probabilities, part_rows, process, num_processes, model, arguments.excel_safe)
        shard = Shard.parse(arguments.shard) if arguments.shard else None
        predictor = load_predictor(model, arguments.backend, backbone=arguments.backbone)
        parents = fit_parents_of(arguments.taxonomy, find_model_folder(model), predictor.label_set, is_quiet=process > 0)
        job = replace(job, is_overwriting=arguments.overwrite, parents=parents, shard=shard, command=describe_command(sys.argv[1:]))
        rule = (predictor if parents is None else parents).rule.with_overrides(arguments.threshold, arguments.empty_set)
        started = time.perf_counter()
        tally = score_files(predictor, rule, job, print_message)
        if tally is None:
            return 0
        for line in format_tally(tally, job, time.perf_counter() - started, is_stdout):
            print_message(line)
        if is_stdout:
            with output.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
    return 0 if tally.num_scored or arguments.shard else 1


def join(output: Path, is_overwriting: bool) -> int:
    """Write a scored file from its shards, and print a summary."""
    from emotion.scoring.joining import join_shards
    from emotion.scoring.output import format_tally

    started = time.perf_counter()
    joined = join_shards(output, is_overwriting)
    if joined is None:
        print_message(f"{output}: was joined before; its shards are removed")
        return 0
    tally, job = joined
    for line in format_tally(tally, replace(job, shard=None), time.perf_counter() - started):
        print_message(line)
    return 0 if tally.num_scored else 1


def score_on_ray(arguments: argparse.Namespace, model: str) -> int:
    """Score the input files into a folder of parquet files on a Ray cluster, and print a summary."""
    from emotion.inference.sidecar import find_model_folder, read_sidecar
    from emotion.labels import LabelSet
    from emotion.scoring.batch import BatchOptions
    from emotion.scoring.cluster import ClusterJob, format_summary, score_on_cluster
    from emotion.scoring.manifest import PART_ROWS

    folder, columns = find_model_folder(model), load_config(None, arguments.overrides).data
    parents = fit_parents_of(arguments.taxonomy, folder, LabelSet(read_sidecar(folder)[0].labels))
    answers = {name: getattr(arguments, name) for name in ("probabilities", "threshold", "empty_set", "backend", "backbone")}
    part_rows = arguments.part_rows or PART_ROWS
    job = ClusterJob(arguments.input, arguments.output, columns, part_rows, arguments.worker_cores or 1, arguments.overwrite)
    started = time.perf_counter()
    tally = score_on_cluster(model, None, BatchOptions(**answers, parents=parents), job, print_message)
    for line in format_summary(tally, job, time.perf_counter() - started):
        print_message(line)
    return 0 if tally.num_scored else 1


def score_or_reuse(job: "ScoringJob", backbone: str | None) -> None:
    """Score the files of a job, unless its output exists already; `scored.json` beside it says of which job it is.

    Raises: ConfigError if it is the output of another job.
    """
    from emotion.files import write_json
    from emotion.inference.loading import load_predictor
    from emotion.scoring.manifest import describe_job, describe_version, read_manifest
    from emotion.scoring.output import format_tally
    from emotion.scoring.scoring import score_files

    assert job.model is not None
    job.output.parent.mkdir(parents=True, exist_ok=True)
    manifest, started = job.output.with_suffix(".json"), time.perf_counter()
    predictor = load_predictor(job.model, "auto", backbone=backbone)
    description = describe_job(predictor, predictor.rule, job)
    if job.output.exists():
        if read_manifest(manifest) != description | {"output": describe_version(job.output)}:
            raise ConfigError(f"{job.output}: exists already; give it as --input, or remove it to score the files again")
        print_message(f"{job.output}: is reused; it holds these files, scored by this model with these settings")
        return
    tally = score_files(predictor, predictor.rule, job, print_message)
    assert tally is not None  # only a second process gets None
    for line in format_tally(tally, job, time.perf_counter() - started):
        print_message(line)
    write_json(manifest, description | {"output": describe_version(job.output)})


def fit_parents_of(taxonomy: str | None, folder: str, label_set: "LabelSet", is_quiet: bool = False) -> "ParentModel | None":
    """Return the parents of a model's labels, and print what is left out; None without a taxonomy."""
    if taxonomy is None:
        return None
    from emotion.tracking.taxonomies import fit_taxonomy

    parents = fit_taxonomy(taxonomy, folder, label_set)
    for note in () if is_quiet else parents.level.notes:
        print_message(note)
    return parents
