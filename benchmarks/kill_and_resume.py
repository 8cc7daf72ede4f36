"""Kill runs at random moments and resume them until they end: is what comes out the run that was never touched, bit by bit?

    python -m benchmarks.kill_and_resume --kills 200 --output kill_and_resume.json

Tiny random models on the CPU: full fine-tuning (dropout drawn), LoRA, and LoRA on NF4, each in one process and in two.
A start is a fork of a process that has the imports done; SIGKILL is a real one, at a moment drawn uniformly over most of what
an uninterrupted run takes, loading included; for every fourth the next save is waited for. On two processes one is killed and up
to 50 ms later the other, as a launcher would.
Compared are the saved weights, the decision rule, every validation probability and every logged row but its times.
"""

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotion.files import write_json
from emotion.tracking.run_folder import RunFolder
from emotion.training.state import list_states
from tests import warm
from tests.conftest import ROOT, make_backbone
from tests.test_resume import assert_same

SHARE = 0.6
"""Kills fall into this share of an uninterrupted run's time: most do not let it end, some come before its first state."""
MOST_SECONDS = 300
HALF = "training.per_device_batch_size=16"
WAYS: dict[str, tuple[str, list[str], int]] = {
    "full": ("bert", [], 1),
    "LoRA": ("bert", ["lora.r=4"], 1),
    "NF4 + LoRA": ("mistral", ["lora.r=4", "model.quantization=nf4"], 1),
    "full, two processes": ("bert", [HALF], 2),
    "LoRA, two processes": ("bert", ["lora.r=4", HALF], 2),
    "NF4 + LoRA, two processes": ("mistral", ["lora.r=4", "model.quantization=nf4", HALF], 2),
}
"""Backbone, settings and number of processes."""
SETTINGS = ["training.per_device_batch_size=32", "training.epochs=2", "training.save_every_steps=2", "training.log_every=5"]
SETTINGS += ["data.train_fraction=0.5"]


@dataclass
class Tally:
    """What came of one way's kills."""

    way: str
    whole_seconds: float = 0.0
    """Of the uninterrupted run."""
    kills: int = 0
    before_first_state: int = 0
    while_saving: int = 0
    runs: int = 0
    """Runs that were killed at least once, resumed to their end and compared."""
    identical: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kills in all, shared among the ways (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--output", metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tallies = []
    place = Path(tempfile.mkdtemp(prefix="kills-"))  # a TemporaryDirectory would be removed by the first fork that leaves
    try:
        for number, way in enumerate(WAYS):
            num_kills = arguments.kills // len(WAYS) + (number < arguments.kills % len(WAYS))
            tallies.append(torment(way, num_kills, np.random.default_rng([arguments.seed, number]), place))
            print(format_row(tallies[-1]) if number else f"{HEADER}\n{format_row(tallies[-1])}", flush=True)
    finally:
        shutil.rmtree(place)
    for message in (message for tally in tallies for message in tally.failures):
        print(message, file=sys.stderr)
    if arguments.output:
        write_json(Path(arguments.output), {"seed": arguments.seed, "torch": torch.__version__, "ways": [asdict(row) for row in tallies]})
    return int(any(tally.identical < tally.runs or tally.failures for tally in tallies))


def torment(way: str, num_kills: int, generator: np.random.Generator, place: Path) -> Tally:
    """Kill and resume runs of a way until there are `num_kills` kills, and compare every one with the uninterrupted run."""
    started = time.monotonic()
    tally = Tally(way)
    whole = place / "whole"
    seconds = tally.whole_seconds = run_whole(way, whole, place)
    while tally.kills < num_kills and not tally.failures:
        folder, is_ended, num_before = place / "cut", False, tally.kills
        while not is_ended and not tally.failures:
            moment = generator.uniform(0, SHARE * seconds) if tally.kills < num_kills else MOST_SECONDS
            is_ended = run_once(way, folder, place, moment, generator, tally)
        if is_ended and tally.kills > num_before:
            tally.runs += 1
            try:
                assert_same(whole, folder)
                tally.identical += 1
            except AssertionError as error:
                tally.failures.append(f"{way}: run {tally.runs} differs: {str(error)[:300]}")
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(whole)
    tally.seconds = time.monotonic() - started
    return tally


def run_whole(way: str, folder: Path, place: Path) -> float:
    """Make the uninterrupted run and return the seconds it takes."""
    make_backbone_once(WAYS[way][0], place)
    started = time.monotonic()
    statuses = wait(start(way, folder, place), MOST_SECONDS)
    if any(statuses):
        raise SystemExit(f"{way}: the uninterrupted run ended with {statuses}: {read_log(place)}")
    return time.monotonic() - started


def run_once(way: str, folder: Path, place: Path, moment: float, generator: np.random.Generator, tally: Tally) -> bool:
    """Start or resume a run and kill it after `moment` seconds; return whether it came to its end."""
    states = folder / "state"
    old = list_partial(states)
    processes = start(way, folder, place)
    statuses = wait(processes, moment)
    if moment < MOST_SECONDS and generator.random() < 0.25:
        statuses = wait(processes, MOST_SECONDS, lambda: bool(list_partial(states) - old), statuses)
    if any(status is None for status in statuses):
        for process in generator.permutation([pid for pid, status in zip(processes, statuses, strict=True) if status is None]):
            os.kill(int(process), signal.SIGKILL)
            time.sleep(generator.uniform(0, 0.05) if len(processes) > 1 else 0)
        statuses = [
            status if status is not None else os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            for process, status in zip(processes, statuses, strict=True)
        ]
    if not any(statuses):
        return True
    if -signal.SIGKILL not in statuses:
        tally.failures.append(f"{way}: ended by itself with {statuses}: {read_log(place)}")
        return False
    tally.kills += 1
    tally.before_first_state += not list_states(states)
    tally.while_saving += bool(list_partial(states) - old)
    return RunFolder(folder).is_finished  # killed between its last file and its own end


def list_partial(states: Path) -> set[tuple[str, int]]:
    """Return the states that are being written, or were when their run was killed: name and number of the folder on its device."""
    found = set()
    for path in states.glob(".step-*.partial"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def start(way: str, folder: Path, place: Path) -> list[int]:
    """Fork the processes of a run that goes on from its newest state, if there is one, and return their numbers."""
    kind, settings, num_processes = WAYS[way]
    given = [*SETTINGS, *settings, f"model.backbone={place / kind}", f"run.folder={folder.parent}", f"run.name={folder.name}"]
    words = ["train.py", "--config", "configs/quickstart.yaml", "--resume", *given]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1"}
    if num_processes > 1:
        environment |= {"WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_port())}
    processes = []
    for rank in range(num_processes):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_processes > 1 else {}
        logs = [place / f"{name}-{rank}" for name in ("out", "err")]
        for log in logs:
            log.write_bytes(b"")
        request = {"words": words, "folder": str(ROOT), "environment": environment | ranks, "files": [os.devnull, *map(str, logs)]}
        processes.append(fork(warm.finish, request))
    return processes


def fork(work: Any, *arguments: Any) -> int:
    """Run `work` in a fork of this process and return its number."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        work(*arguments)
        os._exit(0)
    return process


def wait(
    processes: list[int], seconds: float, is_time: Callable[[], bool] = lambda: False, known: list[int | None] | None = None
) -> list[int | None]:
    """Return the exit statuses after `seconds`, when it is time, or as soon as all have ended; None for what still runs."""
    statuses: list[int | None] = list(known or [None] * len(processes))
    deadline = time.monotonic() + seconds
    while None in statuses and time.monotonic() < deadline and not is_time():
        for number, process in enumerate(processes):
            if statuses[number] is None and (ended := os.waitpid(process, os.WNOHANG))[0]:
                statuses[number] = os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.001)
    return statuses


def make_backbone_once(kind: str, place: Path) -> None:
    """Write a backbone, in a process of its own: its tokenizer is trained by threads, which a process that forks must not have."""
    if not (place / kind).is_dir():
        (place / kind).mkdir()
        os.waitpid(fork(make_backbone, kind, place / kind), 0)


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def read_log(place: Path) -> str:
    return " | ".join(line for path in sorted(place.glob("err-*")) for line in path.read_text().splitlines()[-2:])


HEADER = (
    "| form | kills | before the first state | while saving | runs resumed to the end | of them identical | seconds |\n" + "|---" * 7 + "|"
)


def format_row(tally: Tally) -> str:
    cells = [tally.way, tally.kills, tally.before_first_state, tally.while_saving, tally.runs, tally.identical, round(tally.seconds)]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
