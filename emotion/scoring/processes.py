"""Several processes that score into one output: their locks, and how long they wait for one another."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from emotion.errors import ConfigError, StorageError
from emotion.locks import describe_holder, hold_lock, is_locked
from emotion.scoring.manifest import MANIFEST, ScoringJob, read_manifest, write_manifest

MAX_NAME_BYTES = 255
"""Longest name that file systems allow."""
WAIT_SECONDS = 0.2
"""Between two looks at a file that another process writes."""
MAX_START_SECONDS = 600
"""How long processes wait for the first one to start: it may be loading a large model."""
REPORT_SECONDS = 60
"""Between two messages on the processes that are waited for."""
MAX_SILENT_SECONDS = 3600
"""A running process that completes no part for this long is no longer waited for."""


def remove_left_over(job: ScoringJob) -> None:
    """Remove the parts that a killed process has left beside a complete output, if that is not to be replaced."""
    if not job.is_overwriting and job.is_left_over():
        shutil.rmtree(job.folder, ignore_errors=True)


@contextmanager
def enter_folder(job: ScoringJob, description: dict[str, Any]) -> Iterator[bool]:
    """Hold this process's place in the folder of the parts inside the block, and remove the folder when the output is complete.

    The first process creates the folder and its manifest; the others wait for it. False if it has written the output by then. The folder of
    a shard stays until `join_shards` removes it.

    Raises: ConfigError if the output exists and is not to be replaced, the parts belong to another job or the first process does not start;
    LockHeldError if another process has this place.
    """
    if (num_bytes := max(len(os.fsencode(path.name)) for path in (job.quarantine, job.folder))) > MAX_NAME_BYTES:
        spare = num_bytes - len(os.fsencode(job.output.name))
        most = MAX_NAME_BYTES - spare
        raise ConfigError(f"--output {job.output}: its name is too long; at most {most} bytes leave room for the files beside it")
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"--output {job.output}: cannot be written ({error.strerror}); choose another path") from None
    try:
        with hold_lock(job.lock, f"{job.title}: is being scored", "wait for it, or choose another --output"):
            is_open = True
            if job.process == 0:
                write_manifest(job, description)
            else:
                is_open = wait_for_manifest(job, description)
            yield is_open
    finally:
        # A late process may have created the folder again after the first had removed it; then there is no manifest.
        if job.shard is None and job.is_finished() and (job.process == 0 or not (job.folder / MANIFEST).is_file()):
            shutil.rmtree(job.folder, ignore_errors=True)


def wait_for_manifest(job: ScoringJob, description: dict[str, Any]) -> bool:
    """Wait until the first process has written the manifest of this job; return False if it has written the output by then.

    Raises: ConfigError if it does neither within `MAX_START_SECONDS`.
    """
    deadline = time.monotonic() + MAX_START_SECONDS
    while read_manifest(job.folder / MANIFEST) != description or job.is_left_over():
        if job.is_finished():
            return False
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{job.output}: process {job.process} of {job.num_processes} (from 0) has waited {MAX_START_SECONDS} s for process 0; "
                "start it too, with the same inputs, model and options"
            )
        time.sleep(WAIT_SECONDS)
    return True


class PartnerWatch:
    """Tells the first process which parts will not come from the other processes."""

    def __init__(self, job: ScoringJob, log: Callable[[str], Any]) -> None:
        self._job, self._log = job, log
        self._last_part = self._last_report = time.monotonic()

    def find_abandoned(self, missing: set[int], has_progress: bool) -> set[int]:
        """Return the parts of `missing` whose process does not run, or has been silent for `MAX_SILENT_SECONDS`.

        `has_progress` means that a part has been completed since the last call.
        """
        job, now = self._job, time.monotonic()
        if has_progress:
            self._last_part = now
        if now - self._last_part > MAX_SILENT_SECONDS:
            return missing
        owners = {number: number % job.num_processes for number in missing}
        running = {owner for owner in owners.values() if owner != job.process and is_locked(job.find_lock(owner))}
        if running and now - self._last_report > REPORT_SECONDS:
            self._last_report = now
            names = [f"{owner} ({describe_holder(job.find_lock(owner))})" for owner in sorted(running)]
            self._log(f"{job.output}: waiting for the parts of process {', '.join(names)} of {job.num_processes} (from 0)")
        return {number for number, owner in owners.items() if owner not in running}
