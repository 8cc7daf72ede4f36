"""Find the files of each split: files, patterns, folders, what `datasets` has saved, and datasets on the Hub."""

import difflib
import glob
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.data.reading.formats import READERS, check_settings
from emotion.data.reading.opening import ARCHIVE, COMPRESSIONS, find_format
from emotion.data.reading.rows import ReadOptions
from emotion.data.reading.tables import Table, read_tables, table_from_columns
from emotion.errors import DataError
from emotion.hub import read_from_hub
from emotion.paths import expand_path, is_hub_id
from emotion.text import describe_error

SAMPLE = Path(__file__).parents[1] / "sample"
"""Folder of the bundled corpus."""
SPLIT_FILES = {"train": ("train",), "validation": ("validation", "dev", "valid", "val"), "test": ("test",)}
"""Names of each split in file names and on the Hub, in order of preference."""
LABEL_FILES = ("labels.txt", "emotions.txt")
"""Files with one label name per line, in the order of the ids; `emotions.txt` is the one of the GoEmotions release."""
SHARD = r"(?:[-_ ]?(?P<number>\d+)(?:-of-(?P<total>\d+))?(?:-[0-9a-f]{8,})?)?"
"""What follows the name of a split in the name of one of its files, such as `-00000-of-00002`."""
HUB_NAMES = {
    "emotion": "dair-ai/emotion",
    "emotions": "dair-ai/emotion",
    "go_emotions": "google-research-datasets/go_emotions",
    "goemotions": "google-research-datasets/go_emotions",
    "sem_eval_2018_task_1": "SemEvalWorkshop/sem_eval_2018_task_1",
    "tweet_eval": "cardiffnlp/tweet_eval",
    "empathetic_dialogues": "facebook/empathetic_dialogues",
    "daily_dialog": "li2017dailydialog/daily_dialog",
}
"""Short names of datasets, by which tutorials and earlier versions of the Hub call them."""


def find_tables(config: DataConfig) -> dict[str, Table]:
    """Return one table per split; `train` is always one of them.

    Raises: DataError if a source is missing, is ambiguous or has no training rows, or as `read_table` does.
    """
    named = {split: getattr(config, split) for split in SPLIT_FILES if getattr(config, split)}
    if config.train:
        return {split: read_named(name, config) for split, name in named.items()}
    if named:
        tables = find_tables(replace(config, validation=None, test=None))
        return tables | {split: read_named(name, config) for split, name in named.items()}
    path = SAMPLE if config.source == "sample" else expand_path(config.source)
    if path.is_dir():
        return _read_folder(path, config)
    if files := _find_files(config.source):
        return {"train": read_tables(files, config)}
    is_file_name = path.suffix in (*READERS, ARCHIVE, *COMPRESSIONS) or glob.has_magic(config.source)
    if "/" in config.source and is_hub_id(config.source) and not is_file_name:
        return _load_from_hub(config)
    hint = _suggest_hub_name(config.source)
    raise DataError(f"data.source={config.source!r}: no such file or folder, and not the id of a Hub dataset (USER/NAME){hint}")


def is_data_file(path: Path) -> bool:
    """Return whether a path is a file of a known format."""
    return find_format(path) in (*READERS, ARCHIVE) and path.is_file()


def read_label_names(data: str) -> tuple[str, ...] | None:
    """Return the label names in the file of `LABEL_FILES` beside a file of data, in the order of their ids; None if there is none.

    Raises: DataError if it is not a text file in UTF-8.
    """
    for path in (Path(data).parent / name for name in LABEL_FILES if data != "-"):
        if path.is_file():
            try:
                return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path}: cannot be read as a UTF-8 list of label names ({error})") from None
    return None


def anchor_sources(config: DataConfig, folder: Path, given: Collection[str] = ()) -> DataConfig:
    """Return the config with each relative path of data in `folder` instead of the working directory, if there is such a file or folder.

    The settings `given`, such as `data.source`, stay.
    """
    names = {key: getattr(config, key) for key in ("source", "corrections", *SPLIT_FILES) if f"data.{key}" not in given}
    anchored: dict[str, Any] = {key: _anchor(name, folder) for key, name in names.items() if name and name != "sample"}
    return replace(config, **anchored)


def _anchor(name: str, folder: Path) -> str:
    if (path := folder / expand_path(name)).exists():
        return str(path)
    if glob.has_magic(name) and "," not in name and _find_files(pattern := str(Path(glob.escape(str(folder)), expand_path(name)))):
        return pattern
    return ",".join(_anchor(part.strip(), folder) for part in name.split(",")) if "," in name else name


def read_named(name: str, config: DataConfig) -> Table:
    """Return the rows of a file, of several (a pattern, or names between commas), or of a folder, as one table.

    Raises: DataError as `read_table`.
    """
    path = expand_path(name)
    if _is_saved_dataset(path):
        return _load_from_disk(path, config)["train"]
    files = [file for file in sorted(path.iterdir()) if is_data_file(file)] if path.is_dir() else _find_files(name)
    parts = [part.strip() for part in name.split(",")]
    missing = [part for part in parts if not _find_files(part)]
    if not files and len(missing) < len(parts):  # name the one that is missing, not the whole list
        path = expand_path(missing[0])
    return read_tables(files or [path], config)


def _find_files(name: str) -> list[Path]:
    """Return the file of this name, or the files that a pattern, or several names between commas, stand for."""
    path = expand_path(name)
    if path.is_file():
        return [path]
    found = [Path(match) for match in sorted(glob.glob(str(path))) if Path(match).is_file()]  # noqa: PTH207 - it may be absolute
    if not found and "," in name:
        parts = [_find_files(part.strip()) for part in name.split(",")]
        return [file for part in parts for file in part] if all(parts) else []
    return found


def _read_folder(folder: Path, config: DataConfig) -> dict[str, Table]:
    """Return the tables of the splits whose files are in a folder, or in the folder of a configuration below it."""
    if _is_saved_dataset(folder):
        return _load_from_disk(folder, config)
    if config.hub_config and (folder / config.hub_config).is_dir():
        folder = folder / config.hub_config
    elif not _find_split_files(folder, "train") and (inner := _list_inner(folder)):
        if config.hub_config:
            raise DataError(
                f"data.hub_config={config.hub_config!r}: {folder} has no such folder, only {', '.join(path.name for path in inner)}; "
                "choose one of them, or set data.hub_config=null"
            )
        folder = inner[0] if len(inner) == 1 else folder
    files = {split: found for split in SPLIT_FILES if (found := _find_split_files(folder, split))}
    if "train" not in files:
        raise DataError(f"{folder}: has no train.csv, .tsv, .jsonl, .json, .parquet or .xlsx{_suggest_source(folder, config.source)}")
    return {split: read_tables(found, config) for split, found in files.items()}


def _find_split_files(folder: Path, split: str) -> list[Path]:
    """Return the file of a split, or its shards.

    Raises: DataError if there are several files that are not shards of one another, or if a shard is missing.
    """
    pattern = re.compile(f"(?:{'|'.join(SPLIT_FILES[split])}){SHARD}", re.IGNORECASE)
    files = [file for file in sorted(folder.iterdir()) if is_data_file(file)]
    found = {file: match for file in files if (match := pattern.fullmatch(file.name.split(".")[0]))}
    if not found:
        inner = next((folder / name for name in SPLIT_FILES[split] if (folder / name).is_dir()), None)
        return [] if inner is None else [file for file in sorted(inner.iterdir()) if is_data_file(file)]
    names = [file.name for file in found]
    if len(found) > 1 and not (all(match["number"] for match in found.values()) and len({find_format(file) for file in found}) == 1):
        raise DataError(f"{folder}: several files for {split}: {names}; choose one with data.{split}=FILE")
    totals = {int(match["total"]) for match in found.values() if match["total"]}
    if totals and totals != {len(found)}:
        raise DataError(f"{folder}: has {len(found)} of {max(totals)} files of {split}: {names}; add the others, or set data.{split}=FILE")
    return sorted(found, key=lambda file: int(found[file]["number"] or 0))


def _list_inner(folder: Path) -> list[Path]:
    """Return the folders within a folder that have training rows."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and _find_split_files(path, "train")]


def _suggest_source(folder: Path, source: str) -> str:
    """Return what to do about a folder without training rows, as the end of a message."""
    if hint := _suggest_hub_name(source):
        return hint
    if inner := _list_inner(folder):
        return f"; choose one with data.source: {', '.join(map(str, inner))}"
    files = [file for file in sorted(folder.iterdir()) if is_data_file(file)]
    return f"; did you mean data.source={files[0]}?" if len(files) == 1 else "; set data.train=FILE"


def _suggest_hub_name(source: str) -> str:
    """Return a hint if the source is the short name of a dataset on the Hub, or nearly so."""
    near = difflib.get_close_matches(source.lower(), HUB_NAMES, n=1, cutoff=0.85)
    return f"; did you mean data.source={HUB_NAMES[near[0]]} (on the Hub)?" if near else ""


def _is_saved_dataset(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _load_from_disk(folder: Path, config: DataConfig) -> dict[str, Table]:
    """Return the tables of a folder that `save_to_disk` of `datasets` wrote; one without splits is the training rows."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises many types
        raise DataError(f"{folder}: cannot be read as a folder of save_to_disk ({describe_error(error)})") from None
    return _build_tables(str(folder), loaded if isinstance(loaded, dict) else {"train": loaded}, config)


def _load_from_hub(config: DataConfig) -> dict[str, Table]:
    import datasets

    obstacle = None
    try:
        with read_from_hub() as obstacle:
            loaded = datasets.load_dataset(config.source, config.hub_config)
    except Exception as error:  # the library raises many types, from an unknown name to a broken connection
        offline = f" ({obstacle})" if obstacle else ""
        first, *others = str(error).splitlines() or [""]
        reason = " ".join([f"{type(error).__name__}: {first}", *(line for line in others if "available configs" in line)])
        raise DataError(
            f"data.source={config.source!r}: not a local file or folder, and cannot be loaded from the Hub{offline} ({reason}); "
            "check the name, data.hub_config and the network, or set data.source=FOLDER to a local copy"
        ) from None
    return _build_tables(config.source, loaded, config)


def _build_tables(source: str, loaded: Any, config: DataConfig) -> dict[str, Table]:
    """Return the tables of a `DatasetDict`."""
    check_settings(source, "", ReadOptions(config))
    tables = {}
    for split, names in SPLIT_FILES.items():
        name = next((name for name in names if name in loaded), None)
        if name is not None:
            tables[split] = table_from_columns(f"{source}/{name}", loaded[name].to_dict())
            tables[split].class_names = _read_class_names(loaded[name].features)
    if "train" not in tables:
        raise DataError(
            f"data.source={source!r}: has no split `train`, only {', '.join(loaded)}; choose another dataset or data.hub_config"
        )
    return tables


def _read_class_names(features: dict[str, Any]) -> dict[str, list[str]]:
    """Return the label names of each column of class labels or of lists of class labels."""
    found = {}
    for column, feature in features.items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            found[column] = list(names)
    return found
