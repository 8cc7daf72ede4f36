"""The resumable state of a run, its only reader and writer: safetensors and JSON, checksummed, written atomically.

A state is captured between two steps. Together with config and data it determines the rest of the run bit by bit: the sampler is a pure
function of (seed, epoch), so the number of steps tells which batch comes next.
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from emotion.config import TrainingConfig
from emotion.cpu.fast_path import flush_stored_updates
from emotion.distributed.collectives import print_on_main
from emotion.distributed.sharding import gather, shard_like
from emotion.errors import ConfigError, TrainingError
from emotion.files import atomic_write, compute_checksum, restore_name, write_json
from emotion.inference.sidecar import SIDECAR
from emotion.tracking.history import check_position
from emotion.tracking.run_folder import RunFolder
from emotion.training.fingerprint import check_unchanged

PREFIX = "step-"
PROGRESS, WEIGHTS, OPTIMIZER, RANDOM, BEST = (
    "progress.json",
    "weights.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "best.safetensors",
)
CHECKSUMS = "checksums.json"
FILES = {PROGRESS, WEIGHTS, OPTIMIZER, RANDOM}
"""Files that every state has, beside `CHECKSUMS`; with `BEST`, those of a state after the first validation."""
RENAMED = {"window_size": "batch_size", "windows of a bucket": "batches of a bucket"}
"""Keys of progress.json in states of older versions."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` optimizer steps."""

    step: int
    num_worse: int
    """Validations since the best."""
    batch_size: int
    """Rows of a batch over all processes: a resumed run keeps it, on any number of processes."""
    history: dict[str, Any]
    """Where the log stood."""
    loss_scale: dict[str, Any]
    """State of the fp16 scaler; empty without one."""
    fingerprint: dict[str, Any]
    """Config and data: what a resumed run must have in common with this one."""
    num_halvings: int = 0
    """How often the main process had halved its micro-batches because memory ran out."""


@dataclass(frozen=True)
class TrainState:
    """A state as it is on disk; trained weights only, so that an adapter's state is small and a 4-bit backbone is not in it."""

    progress: Progress
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    random: dict[str, torch.Tensor]
    """The generators' states of every process, by device and rank."""
    best_logits: np.ndarray | None
    """Of the best validation so far, float32 (n, L), of segments (m, L); None before the first."""

    @classmethod
    def capture(
        cls, progress: Progress, model: Any, optimizer: Any, accelerator: Accelerator, best_logits: np.ndarray | None
    ) -> "TrainState":
        """Return the state of the run; every process must call it, the main one gets the generators of all and weights in one piece."""
        trained = trained_parameters(accelerator.unwrap_model(model))
        states = {
            name: {key: gather(value, accelerator) for key, value in optimizer.state[parameter].items()}
            for name, parameter in trained.items()
        }
        generators = gather_object([random_state(accelerator.process_index)]) if accelerator.num_processes > 1 else [random_state(0)]
        return cls(
            progress,
            {name: gather(parameter, accelerator) for name, parameter in trained.items()},
            {f"{name}|{key}": value for name, state in states.items() for key, value in state.items()},
            {name: value for states in generators for name, value in states.items()},
            best_logits,
        )

    def restore(self, model: Any, optimizer: Any, scheduler: Any, accelerator: Accelerator) -> None:
        """Put weights, moments, schedule, scaler and generators back; a process that the state does not know keeps its own draw.

        Raises: TrainingError if the state is of another model.
        """
        trained = trained_parameters(accelerator.unwrap_model(model))
        shapes = [{name: tuple(value.shape) for name, value in values.items()} for values in (trained, self.weights)]
        if shapes[0] != shapes[1]:
            raise TrainingError(
                "the state is of another model: its trained parameters have other names or shapes; start anew without --resume"
            )
        flush_stored_updates(self.weights, self.optimizer, optimizer)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(shard_like(self.weights[name], parameter))
        for key, value in self.optimizer.items():
            name, _, moment = key.partition("|")
            optimizer.state[trained[name]][moment] = shard_like(value, trained[name])
        scheduler.last_epoch = self.progress.step
        scheduler._last_lr = [
            base * scale(self.progress.step) for base, scale in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, scheduler._last_lr, strict=True):
            group["lr"] = rate
        if accelerator.scaler is not None and self.progress.loss_scale:
            accelerator.scaler.load_state_dict(self.progress.loss_scale)
        set_random_state(self.random, accelerator.process_index)


class Autosave:
    """Tells when a state is due, by steps and by minutes."""

    def __init__(self, config: TrainingConfig) -> None:
        self._every_steps, self._every_seconds = config.save_every_steps, 60 * config.save_every_minutes
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Return whether a state is due after a step, and count anew if it is by time."""
        if self._every_seconds and time.monotonic() - self._last >= self._every_seconds:
            self._last = time.monotonic()
            return True
        return self._every_steps > 0 and step % self._every_steps == 0


def write_state(folder: Path, state: TrainState, num_kept: int) -> Path:
    """Write a state into `folder`, then remove all but the newest `num_kept` up to its step; only the main process calls it.

    A state of a later step is one that was found damaged, when training went on from an earlier one.

    Raises: StorageError if the device is full; the states before it are then intact.
    """
    path = folder / f"{PREFIX}{state.progress.step:09d}"
    tensors = [*state.weights.values(), *state.optimizer.values(), *state.random.values()]
    num_bytes = sum(value.nbytes for value in tensors) + (0 if state.best_logits is None else state.best_logits.nbytes)
    with atomic_write(path, num_bytes) as partial:
        partial.mkdir()
        write_json(partial / PROGRESS, asdict(state.progress))
        save_file({name: value.contiguous() for name, value in state.weights.items()}, partial / WEIGHTS)
        save_file({name: value.contiguous() for name, value in state.optimizer.items()}, partial / OPTIMIZER)
        save_file(state.random, partial / RANDOM)
        if state.best_logits is not None:
            save_file({"logits": torch.from_numpy(state.best_logits)}, partial / BEST)
        write_json(partial / CHECKSUMS, {file.name: compute_checksum(file) for file in sorted(partial.iterdir())})
    states = list_states(folder)
    own = states.index(path)
    for old in (*states[:own], *states[own + num_kept :]):
        shutil.rmtree(old)
    return path


def read_newest_state(folder: Path) -> tuple[TrainState | None, list[str]]:
    """Return the newest undamaged state, or None, and a message on each newer one that is damaged."""
    messages: list[str] = []
    for path in list_states(folder):
        try:
            return _read_state(path), messages
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            messages.append(f"{path}: is damaged ({error}); using the one before it")
    return None, messages


def find_state(states: Path, fingerprint: dict[str, Any], is_forced: bool, accelerator: Accelerator) -> TrainState | None:
    """Return the newest whole state of a run, if there is one.

    Raises: ConfigError if settings or data have changed since, unless that is forced, if not all processes find the same state, or if the
    best model so far is gone, of which a state has the logits only.
    """
    run = RunFolder(states.parent)
    if accelerator.is_main_process:
        restore_name(run.model)
    state, messages = read_newest_state(states)
    for message in messages:
        print_on_main(accelerator, message)
    steps = gather_object([state.progress.step if state is not None else 0])
    if len(set(steps)) > 1:
        raise ConfigError(
            f"{run.path}: the processes find states of different steps ({', '.join(map(str, steps))}, 0: none): "
            "set run.folder to a place that all machines share, or copy its state/ to each"
        )
    if state is None:
        print_on_main(accelerator, f"{run.path}: no state to resume, starting from the beginning")
        return None
    check_unchanged(run.path, state.progress.fingerprint, fingerprint, is_forced, accelerator)
    if state.best_logits is not None and not (run.model / SIDECAR).is_file():
        raise ConfigError(
            f"{run.path}: cannot resume: its best model so far, {run.model}, is gone; put it back, or start anew with another run.name=NAME"
        )
    print_on_main(accelerator, f"{run.path}: resumed after step {state.progress.step:,}")
    return state


def list_states(folder: Path) -> list[Path]:
    """Return the folders of states, newest first."""
    return sorted(
        (path for path in folder.glob(f"{PREFIX}*") if path.is_dir() and path.name.removeprefix(PREFIX).isdecimal()), reverse=True
    )


def trained_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def capture_loss_scale(accelerator: Accelerator) -> dict[str, Any]:
    """Return the state of the fp16 scaler; empty without one."""
    return accelerator.scaler.state_dict() if accelerator.scaler is not None else {}


def random_state(process: int) -> dict[str, torch.Tensor]:
    """Return the states of this process's generators, uint8."""
    states = {f"cpu-{process}": torch.get_rng_state()}
    if torch.cuda.is_available():
        states[f"cuda-{process}"] = torch.cuda.get_rng_state()
    return states


def set_random_state(states: dict[str, torch.Tensor], process: int) -> None:
    """Put the states of this process's generators back, where they are known."""
    if f"cpu-{process}" in states:
        torch.set_rng_state(states[f"cpu-{process}"])
    if f"cuda-{process}" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[f"cuda-{process}"])


def _read_state(path: Path) -> TrainState:
    checksums = _read_object(path / CHECKSUMS)
    if checksums.keys() - {BEST} != FILES or (path / BEST).exists() != (BEST in checksums):
        raise ValueError(f"{CHECKSUMS} does not name its files")
    for name, checksum in checksums.items():
        if compute_checksum(path / name) != checksum:
            raise ValueError(f"{name} is not what was written")
    return TrainState(
        _read_progress(path),
        load_file(path / WEIGHTS),
        load_file(path / OPTIMIZER),
        load_file(path / RANDOM),
        load_file(path / BEST)["logits"].numpy() if BEST in checksums else None,
    )


def _read_progress(path: Path) -> Progress:
    values = _rename_keys(_read_object(path / PROGRESS))
    progress = Progress(**values | {"fingerprint": _rename_keys(values["fingerprint"])})
    types = {field.name: get_origin(field.type) or field.type for field in fields(Progress)}
    if wrong := [name for name, expected in types.items() if type(getattr(progress, name)) is not expected]:
        raise ValueError(f"{PROGRESS} has values of another type: {', '.join(wrong)}")
    if progress.step != int(path.name.removeprefix(PREFIX)):
        raise ValueError(f"{PROGRESS} is of step {progress.step}")
    check_position(progress.history)
    return progress


def _read_object(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} does not hold a JSON object")
    return values


def _rename_keys(values: dict[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(key, key): value for key, value in dict(values).items()}
