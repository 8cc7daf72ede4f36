"""Cost of training by number of rows: seconds of an epoch, memory, and time outside the forward, backward and optimizer steps.

    python -m benchmarks.cost_curve --texts FILE --output cost_curve.json [--rows 5000 10000 20000 43000]

Each number of rows is one epoch of this project's loop on the first different texts of the file, in a process of its own, as in
`benchmarks.training_speed`. The first batches are not timed and are assumed to be as fast as the others. A line through the origin is
fitted to the seconds; the table has the deviation of each number of rows from it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.training_speed import OURS, compute_time_fractions, run_contender
from emotion.errors import exit_on_error
from emotion.files import write_json

MAX_LENGTH = 64
"""Tokens kept of a text, as in `configs/minilm.yaml`. Without a limit, memory would grow with the longest text, and so with the rows."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", required=True, help="file with a column `text`, or with the texts in its first column")
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 10_000, 20_000, 43_000], help="numbers of rows")
    parser.add_argument("--output", default="cost_curve.json", help="JSON file for the results (default: cost_curve.json)")
    arguments = parser.parse_args()
    rows = []
    for max_rows in arguments.rows:
        result = run_contender(OURS, "--texts", arguments.texts, "--rows", str(max_rows), "--max-length", str(MAX_LENGTH))
        num_rows = result["texts"]  # the file may contain fewer
        row = {name: result[name] for name in ("rate", "peak_memory")} | {"outside": compute_time_fractions(result["parts"])["outside"]}
        rows.append({"rows": num_rows, "seconds": num_rows / result["rate"], **row})
        print(f"{num_rows:,} rows: {rows[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    counts, seconds = (np.array([row[key] for row in rows], dtype=float) for key in ("rows", "seconds"))
    slope = float(counts @ seconds / (counts @ counts))
    write_json(Path(arguments.output), {"seconds_per_row": slope, "rows": rows})
    print("| rows | seconds | deviation from the line | examples/s | peak memory | outside forward, backward, clipping and optimizer |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        deviation = row["seconds"] / (slope * row["rows"]) - 1
        memory = row["peak_memory"] / 2**30
        print(
            f"| {row['rows']:,} | {row['seconds']:.0f} | {deviation:+.1%} | {row['rate']:.0f} | {memory:.2f} GiB | {row['outside']:.1%} |"
        )
    return 0


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
