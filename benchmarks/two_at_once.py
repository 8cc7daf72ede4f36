"""Start the same command twice at once, many times: does one work, does the other say so, and is the result whole?

    python -m benchmarks.two_at_once --trials 50 --output two_at_once.json

Trainers resume one run of a tiny random model, scorers write one output. In every second trial the process that works is killed by SIGKILL
at a random moment and the command repeated: its lock must not be in the way. The result must be, bit by bit, that of a single command.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from emotion.files import write_json
from tests.conftest import SAMPLE, SESSION_FOLDER, Script, make_backbone, start_script
from tests.runs import assert_same_run, train_arguments, wait_until

REFUSALS = re.compile(r"^error: .*(is being written by|is being scored by|is finished, so there is nothing|exists already)", re.M)
"""What the second process may say; the last two if it starts after the first has ended."""
SETTINGS = ["training.epochs=1", "training.save_every_steps=2", "data.train_fraction=0.3", "tracking.backend=none", "--resume"]
MAX_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=50, help="trials of two trainers, and of two scorers (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills (default: 0)")
    parser.add_argument("--output", metavar="FILE", help="JSON file for the results")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[SESSION_FOLDER] = name  # of the server that forks the scripts
        (folder / "backbone").mkdir()
        make_backbone("bert", folder / "backbone")
        run_alone(train_arguments(folder / "backbone", folder, "whole", *SETTINGS))
        run_alone(score_arguments(folder, "whole.csv"))
        for task, trial in (("trainers", try_trainers), ("scorers", try_scorers)):
            generator = np.random.default_rng(arguments.seed)
            findings = [trial(folder, generator.uniform(0, 3) if number % 2 else None) for number in range(arguments.trials)]
            row = {"task": task, "trials": len(findings), "held": findings.count("held"), "killed": arguments.trials // 2}
            rows.append(row | {"failures": [finding for finding in findings if finding != "held"]})
            print(f"{task}: {row['held']} of {row['trials']} held, the working process killed in {row['killed']}", flush=True)
            print("\n".join(rows[-1]["failures"]), file=sys.stderr)
    if arguments.output:
        write_json(Path(arguments.output), {"seed": arguments.seed, "rows": rows})
    return int(any(row["failures"] for row in rows))


def try_trainers(folder: Path, kill_after: float | None) -> str:
    """Let two processes resume one run, and return `held` or what was wrong."""
    command, run = train_arguments(folder / "backbone", folder, "twice", *SETTINGS), folder / "twice"
    shutil.rmtree(run, ignore_errors=True)
    finding = run_twice(command, run / ".lock", kill_after)
    with suppress(AssertionError):
        assert_same_run(folder / "whole", run)
        return finding
    return f"{finding}; the run is not that of one process"


def try_scorers(folder: Path, kill_after: float | None) -> str:
    """Let two processes score one file, and return `held` or what was wrong."""
    output = folder / "twice.csv"
    output.unlink(missing_ok=True)
    parts = output.with_name(".twice.csv.parts")
    finding = run_twice(score_arguments(folder, "twice.csv"), parts / "process-0.lock", kill_after)
    is_same = output.is_file() and output.read_bytes() == (folder / "whole.csv").read_bytes()
    return finding if is_same and not parts.exists() else f"{finding}; the output is not that of one process"


def run_twice(command: list[str], lock: Path, kill_after: float | None) -> str:
    """Run a command in two processes at once; return `held` if one works and the other says so. Kill the first one where asked for."""
    scripts = [start_script(*command, warm=True) for _ in range(2)]
    if kill_after is not None:
        wait_until(scripts[0], lambda: read_holder(lock) in [script.pid for script in scripts])
        deadline = time.monotonic() + kill_after
        wait_until(scripts[0], lambda: time.monotonic() > deadline)
        for script in scripts:
            if script.pid == read_holder(lock):
                script.send_signal(signal.SIGKILL)
    findings, allowed = [describe(script) for script in scripts], [["refused", "worked"]]
    if "killed" in findings:
        allowed = [
            ["killed", "refused", "worked"],
            ["killed", "worked"],
            ["killed", "refused", "refused"],
        ]  # the last: when all was written
        if "worked" not in findings:
            findings.append(describe(start_script(*command, warm=True)))
    return "held" if sorted(findings) in allowed else f"{command[0]}: {', '.join(findings)}"


def describe(script: Script) -> str:
    """Return how a script ended: `worked`, `refused` by the lock, `killed`, or its last words."""
    status = script.wait(MAX_SECONDS)
    error = script.outputs[1].read_text()
    if status == 2 and REFUSALS.search(error) and "Traceback" not in error:
        return "refused"
    return {0: "worked", -signal.SIGKILL: "killed"}.get(status, f"status {status}: {error.strip()[-300:]}")


def read_holder(lock: Path) -> int | None:
    """Return the process that wrote its name into a lock file."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads(lock.read_text())["process"])
    return None


def score_arguments(folder: Path, name: str) -> list[str]:
    options = ["--input", str(SAMPLE / "train.csv"), "--output", str(folder / name), "--part-rows", "50"]
    return ["evaluate.py", "--model", str(folder / "whole"), *options]


def run_alone(command: list[str]) -> None:
    """Run a command by itself. Raises: SystemExit with its last words if it fails."""
    if (finding := describe(start_script(*command, warm=True))) != "worked":
        raise SystemExit(f"{' '.join(command)}: {finding}")


if __name__ == "__main__":
    sys.exit(main())
