"""Write the output of a scoring job from its parts, and the summary that is printed."""

import os
import shlex
from pathlib import Path

from emotion.data.reading.rows import format_bad_rows
from emotion.files import atomic_write, write_json
from emotion.inference.text_checks import ALL_FIT, describe_counts
from emotion.scoring.formats import escape_formulas, format_header, join_bytes, join_parts
from emotion.scoring.manifest import FINISHED, ScoringJob, describe_version
from emotion.scoring.parts import Tally, find_bad_rows
from emotion.text import format_count
from emotion.tracking.run_rows import describe_known


def write_output(job: ScoringJob, columns: list[str], parts: list[Path], tally: Tally) -> None:
    """Write quarantine and metrics, then the output with these columns from all parts, in order."""
    if tally.num_bad:
        with atomic_write(job.quarantine) as partial:
            join_bytes([find_bad_rows(part) for part in parts], format_bad_rows([], has_header=True).encode(), partial)
    else:
        job.quarantine.unlink(missing_ok=True)
    if tally.scores is not None:
        known = {"known_texts": tally.known_texts} if tally.num_trained else {}
        write_json(job.metrics, {"num_rows": tally.num_judged, **tally.scores, **known})
    else:
        job.metrics.unlink(missing_ok=True)
    with atomic_write(job.output) as partial:
        columns = escape_formulas(columns) if job.is_excel_safe else columns
        join_parts(parts, format_header(columns, job.output), job.output, partial)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        write_json(job.folder / FINISHED, {"output": describe_version(partial)})


def format_tally(tally: Tally, job: ScoringJob, seconds: float, is_stdout: bool = False) -> list[str]:
    """Return the lines of the summary of a scoring job: metrics if there are gold labels, then rows, speed and rows without a score.

    `is_stdout` means that the rows go to stdout, and the files of metrics and bad rows are not kept.
    """
    lines = []
    if tally.scores is not None:
        metrics = ", ".join(f"{name} {tally.scores[name]:.3f}" for name in ("macro_f1", "micro_f1", "subset_accuracy"))
        where = f"the join writes those of all rows to {job.metrics}" if job.shard else f"all metrics are in {job.metrics}"
        where = "--output FILE.csv writes all metrics" if is_stdout else where
        lines.append(f"against the gold labels of {format_count(tally.num_judged, 'row')}: {metrics}; {where}")
    if tally.num_non_finite:
        lines.append(f"{tally.num_non_finite:,} values are nan or infinity, which JSON and Excel do not have; they are written as null")
    known = describe_known(tally.known_texts, tally.num_scored)
    lines += [*([known] if known is not None else []), *describe_counts(tally.text_checks, tally.num_scored)]
    if tally.num_scored and not tally.num_cut + tally.num_split:
        lines.append(ALL_FIT)
    rows = f"{format_count(tally.num_rows, 'row')} in {seconds:.1f} s ({tally.num_rows / seconds:,.0f} rows/s)"
    lines.append(f"{'stdout' if is_stdout else job.title}: {rows}; {_describe_bad_rows(tally, job, is_stdout)}")
    if job.shard:
        command = shlex.join(["python", "evaluate.py", "--join", str(job.output)])
        lines.append(f"when all {job.shard.count} shards are complete: `{command}`")
    return lines


def _describe_bad_rows(tally: Tally, job: ScoringJob, is_stdout: bool) -> str:
    """Return how many rows could not be scored, and where their reasons are."""
    if not tally.num_rows:  # only a shard can be empty
        return f"the input has fewer parts of {job.part_rows:,} rows than shards; a smaller --part-rows makes more"
    if not tally.num_bad:
        return "every row was scored"
    if not tally.num_scored:
        where = f"{job.quarantine} has the reasons{' after the join' if job.shard else ''}"
        return f"no row could be scored; {'--output FILE.csv lists the reasons' if is_stdout else where}"
    where = f"listed in {job.quarantine}{' by the join' if job.shard else ''}"
    return f"{format_count(tally.num_bad, 'row')} could not be scored, {'--output FILE.csv lists the reasons' if is_stdout else where}"
