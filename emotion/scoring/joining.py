"""Complete a shard, and join the shards of a scoring job into its output: byte for byte what one process writes.

A join needs neither the model nor the inputs. Each shard is a folder beside the output with its parts and their manifest.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emotion.config import DataConfig
from emotion.errors import ConfigError, StorageError
from emotion.files import write_json
from emotion.locks import LockHeldError, describe_holder, hold_lock, is_locked
from emotion.scoring.manifest import FINISHED, MANIFEST, ScoringJob, describe_version, read_manifest
from emotion.scoring.output import write_output
from emotion.scoring.parts import Tally, find_part, read_marker
from emotion.scoring.shards import Shard

SHARD, COMMAND = "shard.json", "command.json"
"""Files of a shard's folder: what the join needs, written when the shard is complete; and the command that scores it."""
OWN_KEYS = ("shard", "inputs", "versions of the inputs")
"""Values of a manifest that may differ between shards; that the inputs hold the same rows is compared in any case."""

Folders = dict[Shard, Path]


def begin_shard(job: ScoringJob) -> None:
    """Mark the shard as not complete, and write down the command that scores it."""
    (job.folder / SHARD).unlink(missing_ok=True)
    write_json(job.folder / COMMAND, {"command": job.command})


def finish_shard(job: ScoringJob, columns: list[str], parts: list[Path], row_digest: str) -> Tally:
    """Mark the shard as complete, and return its counts; `parts` are the paths of the parts of all shards.

    Raises: StorageError for a part that is damaged although it has just been written.
    """
    total = Tally()
    for part in filter(None, (path if job.is_own(number) else None for number, path in enumerate(parts))):
        if (tally := read_marker(part)) is None:
            raise StorageError(f"{part}: does not hold what was written to it; check the disk, then repeat the command")
        total.add(tally)
    write_json(job.folder / SHARD, {"number of parts": len(parts), "rows of the inputs": row_digest, "output columns": columns})
    return total


def join_shards(output: Path, is_overwriting: bool = False) -> tuple[Tally, ScoringJob] | None:
    """Write the output from its shards, remove them, and return the counts and the job; None if this was done before.

    Raises: ConfigError if shards are missing, not complete or of different jobs, or if the output exists and is not to be replaced;
    LockHeldError if a process scores or joins them; StorageError for a part that is damaged.
    """
    folders = find_shards(output)
    is_joined = is_named_output(output, folders.values())
    if not is_joined:
        check_complete(output, folders)
        first, *others = sorted(folders, key=lambda shard: shard.number)
        job = ScoringJob((), output, DataConfig(), is_overwriting=is_overwriting, shard=first)
        job.check_output()
        with hold_lock(job.folder / "join.lock", f"{output}: is being joined", "wait for it"):
            described = describe_shard(job.folder)
            for shard in others:
                check_same(output, first, described, shard, describe_shard(folders[shard]))
            parts, tally = collect_parts(folders, described["number of parts"])
            job = ScoringJob((), output, DataConfig(), is_excel_safe=described["Excel-safe"], shard=first)
            write_output(job, described["output columns"], parts, tally)
    for folder in sorted(folders.values(), key=lambda folder: (folder / FINISHED).exists()):  # the one that says so goes last
        shutil.rmtree(folder, ignore_errors=True)
    return None if is_joined else (tally, job)


def find_shards(output: Path) -> Folders:
    """Return the folders of the shards of an output.

    Raises: ConfigError if there are none, or if the job was divided more than once.
    """
    pattern = re.compile(re.escape(output.name) + r"\.shard-(\d+)-of-(\d+)")
    names = {path: pattern.fullmatch(path.name) for path in (output.parent.iterdir() if output.parent.is_dir() else ())}
    folders = {Shard(int(match[1]), int(match[2])): path for path, match in names.items() if match is not None and path.is_dir()}
    counts = sorted({shard.count for shard in folders})
    if not counts:
        raise ConfigError(f"--join {output}: has no shards, the folders {output.name}.shard-I-of-N beside it; score them with --shard I/N")
    if len(counts) > 1:
        found = " and ".join(f"{count} ({output.name}.shard-*-of-{count})" for count in counts)
        raise ConfigError(f"--join {output}: has shards of divisions by {found}; remove the folders of all but one")
    return folders


def is_named_output(output: Path, folders: Iterable[Path]) -> bool:
    """Return whether the output was written from these shards, by a join that was killed before it had removed them."""
    return output.exists() and any(read_manifest(folder / FINISHED) == {"output": describe_version(output)} for folder in folders)


def check_complete(output: Path, folders: Folders) -> None:
    """Raise a ConfigError with the shards that are not complete and the command that scores the first; LockHeldError if all of them run."""
    count = next(iter(folders)).count
    missing = [shard for number in range(1, count + 1) if not (folders.get(shard := Shard(number, count), output) / SHARD).is_file()]
    locks = {shard: folders[shard] / "process-0.lock" for shard in missing if shard in folders}
    running = [shard for shard, lock in locks.items() if is_locked(lock)]
    if idle := [shard for shard in missing if shard not in running]:
        names = f"shard {idle[0]} is" if len(idle) == 1 else f"shards {', '.join(map(str, idle))} are"
        which = "it" if len(idle) == 1 else "the first"
        raise ConfigError(f"--join {output}: {names} missing or not complete; score {which} with `{find_command(folders, idle[0])}`")
    if running:
        raise LockHeldError(f"{output}: shard {running[0]} is being scored by {describe_holder(locks[running[0]])}; wait for it")


def describe_shard(folder: Path) -> dict[str, Any]:
    """Return what a shard depends on and what the join needs of it, both as JSON values.

    Raises: ConfigError if a file that has it is missing or damaged.
    """
    values: dict[str, Any] = {}
    for name in (MANIFEST, SHARD):
        if (described := read_manifest(folder / name)) is None:
            raise ConfigError(f"{folder / name}: is missing or damaged; remove {folder}, and score the shard again")
        values |= described
    return values


def check_same(output: Path, first: Shard, expected: dict[str, Any], shard: Shard, found: dict[str, Any]) -> None:
    """Raise a ConfigError if two shards are not of the same model, rule, rows, options or version."""
    keys = [key for key in {**expected, **found} if key not in OWN_KEYS and expected.get(key) != found.get(key)]
    if keys:
        changes = "; ".join(f"{key}: {expected.get(key)} -> {found.get(key)}" for key in keys)
        raise ConfigError(
            f"--join {output}: shards {first} and {shard} are of different jobs ({changes}): remove the folder of the wrong one "
            "and score it again with the model, inputs, options and version of the others"
        )


def collect_parts(folders: Folders, num_parts: int) -> tuple[list[Path], Tally]:
    """Return the parts of all shards, in order, and the sum of their counts.

    Raises: StorageError for a part that is missing or is not what was written.
    """
    parts, total = [], Tally()
    for number in range(num_parts):
        shard = next(shard for shard in folders if shard.has_part(number))
        parts.append(find_part(folders[shard], number))
        if (tally := read_marker(parts[-1])) is None:
            raise StorageError(f"{parts[-1]}: is missing or damaged; score it again with `{find_command(folders, shard)}`")
        total.add(tally)
    return parts, total


def find_command(folders: Folders, shard: Shard) -> str:
    """Return the command that scores a shard, as another shard was scored."""
    found = [read_manifest(folder / COMMAND) or {} for folder in folders.values()]
    commands = [str(values["command"]) for values in found if values.get("command")]
    return f"{(commands or ['python evaluate.py ...'])[0]} --shard {shard}"
