"""What a comparison knows of a run, and which runs are seeds of one model."""

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
from emotion.labels import LabelSet


@dataclass(frozen=True)
class Run:
    """A run with its test predictions; arrays are (n, L)."""

    name: str
    config: Config
    label_set: LabelSet
    ids: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    predictions: np.ndarray
    efficiency: dict[str, Any]
    """What efficiency.json holds."""
    speed: dict[str, Any]
    """What was measured of prediction when the test split was opened; empty if nothing was."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings that make the model, seed left out; a path that is there is the same however it was written."""
        sections = {name: dict(values) for name, values in to_dict(self.config).items() if name not in INERT_SECTIONS}
        del sections["training"]["seed"]
        for key in ("source", "train", "validation", "test"):
            path = sections["data"][key]
            sections["data"][key] = str(Path(path).resolve()) if path is not None and Path(path).exists() else path
        return sections


@dataclass(frozen=True)
class Group:
    """Runs of one recipe that differ in their seed."""

    runs: tuple[Run, ...]

    @cached_property
    def name(self) -> str:
        """The first run's name, without a number of the seed at its end where there are several."""
        first = self.runs[0].name
        if len(self.runs) == 1:
            return first
        prefix = os.path.commonprefix([run.name for run in self.runs])  # noqa: RUF071, of letters is what is meant
        return re.sub(r"[-_. ]+(seed|s)?[-_. ]*$", "", prefix) or first

    @property
    def seeds(self) -> list[int]:
        return [run.config.training.seed for run in self.runs]


def check_comparable(runs: Sequence[Run]) -> None:
    """Hold the runs to have been tested on the same rows with the same labels.

    Raises: DataError naming the first that was not.
    """
    first = runs[0]
    for run in runs[1:]:
        where = f"{run.name}: cannot be compared with {first.name}"
        if run.label_set != first.label_set:
            ours, theirs = set(first.label_set.names), set(run.label_set.names)
            odd = sorted(ours ^ theirs) or ["the same names in another order"]
            raise DataError(f"{where}: they have other labels ({', '.join(odd[:5])}); give runs of one data set")
        if run.ids != first.ids:
            raise DataError(
                f"{where}: they were tested on other rows ({len(run.ids):,} and {len(first.ids):,}, "
                f"{len(set(run.ids) & set(first.ids)):,} ids in common); open the same test split of both with evaluate.py"
            )
        if (run.labels != first.labels).any():
            num_other = int((run.labels != first.labels).any(axis=1).sum())
            raise DataError(f"{where}: the gold labels of {num_other:,} test rows are not the same; open the same test split of both")


def group_seeds(runs: Sequence[Run]) -> list[Group]:
    """Return the runs grouped by recipe, in the order given; a second run of one recipe and one seed is a group of its own.

    Raises: DataError if two groups have one name.
    """
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            seeds = [other.config.training.seed for other in group]
            if group[0].recipe == run.recipe and run.config.training.seed not in seeds:
                group.append(run)
                break
        else:
            groups.append([run])
    named = [Group(tuple(group)) for group in groups]
    names = [group.name for group in named]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{sorted(twice)[0]}: two different models go by this name; rename one of the run folders")
    return named
