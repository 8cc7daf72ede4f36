"""Shards of a scoring job: I of N processes that share nothing while they run, such as the tasks of an array job.

The parts of the input are dealt out in turn: shard I of N scores the parts whose number, from 0, is I - 1 modulo N. This needs no count of
the rows before they are scored, in any format, and is the same on every machine.
"""

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from emotion.data.reading.rows import BadRow, Row
from emotion.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Shard `number`, from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that `--shard` names.

        Raises: ConfigError unless it is I/N with I from 1 to N.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--shard {text}: must be I/N with I from 1 to N, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def suffix(self) -> str:
        """What is added to the name of the output in the name of the shard's folder."""
        return f".shard-{self.number}-of-{self.count}"

    def has_part(self, number: int) -> bool:
        """Return whether a part of the input, numbered from 0, belongs to this shard."""
        return number % self.count == self.number - 1


class RowDigest:
    """A SHA-256 of all rows of the inputs, which tells whether two shards read the same rows, wherever their files are."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def follow(self, entries: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the entries, and add each to the digest."""
        for entry in entries:
            content: Any = entry.values if isinstance(entry, Row) else (entry.reason, entry.content)
            self._digest.update(repr((entry.line, content)).encode("utf-8", "backslashreplace"))
            yield entry

    def compute(self) -> str:
        """Return the digest of the entries so far."""
        return self._digest.hexdigest()


def describe_command(words: list[str]) -> str:
    """Return the command of evaluate.py with these words, without `--shard`."""
    return re.sub(r" --sh(a|ar|ard)?[ =]\S+", "", shlex.join(["python", "evaluate.py", *words]))
