"""Attack the scripts with hostile and unlucky input: how often do they hold, in each group?

    python -m benchmarks.hostile --output after.json [--code FOLDER] [--groups edges,parquet] [--seed 0] [--before before.json]

A trial holds if the right value comes out, or one line on stderr that begins with `error:` and status 2. It breaks with a traceback, with a
value that is changed or lost, with a script that does not end, or with memory that grows with the input. `--code` is the checkout whose
scripts are attacked, such as a git worktree of an earlier commit; they run in this interpreter, without a network, on a tiny model of their
own training. `--before` joins the results of an earlier commit into one table.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.attacks import edges, escapes, models, processes, reading, runs, values
from benchmarks.attacks.scripts import BrokeError, Target
from emotion.errors import ConfigError, exit_on_error
from emotion.files import write_json
from tests.conftest import ROOT, SESSION_FOLDER

GROUPS = {
    "code": ("code in a model folder", models.attack_code),
    "processes": ("several processes score one file", processes.attack_processes),
    "parts": ("damaged parts of a killed scoring job", processes.attack_parts),
    "cells": ("control characters in cells", reading.attack_cells),
    "stale": ("parts of another input or model", processes.attack_stale_parts),
    "reader": ("time and memory of reading", reading.attack_reader),
    "locks": ("two processes on one run or output", runs.attack_locks),
    "labels": ("label names as text", runs.attack_labels),
    "states": ("damaged files of a run to resume", runs.attack_states),
    "parquet": ("parquet", values.attack_parquet),
    "escapes": ("terminal escapes", escapes.attack_escapes),
    "sidecar": ("files of a model folder", models.attack_sidecar),
    "edges": ("streams, file names, file systems", edges.attack_edges),
    "values": ("values of other columns", values.attack_values),
    "secrets": ("secrets on the command line", edges.attack_secrets),
    "permissions": ("permissions of files", runs.attack_permissions),
    "signals": ("signals", edges.attack_signals),
    "formulas": ("formulas in csv cells", reading.attack_formulas),
}
"""By short name: the group's name in the table, and the function that yields its trials."""
NUM_GROUPS_AT_ONCE = 2


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with Ctrl-C ignored, and scripts inherit that
    tmp_dir = Path(tempfile.mkdtemp(prefix="hostile-"))
    os.environ[SESSION_FOLDER] = str(tmp_dir)
    try:
        target = Target(Path(arguments.code), tmp_dir)
        with ThreadPoolExecutor(NUM_GROUPS_AT_ONCE) as pool:
            found = list(pool.map(lambda name: run_group(name, target, tmp_dir / name, arguments.seed), arguments.groups))
    finally:
        shutil.rmtree(tmp_dir, ignore_errors=True)
    results = {"code": str(target.code), "seed": arguments.seed, "groups": dict(zip(arguments.groups, found, strict=True))}
    if arguments.output:
        write_json(Path(arguments.output), results)
    before = json.loads(Path(arguments.before).read_text(encoding="utf-8")) if arguments.before else None
    print(format_table(results, before))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--code", default=str(ROOT), metavar="FOLDER", help="checkout to attack (default: this one)")
    parser.add_argument("--groups", default=",".join(GROUPS), metavar="A,B", help=f"groups to run, of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    parser.add_argument("--output", metavar="FILE", help="JSON file for the results")
    parser.add_argument("--before", metavar="FILE", help="results of earlier code, for a table of both")
    arguments = parser.parse_args()
    arguments.groups = arguments.groups.split(",")
    if unknown := [name for name in arguments.groups if name not in GROUPS]:
        raise ConfigError(f"--groups: unknown group {unknown[0]!r}; allowed are {', '.join(GROUPS)}")
    if not (Path(arguments.code) / "infer.py").is_file():
        raise ConfigError(f"--code {arguments.code}: is not a checkout of this project (no infer.py)")
    return arguments


def run_group(group: str, target: Target, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Run the trials of a group, and return name, seconds and, if it broke, the reason for each."""
    folder.mkdir()
    results: list[dict[str, Any]] = []
    for number, (name, attack) in enumerate(GROUPS[group][1](target, folder)):
        tmp_dir = folder / str(number)
        tmp_dir.mkdir()
        started, reason = time.monotonic(), None
        try:
            attack(tmp_dir, random.Random(f"{seed} {group} {name}"))
        except BrokeError as error:
            reason = str(error)
        except Exception as error:  # such as an output that is not there, or cannot be parsed
            reason = f"{type(error).__name__}: {error}"
        shutil.rmtree(tmp_dir, ignore_errors=True)
        results.append({"trial": name, "broke": reason, "seconds": round(time.monotonic() - started, 2)})
        with PRINTING:
            print(ascii(f"{group}: {name}: {'held' if reason is None else 'broke: ' + reason}")[1:-1], file=sys.stderr, flush=True)
    return results


PRINTING = threading.Lock()


def format_table(results: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return the results by group as a Markdown table, beside those of earlier code if they are given."""
    sides = [before, results] if before else [results]
    lines = ["| group | tried | " + " | ".join(["held before", "held after"] if before else ["held"]) + " |"]
    lines.append("|---" * (2 + len(sides)) + "|")
    totals = [0] * (1 + len(sides))
    for group, trials in results["groups"].items():
        names = {trial["trial"] for trial in trials}
        counts = [len(names)]
        for side in sides:
            earlier = {trial["trial"]: trial["broke"] for trial in side["groups"].get(group, [])}
            counts.append(sum(name in earlier and earlier[name] is None for name in names))
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        lines.append(f"| {GROUPS[group][0]} | {' | '.join(map(str, counts))} |")
    return "\n".join([*lines, f"| all | {' | '.join(map(str, totals))} |"])


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
