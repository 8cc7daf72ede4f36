"""Weights & Biases or TensorBoard, through Accelerate's trackers: a mirror of metrics.jsonl, with tables and plots at the end.

The run folder contains all of this, so a tracker never stops a run: if it fails, a message is printed and training continues.
"""

import hashlib
import json
import netrc
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from emotion.config import Config, TrackingConfig, to_dict
from emotion.errors import ConfigError
from emotion.evaluation.document import escape_markdown
from emotion.text import describe_error, is_quiet, print_message
from emotion.tracking.run_folder import RunFolder

FOLDERS = {"wandb": "wandb", "tensorboard": "tensorboard"}
"""Subfolder of the run folder that each writes to; a `wandb/` in the working directory would shadow the Python package."""
WANDB_MODES = {"online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
"""What each value of `WANDB_MODE` means. Source: `Settings.mode` of wandb."""
DEFAULT_PROJECT = "emotion"
PRIVATE_KEYS = ("command", "working_directory")
"""Keys of environment.json that are not uploaded."""
WANDB_SETTINGS = {
    # Nothing that may contain a secret or describes the machine is uploaded: command line, console, code, host, git remote.
    **{"console": "off", "x_disable_meta": True, "x_disable_machine_info": True, "disable_git": True, "disable_code": True},
    **{"silent": True, "finish_timeout": 120},
}


def choose_backend(config: TrackingConfig) -> tuple[str, str | None]:
    """Return the name of the tracker to use, or `none`, and the environment variable that turned it off, as `NAME=value`.

    `auto` is wandb if it is installed. `WANDB_DISABLED` and `WANDB_MODE=disabled` turn wandb off.

    Raises: ConfigError if the config names a tracker that is not installed, which Accelerate would ignore silently, or for another mode.
    """
    if config.backend == "auto" and find_spec("wandb") is None:
        return "none", None
    packages = {"wandb": ("wandb",), "tensorboard": ("tensorboard", "tensorboardX")}.get(config.backend, ())
    if packages and not any(find_spec(package) for package in packages):
        raise ConfigError(f"tracking.backend={config.backend}: is not installed: pip install {packages[0]}, or tracking.backend=none")
    if config.backend not in ("auto", "wandb"):
        return config.backend, None
    mode, variable = read_wandb_mode()
    return ("none", variable) if mode == "disabled" else ("wandb", None)


def read_wandb_mode() -> tuple[str | None, str | None]:
    """Return the mode of wandb that the environment names, `online`, `offline` or `disabled`, and the variable that does, as `NAME=value`.

    Raises: ConfigError for a mode that wandb does not know.
    """
    if (value := os.environ.get("WANDB_DISABLED", "")).lower() in ("1", "on", "yes", "true"):
        return "disabled", f"WANDB_DISABLED={value}"
    value = os.environ.get("WANDB_MODE", "")
    if not value:
        return None, None
    if value not in WANDB_MODES:
        raise ConfigError(f"WANDB_MODE={value}: must be online, offline or disabled; correct the environment variable, or unset it")
    return WANDB_MODES[value], f"WANDB_MODE={value}"


@dataclass
class Tracking:
    """The tracker of one run, or none; it is dropped at its first failure."""

    tracker: Any = None
    first_step: int = 0
    """A resumed run has already logged the steps before this one."""

    def log(self, row: dict[str, Any]) -> None:
        """Log a row of metrics.jsonl at its step, as `train/loss`, `validation/macro_f1_tuned` and so on."""
        if row["step"] < self.first_step:
            return
        values = {f"{row['kind']}/{name}": value for name, value in row.items() if name not in ("kind", "step") and value is not None}
        self._try(lambda tracker: tracker.log(values, step=row["step"]))

    def finish(
        self, run: RunFolder, report: dict[str, Any] | None = None, efficiency: dict[str, Any] | None = None, log_model: bool = False
    ) -> None:
        """Log the table of labels and thresholds, all plots, the run's cost and, with `log_model`, the model; then close the tracker."""
        if report is not None and efficiency is not None:
            thresholds = report["decision"]["thresholds"]
            table = [row | {"threshold": threshold} for row, threshold in zip(report["per_label"], thresholds, strict=True)]
            self._try(lambda tracker: _log_table(tracker, f"{report['split']}/labels", table))
            self._try(lambda tracker: _log_plots(tracker, run))
            self._try(lambda tracker: _log_summary(tracker, efficiency))
            if log_model:
                self._try(lambda tracker: _log_model(tracker, run))
        self._try(lambda tracker: tracker.finish())
        self.tracker = None

    def _try(self, action: Callable[[Any], None]) -> None:
        if self.tracker is None:
            return
        try:
            action(self.tracker)
        except Exception as error:  # trackers raise exceptions of many types, such as network errors
            name, self.tracker = self.tracker.name, None
            print_message(
                f"tracking: {name} failed ({_shorten(error)}); the run continues without it; metrics.jsonl is complete", sys.stderr
            )


def start_tracking(config: Config, run: RunFolder) -> Tracking:
    """Start the tracker of a run; if it cannot be started, print a message and return one that does nothing."""
    backend, off_by = choose_backend(config.tracking)
    if backend == "none":
        if off_by is not None and not is_quiet():
            print(f"tracking: wandb is off ({off_by})")
        return Tracking()
    try:
        if backend == "tensorboard":
            return _start_tensorboard(config, run)
        return _start_wandb(config, run, json.loads(run.environment.read_text(encoding="utf-8")))
    except Exception as error:
        print_message(f"tracking: {backend} cannot be started ({_shorten(error)}); the run continues without it", sys.stderr)
        return Tracking()


def has_wandb_key() -> bool:
    """Whether a Weights & Biases key exists, in `WANDB_API_KEY` or in the file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc().authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _start_wandb(config: Config, run: RunFolder, environment: dict[str, Any]) -> Tracking:
    from accelerate.tracking import WandBTracker

    # Unchanged when a run is resumed, different for every run.
    run_id = hashlib.sha256(f"{environment['started']} {environment['command']} {run.path.name}".encode()).hexdigest()[:12]
    timeout = float(os.environ.get("WANDB_INIT_TIMEOUT", 30))
    options = {"name": run.path.name, "id": run_id, "dir": str(run.path), "settings": WANDB_SETTINGS | {"init_timeout": timeout}}
    options["config"] = to_dict(config) | {"environment": {key: value for key, value in environment.items() if key not in PRIVATE_KEYS}}
    project = config.tracking.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
    mode, variable = read_wandb_mode()
    reason = variable if mode == "offline" else None if has_wandb_key() else "no key"
    if reason is None:
        try:
            tracker = WandBTracker(project, **options, mode="online", resume="allow")
            tracker.start()
            if not is_quiet():
                print(f"tracking: wandb, online, project {project}")
            return Tracking(tracker, first_step=tracker.run.step)
        except Exception as error:
            print_message(f"tracking: wandb cannot be reached ({_shorten(error)}); logging offline instead", sys.stderr)
            _remove_failed_start(run, run_id)
            reason = "no connection"
    # wandb cannot resume an offline run, so a resumed run logs all rows of metrics.jsonl again.
    for earlier in (run.path / FOLDERS["wandb"]).glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(earlier, ignore_errors=True)
    tracker = WandBTracker(project, **options, mode="offline")
    tracker.start()
    if not is_quiet():
        print(f"tracking: wandb, offline ({reason}), project {project}; to upload it later:")
        print(f"  wandb sync {name_offline_run(Path(tracker.run.dir).parent)}")
    return Tracking(tracker)


def name_offline_run(folder: Path) -> str:
    """Return the shortest path of a folder as a word of a command: from the working directory, if it is below that."""
    with suppress(ValueError):
        folder = folder.resolve().relative_to(Path.cwd())
    return shlex.quote(str(folder))


def _remove_failed_start(run: RunFolder, run_id: str) -> None:
    """Stop wandb's service and remove the folder of the run that could not be started online; otherwise its id stays in use."""
    import wandb

    wandb.teardown()
    for folder in (run.path / FOLDERS["wandb"]).glob(f"run-*-{run_id}"):
        shutil.rmtree(folder, ignore_errors=True)


def _start_tensorboard(config: Config, run: RunFolder) -> Tracking:
    from accelerate.tracking import TensorBoardTracker

    shutil.rmtree(run.path / FOLDERS["tensorboard"], ignore_errors=True)  # a resumed run logs all rows again
    tracker = TensorBoardTracker(FOLDERS["tensorboard"], run.path)
    tracker.start()
    settings = {f"{section}.{key}": value for section, values in to_dict(config).items() for key, value in values.items()}
    tracker.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in settings.items()))
    return Tracking(tracker)


def _log_table(tracker: Any, name: str, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    cells = [[row[column] for column in columns] for row in rows]
    if tracker.name == "wandb":
        tracker.log_table(name, columns=columns, data=cells)
    else:
        lines = [columns, ["---"] * len(columns), *([escape_markdown(str(cell)) for cell in line] for line in cells)]
        tracker.writer.add_text(name, "\n".join("| " + " | ".join(line) + " |" for line in lines))


def _log_plots(tracker: Any, run: RunFolder) -> None:
    import numpy as np
    from PIL import Image

    for path in sorted((run.path / "report").rglob("*.png")):
        name = f"{path.parent.name}/{path.stem}" if path.parent.name != "report" else path.stem
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        if tracker.name == "wandb":
            tracker.log_images({name: [pixels]})
        else:
            tracker.log_images({name: pixels[None]}, dataformats="NHWC")


def _log_summary(tracker: Any, efficiency: dict[str, Any]) -> None:
    known = {f"efficiency/{name}": value for name, value in efficiency.items() if value is not None}
    if tracker.name == "wandb":
        tracker.run.summary.update(known)
    else:
        tracker.log(known)


def _log_model(tracker: Any, run: RunFolder) -> None:
    if tracker.name == "wandb":
        import wandb

        artifact = wandb.Artifact(f"model-{tracker.run.id}", type="model")
        artifact.add_dir(str(run.model))
        tracker.run.log_artifact(artifact)


def _shorten(error: Exception) -> str:
    return f"{type(error).__name__}: {describe_error(error, 150)}"
