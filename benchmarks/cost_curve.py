"""What training costs as rows grow: seconds of an epoch, memory, and the time that goes into nothing of use.

    python -m benchmarks.cost_curve --texts FILE --output cost_curve.json [--rows 5000 10000 20000 43000]

One epoch of this project's loop on the first different texts of the file, each number of them in a process of its own, as in
`benchmarks.training_speed`; the first windows, which are not timed, are taken to be as fast as the others. A line through the origin
is fitted to the seconds; how far each lies off it stands in the table.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.training_speed import OURS, run_alone, share_time
from emotion.errors import exit_on_error
from emotion.files import write_json

MAX_LENGTH = 64
"""Tokens kept of a text, as `configs/minilm.yaml` has it: the longest one decides on the memory, and more rows have a longer one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", required=True, help="a file with a column text, or with texts first, such as GoEmotions' train.tsv")
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 10_000, 20_000, 43_000])
    parser.add_argument("--output", default="cost_curve.json", help="where the figures go as JSON")
    arguments = parser.parse_args()
    rows = []
    for number in arguments.rows:
        figures = run_alone(OURS, "--texts", arguments.texts, "--rows", str(number), "--max-length", str(MAX_LENGTH))
        number = figures["texts"]  # the file may hold fewer
        row = {name: figures[name] for name in ("rate", "peak_memory")} | {"outside": share_time(figures["parts"])["outside"]}
        rows.append({"rows": number, "seconds": number / figures["rate"], **row})
        print(f"{number:,} rows: {rows[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    counts, seconds = (np.array([row[key] for row in rows], dtype=float) for key in ("rows", "seconds"))
    slope = float(counts @ seconds / (counts @ counts))
    write_json(Path(arguments.output), {"seconds_per_row": slope, "rows": rows})
    print("| rows | seconds | off the line | examples/s | peak memory | outside forward, backward, clipping and optimizer |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        off = row["seconds"] / (slope * row["rows"]) - 1
        memory = row["peak_memory"] / 2**30
        print(f"| {row['rows']:,} | {row['seconds']:.0f} | {off:+.1%} | {row['rate']:.0f} | {memory:.2f} GiB | {row['outside']:.1%} |")
    return 0


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
