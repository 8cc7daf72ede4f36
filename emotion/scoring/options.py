"""Options of `evaluate.py`: what an output is, and which options do not fit together."""

import argparse
import os
import shlex
from dataclasses import fields
from pathlib import Path

from emotion.arguments import check_one_source
from emotion.config import DataConfig, check_keys
from emotion.errors import ConfigError
from emotion.text import read_digits

TEXT_KEYS = {
    *("data.text_column", "data.encoding", "data.separator", "data.escape", "data.quoting"),
    *("data.has_header", "data.sheet", "data.max_line_length"),
}
"""Settings that say how to read the texts of a file."""
READING_KEYS = TEXT_KEYS | {
    *("data.label_column", "data.label_columns", "data.label_delimiter", "data.first_label_id", "data.intensity_threshold"),
}
"""Settings that say how to read a file, its labels too."""
REPORT_KEYS = READING_KEYS | {"data.id_column", "data.on_bad_row", "data.rater_column", "data.soft_labels"}
"""Settings that say how to read a labelled file for a report."""
DATA_KEYS = {f"data.{field.name}" for field in fields(DataConfig)}
DATA_KEYS -= {"data.max_length", "data.long_texts", "data.stride", "data.train_fraction"}
"""Settings that say what the splits of a run's data are."""
NOT_OF_BEHAVIOUR = ("split", "input", "shard", "join", "probabilities", "excel_safe", "overwrite", "part_rows", "taxonomy", "engine")
"""Options that --behaviour does not take."""
OF_REPORTS = ("split", "full", "no_texts")
"""Options that scored files do not take."""
OTHER_DATA_FORMATS = (".tsv", ".txt", ".json", ".xls", ".zip", ".ndjson", ".feather")
"""Suffixes of data files that scoring cannot write; any other suffix of --output is a part of a folder's name."""

MOVED_OPTIONS = ("--verify", "--merge", "--export", "--int8", "--push", "--dry-run", "--refit")
"""Options of earlier versions that are now options of export.py."""


def check_options(arguments: argparse.Namespace) -> None:
    """Raise a ConfigError for options that do not fit together, or values out of range."""
    why = "the model keeps the settings that it was trained with"
    check_keys(arguments.overrides, DATA_KEYS, why)  # first, because the formats of files take numpy
    if arguments.behaviour is not None:
        _check_behaviour(arguments)
    is_on_ray = _check_engine(arguments)
    probabilities, is_file = arguments.probabilities, is_on_ray or is_scored_file(arguments.output)
    _check_sharding(arguments, is_file)
    if is_file and arguments.behaviour is not None:
        raise ConfigError(f"--output {arguments.output}: --behaviour writes a report; give a folder")
    if is_file and not arguments.input:
        raise ConfigError(f"--output {arguments.output}: give the files to score with --input")
    if not is_probabilities(probabilities):
        raise ConfigError(f"--probabilities {probabilities}: must be none, all or a number of labels, at least 1")
    if not is_file and probabilities != "none":
        raise ConfigError("--probabilities: is for scored files; give --output FILE.csv, .jsonl, .parquet or .xlsx")
    if arguments.excel_safe and (not is_file or is_on_ray or not _is_csv(arguments.output)):
        raise ConfigError("--excel-safe: is for scored csv files; give --output FILE.csv")
    if arguments.overwrite and not is_file and arguments.join is None:
        raise ConfigError("--overwrite: is for scored files; a report replaces an earlier one in any case")
    _check_effects(arguments, is_file)
    if arguments.part_rows is not None and arguments.part_rows < 1:
        raise ConfigError(f"--part-rows {arguments.part_rows}: must be at least 1")
    if arguments.input is not None and arguments.output is None:
        raise ConfigError("--input FILE: give --output FOLDER too, so that the reports of the run's own splits are kept")
    if not is_file and len(arguments.input or ()) > 1:
        raise ConfigError(f"--input: a report is of one labelled file, got {len(arguments.input)}; to score files give --output FILE.csv")
    allowed = READING_KEYS if is_file else REPORT_KEYS if arguments.input else DATA_KEYS
    check_keys(arguments.overrides, allowed, why)
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ConfigError(f"--threshold {arguments.threshold}: must be in (0, 1)")


def _check_effects(arguments: argparse.Namespace, is_file: bool) -> None:
    """Raise a ConfigError for options that have no effect on a scored file (`is_file`), or on a report."""
    if is_file:
        if given := [name for name in OF_REPORTS if getattr(arguments, name)]:
            option = f"--{given[0].replace('_', '-')}"
            raise ConfigError(f"{option}: is for reports; a scored file has all rows and columns of its input, so leave it out")
        return
    if arguments.part_rows is not None:
        raise ConfigError("--part-rows: is for scored files; give --output FILE.csv, .jsonl, .parquet or .xlsx")
    check_one_source(arguments)
    if arguments.behaviour is None and arguments.backend != "torch":
        scored = "score the labelled rows with --input FILE --output FILE.csv, which writes the metrics of this backend"
        raise ConfigError(f"--backend {arguments.backend}: a report is of the model in torch; {scored}")


def _check_sharding(arguments: argparse.Namespace, is_file: bool) -> None:
    """Raise a ConfigError for options that do not fit `--shard` or `--join`."""
    if arguments.join is not None:
        allowed = ("join", "overwrite", "quiet")
        given = [name for name, value in vars(arguments).items() if name not in allowed and value not in (None, False, [], "none", "torch")]
        if given:
            option = arguments.overrides[0] if given[0] == "overrides" else f"--{given[0].replace('_', '-')}"
            raise ConfigError(f"--join {arguments.join}: takes --overwrite only, got {option}; the shards have the rest")
        if arguments.join == "-" or not is_scored_file(arguments.join):
            raise ConfigError(f"--join {arguments.join}: must be the --output of the shards, such as scored.csv")
    if arguments.shard is None:
        return
    from emotion.scoring.shards import Shard

    Shard.parse(arguments.shard)
    if not is_file:
        raise ConfigError("--shard: is for scored files; give --output FILE.csv, .jsonl, .parquet or .xlsx")
    if arguments.output == "-" or "-" in (arguments.input or ()):
        raise ConfigError("--shard: stdin and stdout cannot be divided; give files")


def _check_behaviour(arguments: argparse.Namespace) -> None:
    """Raise a ConfigError for options that do not fit to --behaviour."""
    given = [f"--{name.replace('_', '-')}" for name in NOT_OF_BEHAVIOUR if getattr(arguments, name) not in (None, False, "none")]
    given += arguments.overrides
    if given:
        raise ConfigError(
            f"{given[0]}: has no effect on --behaviour, which reads its suite only; leave it out, or call evaluate.py a second time"
        )


def _check_engine(arguments: argparse.Namespace) -> bool:
    """Return whether a Ray cluster scores.

    Raises: ConfigError for options that do not fit to it, or if Ray is not installed.
    """
    if arguments.engine is None:
        if arguments.worker_cores is not None:
            raise ConfigError("--worker-cores: is for --engine ray")
        return False
    if arguments.worker_cores is not None and arguments.worker_cores < 1:
        raise ConfigError(f"--worker-cores {arguments.worker_cores}: must be at least 1")
    if arguments.output is None or is_scored_file(arguments.output):
        raise ConfigError("--engine ray: writes a folder of parquet files; give --output FOLDER, without the ending of a file")
    if not arguments.input or "-" in arguments.input:
        raise ConfigError("--engine ray: give the files to score with --input; it does not read stdin")
    if arguments.shard is not None:
        raise ConfigError("--engine ray: divides the files by itself; leave out --shard")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--engine ray: Ray starts the workers; start one process, without torchrun or accelerate")
    from emotion.scoring.ray_engine import check_ray

    check_ray()
    return True


def is_scored_file(output: str | None) -> bool:
    """Return whether --output names a file of scored rows; any other name is a folder for a report.

    Raises: DataError for the name of a data file that scoring cannot write.
    """
    from emotion.data.reading.opening import COMPRESSIONS
    from emotion.scoring.formats import FORMATS, check_format

    if output is None or output == "-" or Path(output).is_dir():
        return output == "-"
    path = Path(output)
    is_file = any(suffix.lower() in (*FORMATS, *OTHER_DATA_FORMATS) for suffix in path.suffixes) or path.suffix.lower() in COMPRESSIONS
    if is_file:
        check_format(path)
    return is_file


def _is_csv(output: str) -> bool:
    from emotion.data.reading.opening import find_format

    return output == "-" or find_format(Path(output)) == ".csv"


def is_probabilities(value: object) -> bool:
    """Return whether a value says which probabilities to write: `none`, `all` or a number of labels, at least 1."""
    return str(value) in ("none", "all") or bool(read_digits(str(value)))


def refuse_moved_options(words: list[str]) -> None:
    """Raise a ConfigError with the command of export.py for an option that has moved there."""
    moved = [name for word in words if (name := word.partition("=")[0]) in MOVED_OPTIONS]
    if moved:
        command = shlex.join(["python", "export.py", *words]).replace("--export onnx", "--onnx").replace("--export=onnx", "--onnx")
        raise ConfigError(f"{', '.join(moved)}: moved to export.py; run `{command}`")
