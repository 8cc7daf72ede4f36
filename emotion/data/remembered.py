"""The rows of a run's splits as the run remembers them: ids and hashes of texts and labels. A run holds to them when its data changes."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emotion.data.reading import Dataset, Examples
from emotion.data.reading.corrections import UNUSED
from emotion.data.splitting import normalize_text
from emotion.files import atomic_write
from emotion.labels import LabelSet

EARLIER = "earlier"
"""Name under which training rows are remembered that the data does not have: it no longer had them when the run was resumed, or they are
texts without labels."""


@dataclass(frozen=True)
class RowKeys:
    """What is remembered of the rows of a split."""

    ids: list[str]
    texts: np.ndarray
    """Hash of each normalized text, uint64 (n,)."""
    labels: np.ndarray
    """Hash of each row's label names, uint64 (n,)."""

    @classmethod
    def compute(cls, examples: Examples, label_set: LabelSet) -> "RowKeys":
        """Return the keys of rows; texts that differ in case and blanks only have the same key, as where rows are split."""
        sets, members = np.unique(examples.labels, axis=0, return_inverse=True)
        hashes = hash_strings("\x1f".join(sorted(label_set.decode(row))) for row in sets)
        return cls(examples.ids, hash_texts(examples.texts), hashes[members.reshape(-1)])

    def equals(self, other: "RowKeys") -> bool:
        """Return whether the rows have the same ids, texts and labels in the same order."""
        same_rows = self.ids == other.ids and np.array_equal(self.texts, other.texts)
        return same_rows and np.array_equal(self.labels, other.labels)


@dataclass(frozen=True)
class RestoredSplit:
    """The rows of a remembered split that are still in the data."""

    examples: Examples
    """In the order of the run, with the ids of the run."""
    kept: np.ndarray
    """Positions of these rows in the split of the run, int (n,)."""
    num_missing: int
    """Rows that are gone, or whose text has changed."""
    num_relabelled: int
    """Rows with other labels than in the run."""


@dataclass(frozen=True)
class RememberedRows:
    """The keys of the rows of each split."""

    splits: dict[str, RowKeys]

    @classmethod
    def compute(cls, dataset: Dataset) -> "RememberedRows":
        """Return the keys of all rows of a data set."""
        splits = dataset.splits | ({UNUSED: dataset.unused} if dataset.unused is not None else {})
        train = splits["train"]
        if train.is_judged is not None and not (has_labels := train.is_judged.any(axis=1)).all():
            splits = splits | {"train": train.take(np.flatnonzero(has_labels)), EARLIER: train.take(np.flatnonzero(~has_labels))}
        return cls({split: RowKeys.compute(examples, dataset.label_set) for split, examples in splits.items()})

    def add_earlier(self, before: "RememberedRows") -> "RememberedRows":
        """Return these rows, and as `EARLIER` also those that the same run was trained on and that are no longer training rows."""
        own = [self.splits[EARLIER]] if EARLIER in self.splits else []
        trained = [*own, *(before.splits[split] for split in ("train", EARLIER) if split in before.splits)]
        ids = [row_id for keys in trained for row_id in keys.ids]
        texts, labels = (np.concatenate([getattr(keys, name) for keys in trained]) for name in ("texts", "labels"))
        is_first = np.isin(np.arange(len(texts)), np.unique(texts, return_index=True)[1])
        rows = np.flatnonzero(is_first & ~np.isin(texts, self.splits["train"].texts))
        earlier = RowKeys([ids[row] for row in rows], texts[rows], labels[rows])
        return RememberedRows(self.splits | ({EARLIER: earlier} if len(rows) else {}))

    def write(self, path: Path) -> None:
        """Write the rows as parquet: split, id, and the hashes of text and labels."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [split for split, keys in self.splits.items() for _ in keys.ids]
        columns = {"split": pa.array(names).dictionary_encode(), "id": [row_id for keys in self.splits.values() for row_id in keys.ids]}
        columns |= {name: np.concatenate([getattr(keys, name) for keys in self.splits.values()]) for name in ("texts", "labels")}
        with atomic_write(path) as partial:
            pq.write_table(pa.table(columns), partial, write_page_checksum=True)

    @classmethod
    def read(cls, path: Path) -> "RememberedRows":
        """Return the rows of a file that `write` wrote; of a damaged file, pyarrow raises exceptions of many types."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(path, page_checksum_verification=True) as file:  # `read_table` and `to_numpy` would import pandas
            table = file.read()
        splits, ids = np.array(table["split"].to_pylist(), dtype=object), table["id"].to_pylist()
        texts, labels = (np.array(table[name].to_pylist(), dtype=np.uint64) for name in ("texts", "labels"))
        rows_of = {split: np.flatnonzero(splits == split) for split in dict.fromkeys(splits)}
        return cls({split: RowKeys([ids[row] for row in rows], texts[rows], labels[rows]) for split, rows in rows_of.items()})

    def restore(self, dataset: Dataset) -> tuple[dict[str, RestoredSplit], int]:
        """Return the remembered splits, as far as their rows are in `dataset`, and the number of rows that are new there.

        A row is found by its split, id and text; where the id is a line number that has moved, or the row is in another file, by its text.
        """
        keys = {split: RowKeys.compute(examples, dataset.label_set) for split, examples in dataset.splits.items()}
        present = [(split, row, row_id, text) for split in keys for row, (row_id, text) in enumerate(_zip_keys(keys[split]))]
        splits = [split for split in self.splits if split != EARLIER]
        wanted = [(split, row, row_id, text) for split in splits for row, (row_id, text) in enumerate(_zip_keys(self.splits[split]))]
        found = _match_rows(wanted, present)
        restored = {split: self._restore_split(split, dataset, keys, found) for split in splits}
        return restored, len(present) - len(found)

    def _restore_split(
        self, split: str, dataset: Dataset, keys: dict[str, RowKeys], found: dict[tuple[str, int], tuple[str, int]]
    ) -> RestoredSplit:
        """Return a split; `found` maps (split, row) of the run to (split, row) of the data."""
        before = self.splits[split]
        kept = np.array([row for row in range(len(before.ids)) if (split, row) in found], dtype=np.int64)
        sources = [found[split, row] for row in kept.tolist()]
        labels = np.array([keys[name].labels[row] for name, row in sources], dtype=np.uint64)
        examples = replace(_gather_rows(dataset, sources), ids=[before.ids[row] for row in kept])
        return RestoredSplit(examples, kept, len(before.ids) - len(kept), int((labels != before.labels[kept]).sum()))

    def find_split(self, row_id: str, text: str) -> str | None:
        """Return the split of a row: that of the same id and text, or else of the same text; None if there is none."""
        key = int(hash_texts([text])[0])
        return self._splits_by_row.get((row_id, key)) or self._splits_by_row.get(key)

    @cached_property
    def _splits_by_row(self) -> dict[tuple[str, int] | int, str]:
        """The split of each row by its id and the hash of its text, and by the hash alone."""
        found: dict[tuple[str, int] | int, str] = {}
        for split, keys in self.splits.items():
            for row_id, key in _zip_keys(keys):
                own = "train" if split == EARLIER else split
                found.setdefault((row_id, key), own)
                found.setdefault(key, own)
        return found

    def count_known(self, texts: list[str], splits: Iterable[str] = ("train", "validation")) -> dict[str, int]:
        """Return how many of the texts are in each of the given splits."""
        hashes = hash_texts(texts)
        return {split: int(np.isin(hashes, self._list_texts(split)).sum()) for split in splits if split in self.splits}

    def _list_texts(self, split: str) -> np.ndarray:
        names = (split, EARLIER) if split == "train" else (split,)
        return np.concatenate([self.splits[name].texts for name in names if name in self.splits])


def hash_texts(texts: Iterable[str]) -> np.ndarray:
    """Return a hash of each text, uint64 (n,): equal for texts that `normalize_text` makes equal."""
    return hash_strings(map(normalize_text, texts))


def hash_strings(strings: Iterable[str]) -> np.ndarray:
    """Return the first 8 bytes of each string's BLAKE2b, uint64 (n,)."""
    digests = (hashlib.blake2b(string.encode("utf-8", "surrogatepass"), digest_size=8).digest() for string in strings)
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


Located = tuple[str, int, str, int]
"""A row: its split, its number there, its id, and the hash of its text."""
ROUNDS: tuple[Callable[[Located], Any], ...] = (
    lambda row: (row[0], row[2], row[3]),  # split, id, text
    lambda row: (row[2], row[3]),
    lambda row: (row[0], row[3]),
    lambda row: row[3],
)
"""By what rows are found, one after another: a later round finds those that the earlier ones did not."""


def _match_rows(wanted: list[Located], present: list[Located]) -> dict[tuple[str, int], tuple[str, int]]:
    """Return the row of `present` for each row of `wanted` that has one, both as (split, number); no row is taken twice."""
    found: dict[tuple[str, int], tuple[str, int]] = {}
    for build_key in ROUNDS:
        taken = set(found.values())
        free: dict[Any, list[tuple[str, int]]] = defaultdict(list)
        for row in reversed(present):  # the first of several equal rows is then taken first
            if row[:2] not in taken:
                free[build_key(row)].append(row[:2])
        for row in wanted:
            if row[:2] not in found and (rows := free.get(build_key(row))):
                found[row[:2]] = rows.pop()
        if len(found) == len(wanted):
            break
    return found


def _zip_keys(keys: RowKeys) -> Iterable[tuple[str, int]]:
    return zip(keys.ids, keys.texts.tolist(), strict=True)


def _gather_rows(dataset: Dataset, sources: list[tuple[str, int]]) -> Examples:
    """Return rows of several splits, given as (split, row), in the given order."""
    parts = list(dataset.splits.values())
    starts = dict(zip(dataset.splits, np.cumsum([0, *map(len, parts)]).tolist(), strict=False))
    return Examples.join(parts).take(np.array([starts[split] + row for split, row in sources], dtype=np.int64))
