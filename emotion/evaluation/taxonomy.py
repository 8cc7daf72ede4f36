"""Taxonomies: coarser labels, the *parents*, each with the labels of a model that it stands for, its *children*.

A text has a parent if it has one of its children. A label may be a child of several parents, or of none. `emotion.evaluation.parents` fits
the probability of a parent.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from emotion.errors import ConfigError, DataError
from emotion.labels import LabelSet, find_lookalikes, fold_name
from emotion.text import describe_error, format_names

FOLDER = Path(__file__).parent / "taxonomies"
BUILT_IN = ("ekman", "sentiment")
"""Taxonomies of the labels of GoEmotions that the package contains."""
EXAMPLE = "write each parent with a list of its labels, such as `joy: [joy, relief]`"


@dataclass(frozen=True)
class Taxonomy:
    """Parents in their order, each with the names of its children."""

    name: str
    parents: dict[str, tuple[str, ...]]

    def apply(self, label_set: LabelSet) -> "TaxonomyLevel":
        """Return the parents of the labels of a model. A parent without any child among them is left out.

        Raises: DataError if fewer than two parents are left.
        """
        columns = {name: _find_column(label_set, name) for names in self.parents.values() for name in names}
        members = {parent: [column for name in names if (column := columns[name]) is not None] for parent, names in self.parents.items()}
        found = {parent: known for parent, known in members.items() if known}
        where = f"taxonomy {self.name}"
        if len(found) < 2:
            raise DataError(
                f"{where}: {len(found)} of its {len(self.parents)} parents have labels of the model, must be at least 2; "
                f"the labels of the model are {format_names(label_set.names)}"
            )
        children = np.zeros((len(label_set), len(found)), dtype=bool)
        for position, known in enumerate(found.values()):
            children[known, position] = True
        notes = []
        if unknown := [name for name, column in columns.items() if column is None]:
            notes.append(f"{where}: the model does not have the labels {format_names(unknown)}")
        if empty := [parent for parent in self.parents if parent not in found]:
            notes.append(f"{where}: left out, because the model has none of their labels: {format_names(empty)}")
        if free := label_set.decode(~np.asarray(children.any(axis=1))):
            notes.append(f"{where}: left out, because they have no parent: {format_names(free)}")
        return TaxonomyLevel(self.name, label_set, LabelSet(tuple(found)), children, tuple(notes))


@dataclass(frozen=True)
class TaxonomyLevel:
    """A taxonomy applied to the labels of a model."""

    name: str
    model_labels: LabelSet
    """The labels of the model."""
    label_set: LabelSet
    """The parents."""
    children: np.ndarray
    """Whether a label is a child of a parent, bool (L, P)."""
    notes: tuple[str, ...]
    """For the user: labels that the model does not have, and labels and parents that are left out."""

    @cached_property
    def gold_labels(self) -> LabelSet:
        """The names that gold labels of a file may have: labels of the model, and parents whose name is no label of the model."""
        known = set(map(fold_name, self.model_labels.names))
        return LabelSet((*self.model_labels.names, *(name for name in self.label_set.names if fold_name(name) not in known)))

    def merge_labels(self, labels: np.ndarray, is_judged: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return whether each row has each parent, bool (n, P), and which parents were judged; None if all were.

        `labels` and `is_judged` are bool (n, L), or have a column for each of `gold_labels`. A parent was judged if its own column or all
        its children were; where it was not, it is False. To count a row that has a judged child, but not one that has none, would leave
        too few rows without the parent: every model would be precise. A child with the name of the parent is the parent's own column
        where no row has another of its children judged.
        """
        num_labels = len(self.children)
        own = np.array([[name == parent for parent in self.label_set.names] for name in self.gold_labels.names[num_labels:]])
        members = self.children if labels.shape[1] == num_labels else np.vstack([self.children, own])
        merged = labels @ members  # of booleans: whether any label of the row is a member
        if is_judged is None:
            return merged, None
        of_labels = is_judged[:, :num_labels]
        keys, parents = map(fold_name, self.model_labels.names), list(map(fold_name, self.label_set.names))
        named = self.children & np.array([[key == parent for parent in parents] for key in keys])
        is_alone = ~(of_labels.any(axis=0) @ (self.children & ~named))
        judged = ~(~of_labels @ self.children) | (of_labels @ (named & is_alone))
        if labels.shape[1] > num_labels:
            judged |= is_judged[:, num_labels:] @ own
        return merged & judged, None if judged.all() else judged


def read_taxonomy(name: str) -> Taxonomy:
    """Return a built-in taxonomy, or that of a YAML file.

    Raises: ConfigError if the file cannot be read, or is no mapping of parents to lists of labels.
    """
    path = FOLDER / f"{name}.yaml" if name in BUILT_IN else Path(name)
    where = f"--taxonomy {name}"
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # a label may be named `no` or `1`
    except OSError as error:
        allowed = f"{', '.join(BUILT_IN)} and YAML files"
        raise ConfigError(f"{where}: cannot be read ({error.strerror}); allowed are {allowed}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is not valid YAML ({describe_error(error)}); {EXAMPLE}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{where}: must map parents to labels; {EXAMPLE}")
    for key, _ in root.value:
        if not isinstance(key, yaml.ScalarNode) or not key.value.strip():
            raise ConfigError(f"{where}:{key.start_mark.line + 1}: the name of a parent must be text; {EXAMPLE}")
    names = [key.value for key, _ in root.value]
    if repeated := [parent for parent, number in Counter(names).items() if number > 1]:
        raise ConfigError(f"{where}: the parents {format_names(repeated)} occur more than once; merge their lists")
    if pair := find_lookalikes(names):
        raise ConfigError(f"{where}: the parents {pair[0]!r} and {pair[1]!r} look the same; rename one of them")
    if len(names) < 2:
        raise ConfigError(f"{where}: has {len(names)} parents, must be at least 2; {EXAMPLE}")
    return Taxonomy(path.stem, {key.value: _read_children(value, f"{where}: {key.value}") for key, value in root.value})


def _read_children(node: yaml.Node, where: str) -> tuple[str, ...]:
    """Return the labels of a parent, each once."""
    items = node.value if isinstance(node, yaml.SequenceNode) else []
    if not items or not all(isinstance(item, yaml.ScalarNode) and item.value.strip() for item in items):
        raise ConfigError(f"{where}: must be a list of one or more labels; {EXAMPLE}")
    return tuple(dict.fromkeys(item.value for item in items))


def _find_column(label_set: LabelSet, name: str) -> int | None:
    """Return the column of a label, None if there is none of this name."""
    try:
        return label_set.column(name)
    except DataError:
        return None
