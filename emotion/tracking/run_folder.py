"""The files of a run; `RunFolder` has a property or method for each. All but metrics.jsonl, which grows, are written atomically."""

import glob
import json
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emotion.config import Config, load_config, to_dict
from emotion.errors import ConfigError, DataError
from emotion.evaluation.rows import ScoredRows
from emotion.files import append_line, atomic_write, replace_nan, write_json
from emotion.labels import GOLD, ID, LabelSet
from emotion.locks import hold_lock
from emotion.paths import expand_path
from emotion.text import describe_error, print_message
from emotion.tracking.environment import describe_environment

TIME, TIME_PATTERN = "%Y%m%d-%H%M%S", f"{8 * '[0-9]'}-{6 * '[0-9]'}"
"""The time in the name of a run that was not given one, and the pattern that finds it: folders with other names are somebody's own."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def efficiency(self) -> Path:
        return self.path / "efficiency.json"

    @property
    def states(self) -> Path:
        return self.path / "state"

    @property
    def is_finished(self) -> bool:
        """Whether training reached its end. Where efficiency.json is damaged, the states tell: a finished run has none."""
        if not self.efficiency.is_file():
            return False
        try:
            return json.loads(self.efficiency.read_text(encoding="utf-8"))["interrupted_after_step"] is None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return not any(self.states.glob("*"))

    @property
    def quarantine(self) -> Path:
        """The bad rows of the data, if `data.on_bad_row` skips them."""
        return self.path / "quarantine.tsv"

    @property
    def corrections(self) -> Path:
        """The rows that `data.corrections` has changed, if there are any."""
        return self.path / "corrections.csv"

    @property
    def rows(self) -> Path:
        """The rows of each split, as ids and hashes; runs of earlier versions do not have it."""
        return self.path / "rows.parquet"

    @property
    def teachers(self) -> Path:
        """The folder of the teachers that the run trained; each is a run of its own."""
        return self.path / "teachers"

    def report(self, split: str) -> Path:
        return self.path / "report" / split

    @property
    def behaviour(self) -> Path:
        """The report of the behaviour checks."""
        return self.report("behaviour")

    def speed(self, split: str) -> Path:
        return self.report(split) / "speed.json"

    def predictions(self, split: str) -> Path:
        return self.path / "predictions" / f"{split}.parquet"

    @classmethod
    def choose(cls, config: Config, config_name: str, is_resumed: bool = False) -> "RunFolder":
        """Return the folder for a run, without creating it; a resumed run without a name gets the newest unfinished one of its config.

        Raises: ConfigError if the name is taken, or the run to resume is finished.
        """
        parent = expand_path(config.run.folder)
        folder = cls(parent / (config.run.name or f"{config_name}-{time.strftime(TIME)}"))
        if is_resumed:
            earlier = [cls(path) for path in sorted(parent.glob(f"{glob.escape(config_name)}-{TIME_PATTERN}"), reverse=True)]
            unfinished = [run for run in earlier if not run.is_finished]
            folder = unfinished[0] if config.run.name is None and unfinished else folder
            folder.check_unfinished()
        elif folder.path.exists():
            raise ConfigError(folder._describe_taken())
        return folder

    def check_unfinished(self) -> None:
        """Raise a ConfigError if the run is finished."""
        if self.is_finished:
            raise ConfigError(f"{self.path}: is finished, so there is nothing to resume; choose another run.name=NAME")

    def make(self, is_resumed: bool = False) -> None:
        """Make the folder; that of a resumed run may exist.

        Raises: ConfigError if the folder exists or cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=is_resumed or self.teachers.is_dir())
        except FileExistsError:
            raise ConfigError(self._describe_taken()) from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be created ({error.strerror}); choose another run.folder=FOLDER") from None

    def hold(self) -> AbstractContextManager[None]:
        """Return a context in which no other process trains this run or writes its model.

        Raises: LockHeldError if another process is in it.
        """
        return hold_lock(self.path / ".lock", f"{self.path}: is being written", "wait for it, or choose another run.name=NAME")

    def begin(self, config: Config, command: list[str]) -> None:
        """Write config.yaml and environment.json, and clear the log."""
        self.metrics.unlink(missing_ok=True)
        self.write_config(replace(config, run=replace(config.run, name=self.path.name)))
        write_json(self.environment, describe_environment(command))

    def resume(self, config: Config) -> None:
        """Write the settings that the run goes on with, and the folder in which relative paths among them are found."""
        self.write_config(replace(config, run=replace(config.run, name=self.path.name)))
        if environment := self._read_environment():
            write_json(self.environment, environment | {"working_directory": str(Path.cwd())})

    def _read_environment(self) -> dict[str, Any]:
        """Return the content of environment.json; nothing if it is damaged, or the run is of an earlier version."""
        try:
            values = json.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return values if isinstance(values, dict) else {}

    def write_config(self, config: Config) -> None:
        """Write the run's config."""
        with atomic_write(self.config) as partial:
            partial.write_text(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8")

    def read_config(self) -> Config:
        """Return the run's config."""
        return load_config(self.config, is_of_run=True)

    def resolve_data(self, config: Config, given: Collection[str] = ()) -> Config:
        """Return a config of the run with its data where training found it: a relative path is one of the folder that it was started in.

        Where that has no such file any more, as on another machine, it is one of the working directory. So are the settings `given` now.
        """
        from emotion.data.reading.finding import anchor_sources

        try:
            folder = Path(self._read_environment()["working_directory"])
        except (KeyError, TypeError):  # of an earlier version, or damaged
            return config
        return config if folder == Path.cwd() else replace(config, data=anchor_sources(config.data, folder, given))

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        append_line(self.metrics, json.dumps(replace_nan(row)))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl."""
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]

    def write_predictions(
        self,
        split: str,
        ids: list[str],
        labels: np.ndarray,
        probabilities: np.ndarray,
        label_set: LabelSet,
        is_judged: np.ndarray | None = None,
    ) -> None:
        """Write ids, gold labels (columns `gold:NAME`, bool) and probabilities (columns `NAME`, float32) of a split as parquet.

        A gold label that was not annotated, by `is_judged`, bool (n, L), is null.

        Raises: DataError if a label has the name of another column.
        """
        import pandas as pd

        label_set.check_columns()
        gold: Any = labels
        if is_judged is not None:
            gold = labels.astype(object)
            gold[~is_judged] = None
        columns: dict[str, Any] = {ID: ids}
        columns |= {f"{GOLD}{name}": gold[:, column] for column, name in enumerate(label_set.names)}
        columns |= {name: probabilities[:, column].astype(np.float32) for column, name in enumerate(label_set.names)}
        with atomic_write(self.predictions(split)) as partial:
            pd.DataFrame(columns).to_parquet(partial, index=False, write_page_checksum=True)

    def read_probabilities(self, split: str, ids: list[str], label_set: LabelSet) -> np.ndarray | None:
        """Return the stored probabilities of exactly these rows, float32 (n, L); None if there are none, or the file is damaged."""
        import pandas as pd

        path = self.predictions(split)
        if not path.is_file():
            return None
        try:
            with translate_damage(path):
                frame = pd.read_parquet(path, page_checksum_verification=True)
                return frame[list(label_set.names)].to_numpy() if frame[ID].tolist() == ids else None
        except DataError as error:
            print_message(str(error))
            return None

    def read_predictions(self, split: str) -> ScoredRows:
        """Return what is stored of a split.

        Raises: DataError if the file is damaged.
        """
        import pandas as pd

        with translate_damage(self.predictions(split)):
            frame = pd.read_parquet(self.predictions(split), page_checksum_verification=True)
            names = tuple(column.removeprefix(GOLD) for column in map(str, frame) if column.startswith(GOLD))
            gold, probabilities = frame[[GOLD + name for name in names]], frame[list(names)].to_numpy()
            is_judged = gold.notna().to_numpy()
            labels = np.where(is_judged, gold.to_numpy(), False).astype(bool)
            mask = None if is_judged.all() else is_judged
            return ScoredRows(frame[ID].astype(str).tolist(), LabelSet(names), labels, probabilities, mask)

    def _describe_taken(self) -> str:
        return f"{self.path}: exists already; resume it with --resume, choose another run.name=NAME, or remove it"


@contextmanager
def translate_damage(path: Path, remedy: str = "restore it, or predict the split again") -> Iterator[None]:
    """Raise a DataError in place of what a library raises for a damaged file."""
    try:
        yield
    except Exception as error:  # of many types
        raise DataError(f"{path}: is damaged ({describe_error(error)}); {remedy}") from None
