"""Cross-validation: the settings of a run, trained on folds of its rows. Each fold is a run of its own and is resumed as any other.

The rows of a fold are held out: neither its training nor its choice of a checkpoint nor its calibration has seen them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotion.checks import read_object
from emotion.config import BASELINE, Config, DistillationConfig, HubConfig, RunConfig, TrackingConfig
from emotion.data.reading import Dataset, Examples
from emotion.data.splitting import split_folds, split_rows
from emotion.distributed.launch import Launch
from emotion.errors import ConfigError
from emotion.files import write_json
from emotion.inference.predictor import Predictor
from emotion.labels import LabelSet
from emotion.tracking.run_folder import RunFolder
from emotion.training.baseline_run import fit_baseline_run
from emotion.training.fingerprint import describe_changes, fingerprint_run
from emotion.training.run import Run

MANIFEST = "folds.json"
"""The file beside the folds that says what they are folds of."""


@dataclass(frozen=True)
class Fold:
    """A run, and the rows that are held out from it: its test split."""

    folder: RunFolder
    config: Config
    dataset: Dataset


class FoldRun(Run):
    """The run of a fold: its rows are given, and it leaves a model but no report."""

    def __init__(self, fold: Fold, launch: Launch, resume_command: str) -> None:
        is_resumed = fold.folder.path.exists()
        super().__init__(fold.config, fold.folder, launch, is_resumed, is_forced=False, resume_command=resume_command)
        self._rows = fold.dataset

    def find_dataset(self) -> Dataset:
        return self._rows

    def write_results(self, model: Any, num_steps: int) -> None:
        self.write_efficiency(model, num_steps)
        self.remove_states()


def list_folds(rows: Examples, label_set: LabelSet, config: Config, num_folds: int, folder: Path) -> list[tuple[Fold, np.ndarray]]:
    """Return (fold, the row numbers that are held out), for folds that are stratified by label and keep all rows of a text together.

    Raises: DataError if there are too few rows.
    """
    of_row = split_folds(rows.texts, rows.labels, num_folds, config.data.split_seed)
    parts = [np.flatnonzero(of_row == number) for number in range(num_folds)]
    return [
        (make_fold(rows.take(np.flatnonzero(of_row != number)), rows.take(part), label_set, config, folder / f"fold-{number + 1}"), part)
        for number, part in enumerate(parts)
    ]


def make_fold(rows: Examples, held_out: Examples, label_set: LabelSet, config: Config, folder: Path) -> Fold:
    """Return the fold that is trained on `rows`, of which `data.validation_fraction` are split off for validation.

    It has the settings of `config`, but no teachers, which have seen the rows, and no tracker.
    """
    remedy = "give more rows, or raise data.validation_fraction"
    kept, taken = split_rows(rows.texts, rows.labels, config.data.validation_fraction, config.data.split_seed, remedy)
    dataset = Dataset({"train": rows.take(kept), "validation": rows.take(taken), "test": held_out}, label_set)
    return Fold(RunFolder(folder), _make_config(config, folder), dataset)


def _make_config(config: Config, folder: Path) -> Config:
    run = RunConfig(folder=str(folder.parent), name=folder.name)
    return replace(config, distillation=DistillationConfig(), hub=HubConfig(), tracking=TrackingConfig(backend="none"), run=run)


def check_same_folds(folder: Path, rows: Examples, config: Config, num_folds: int) -> None:
    """Check that the folds in a folder are those of the same rows and settings, or write down what they are if there are none yet.

    Raises: ConfigError that names each change; ModelError if what is written down is damaged.
    """
    path = folder / MANIFEST
    now = fingerprint_run(_make_config(config, folder), {"training and validation": rows}) | {"--folds": num_folds}
    now = json.loads(json.dumps(now))
    if path.is_file():
        before = read_object(path, f"remove {folder} to begin again, or choose another --output")
        if changes := describe_changes(before, now):
            raise ConfigError(f"{folder}: its folds were begun with others: {'; '.join(changes)}; choose another --output, or remove it")
    else:
        write_json(path, now)


def train_fold(fold: Fold, launch: Launch, train: Callable[[Run], None], resume_command: str) -> int:
    """Train a fold with the loop of train.py, unless it is finished, and return the exit status: not 0 if it was interrupted."""
    if fold.folder.is_finished:
        return 0
    with FoldRun(fold, launch, resume_command) as run:
        if fold.config.model.backbone == BASELINE:
            fit_baseline_run(run)
        else:
            train(run)
    return run.exit_status


def predict_held_out(fold: Fold) -> np.ndarray:
    """Return the probabilities of a finished fold for its held-out rows, float32 (n, L); they are predicted once, and kept."""
    rows, label_set = fold.dataset["test"], fold.dataset.label_set
    probabilities = fold.folder.read_probabilities("test", rows.ids, label_set)
    if probabilities is None:
        probabilities = Predictor.load(str(fold.folder.path)).predict(rows.texts, fold.folder.path.name)
        fold.folder.write_predictions("test", rows.ids, rows.labels, probabilities, label_set, rows.is_judged)
    return probabilities


def gather_held_out(folds: Sequence[tuple[Fold, np.ndarray]], num_rows: int) -> np.ndarray:
    """Return the out-of-fold probabilities of all rows, float32 (n, L), in their order."""
    probabilities = np.full((num_rows, len(folds[0][0].dataset.label_set)), np.nan, dtype=np.float32)
    for fold, rows in folds:
        probabilities[rows] = predict_held_out(fold)
    assert np.isfinite(probabilities).all()
    return probabilities
