"""Runs with their test predictions, checks that they are comparable, and grouping by seed."""

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emotion.config import INERT_SECTIONS, Config, to_dict
from emotion.errors import DataError
from emotion.evaluation.behaviour.results import PassedCases
from emotion.evaluation.rows import ScoredRows
from emotion.labels import LabelSet


@dataclass(frozen=True)
class Run:
    """A run and its predictions of the test rows, or those of another model that were read from a file; all arrays are (n, L)."""

    name: str
    config: Config | None
    """None for a model that this project did not train."""
    label_set: LabelSet
    ids: list[str]
    labels: np.ndarray
    probabilities: np.ndarray | None
    """None if the predictions are labels only."""
    predictions: np.ndarray
    efficiency: dict[str, Any]
    """Content of efficiency.json; empty if the file is missing."""
    speed: dict[str, Any]
    """Prediction speed, measured when the test split was scored; empty if it was not measured."""
    is_judged: np.ndarray | None = None
    """Which labels were annotated; None if all were. Elsewhere `labels` and `predictions` are False."""
    given: np.ndarray | None = None
    """Predictions from a file, also of labels that were not annotated; None for those of a model of this project."""
    evaluated: str | None = None
    """When the test rows were scored, such as `2026-11-26 10:00`; None if an earlier version scored them."""
    notes: tuple[str, ...] = ()
    """How predictions from a file were read, or with which thresholds a run was evaluated; messages for the user."""
    taxonomy: str | None = None
    """Name of the taxonomy whose parents are the labels; None for the labels of the model."""
    behaviour: PassedCases | None = None
    """Which behaviour cases the model passed; None if they were not checked with the decision rule of the predictions."""
    trained_on: str | None = None
    """GPU or processor that trained it, as environment.json has it; None if the file is missing."""

    @property
    def gold_values(self) -> np.ndarray:
        """The gold labels as 1 and 0, and -1 where a label was not annotated, int8 (n, L)."""
        return np.where(True if self.is_judged is None else self.is_judged, self.labels, -1).astype(np.int8)

    @property
    def rows(self) -> ScoredRows:
        """The test rows, without their texts. The run has to have probabilities."""
        assert self.probabilities is not None
        return ScoredRows(self.ids, self.label_set, self.labels, self.probabilities, self.is_judged)

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings that determine the model, without the seed. Existing paths are resolved, so their spelling does not matter."""
        if self.config is None:
            return {}
        sections = {name: dict(values) for name, values in to_dict(self.config).items() if name not in INERT_SECTIONS}
        del sections["training"]["seed"]
        for key in ("source", "train", "validation", "test"):
            path = sections["data"][key]
            sections["data"][key] = str(Path(path).resolve()) if path is not None and Path(path).exists() else path
        return sections


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed. A comparison treats them as one model."""

    runs: tuple[Run, ...]

    @cached_property
    def name(self) -> str:
        """The name of a single run, or the common prefix of several names without a trailing `seed` and separators."""
        first = self.runs[0].name
        if len(self.runs) == 1:
            return first
        prefix = os.path.commonprefix([run.name for run in self.runs])  # noqa: RUF071, the common prefix of characters is intended
        if all((run.name[len(prefix) :] or "0").isdigit() for run in self.runs):
            prefix = prefix.rstrip("0123456789")  # of `minilm-10` and `minilm-11`, and of `minilm-1` and `minilm-10`
        return re.sub(r"[-_. ]+(seed|s)?[-_. ]*$", "", prefix) or first

    @property
    def train_fraction(self) -> float:
        """The fraction of the training rows that the runs were trained on."""
        config = self.runs[0].config
        return float("nan") if config is None else config.data.train_fraction

    @property
    def is_external(self) -> bool:
        """Whether this project did not train the model."""
        return self.runs[0].config is None


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that all runs have the same labels, test rows and gold labels, and that there are gold labels.

    Raises:
        DataError: naming the first run that differs.
    """
    first = runs[0]
    if not first.labels.any():
        of_taxonomy = f" of the taxonomy {first.taxonomy}" if first.taxonomy is not None else ""
        raise DataError(f"{first.name}: none of its {len(first.ids):,} test rows has a gold label{of_taxonomy}: nothing can be compared")
    for run in runs[1:]:
        where = f"{run.name}: cannot be compared with {first.name}"
        if run.label_set != first.label_set:
            differing = sorted(set(first.label_set.names) ^ set(run.label_set.names)) or ["same names in another order"]
            raise DataError(f"{where}: their label sets differ ({', '.join(differing[:5])}); compare runs of one data set")
        if run.ids != first.ids:
            raise DataError(
                f"{where}: their test rows differ ({len(run.ids):,} and {len(first.ids):,} rows, "
                f"{len(set(run.ids) & set(first.ids)):,} ids in common); score the same test split of both with evaluate.py"
            )
        if num_differing := int((run.gold_values != first.gold_values).any(axis=1).sum()):
            raise DataError(
                f"{where}: the gold labels of {num_differing:,} test rows differ; score the same test split of both with evaluate.py"
            )


def group_seeds(runs: Sequence[Run]) -> list[SeedGroup]:
    """Return the runs grouped by recipe, in the given order. A second run with the same recipe and seed starts a new group.

    Raises:
        DataError: if two groups have the same name.
    """
    grouped: list[list[Run]] = []
    for run in runs:
        for members in grouped:
            seeds = [_find_seed(member) for member in members]
            if run.config is not None and members[0].recipe == run.recipe and _find_seed(run) not in seeds:
                members.append(run)
                break
        else:
            grouped.append([run])
    groups = [SeedGroup(tuple(members)) for members in grouped]
    names = [group.name for group in groups]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{duplicates[0]}: two different models have this name; rename one of the run folders, or of --predictions")
    return groups


def _find_seed(run: Run) -> int | None:
    return None if run.config is None else run.config.training.seed
