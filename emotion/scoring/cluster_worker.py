"""What a worker of a cluster does with a part: read, score, write the rows, and last the marker that they are complete."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from emotion import errors
from emotion.errors import EmotionError, StorageError
from emotion.scoring.batch import BatchScorer
from emotion.scoring.cluster_parts import BAD, NUM_READERS, TEXT, FilePart, describe_bad_row, format_table, read_part
from emotion.scoring.remote_files import Folder
from emotion.text import describe_error

MARKERS = "_parts"
"""Folder of the markers below the output: counts, bad rows and size of each part."""


def name_marker(part: FilePart) -> str:
    """Return the name of the marker of a part, below the output."""
    return f"{MARKERS}/{part.output.removesuffix('.parquet')}.json"


def read_markers(parts: list[FilePart], folder: Folder) -> list[dict[str, Any] | None]:
    """Return the marker of each part, None for a part that is not complete or has not the size that was written."""
    sizes = folder.list_sizes()

    def read(part: FilePart) -> dict[str, Any] | None:
        marker = folder.read_json(name_marker(part)) if part.output in sizes else None
        return marker if marker is not None and marker["num_bytes"] == sizes[part.output] else None

    with ThreadPoolExecutor(NUM_READERS) as pool:
        return list(pool.map(read, parts))


class PartWorker:
    """Scores parts into the output folder; it can be pickled, and loads the model with the first part."""

    def __init__(self, scorer: BatchScorer, output: str) -> None:
        self.scorer, self.output = scorer, output

    def __call__(self, batch: Any) -> Any:
        """Return an Arrow table with the number of rows of each part that was written, or the type and the message of an error.

        `batch` is an Arrow table of parts. An `EmotionError` is returned, not raised: an engine would wrap it, and try the part again.
        """
        import pyarrow as pa

        rows = [self._run(FilePart(**values)) for values in batch.to_pylist()]
        schema = pa.schema({"num_rows": pa.int64(), "error": pa.string(), "message": pa.string()})
        return pa.Table.from_pylist(rows, schema)

    def _run(self, part: FilePart) -> dict[str, Any]:
        try:
            self.write(part)
        except EmotionError as error:
            return {"num_rows": 0, "error": type(error).__name__, "message": str(error)}
        except OSError as error:
            return {"num_rows": 0, "error": StorageError.__name__, "message": f"{self.output}: cannot be written ({describe_error(error)})"}
        return {"num_rows": part.num_rows, "error": None, "message": None}

    def write(self, part: FilePart) -> None:
        """Write the scored rows of a part, unless an earlier try has."""
        folder = Folder(self.output)
        if read_markers([part], folder) != [None]:
            return
        table = read_part(part)
        scored, faults, tally = self.scorer.score(table)
        bad_rows = [describe_bad_row(part, table, row, reason) for row, reason in faults.items()]
        content = format_table(scored.drop_columns([name for name in (TEXT, BAD) if name in table.column_names]))
        folder.write(part.output, content)
        marker = {"tally": asdict(tally), "num_bytes": len(content), "bad_rows": [list(vars(row).values()) for row in bad_rows]}
        folder.write_json(name_marker(part), {"input": asdict(part), **marker})


def raise_error(row: dict[str, Any]) -> None:
    """Raise the error that a row of `PartWorker` describes, if it does."""
    if row["error"] is not None:
        raise getattr(errors, row["error"], EmotionError)(row["message"])
