"""Which run, model or folder a script means: the one that is named, the newest finished run, or the bundled model."""

import os
from pathlib import Path

from emotion.errors import ConfigError, ModelError
from emotion.paths import expand_path
from emotion.tracking.run_folder import RunFolder

SHIPPED_MODEL = Path(__file__).parents[2] / "models" / "goemotions-minilm"
"""The model that comes with a checkout of the project: it answers before anything is trained."""


def find_newest_run(folder: Path = Path("runs")) -> RunFolder:
    """Return the run that finished most recently.

    Raises: ModelError if there is none.
    """
    runs = [RunFolder(path) for path in folder.glob("*") if (path / "model" / "emotion.json").is_file()]
    finished = [run for run in runs if run.is_finished]  # an interrupted one has half a model
    if not finished:
        raise ModelError(
            f"no finished run in {folder}/: train one with `python train.py --config configs/quickstart.yaml`, or give a model with --model"
        )
    return max(finished, key=lambda run: run.efficiency.stat().st_mtime)


def find_default_model(folder: Path = Path("runs")) -> tuple[str, str]:
    """Return the location of the model that is used if none is named, and which one it is.

    Raises: ModelError if no run is finished and the bundled model is missing, as in an installed package.
    """
    try:
        return str(find_newest_run(folder).path), "the newest finished run"
    except ModelError:
        if not (SHIPPED_MODEL / "emotion.json").is_file():
            raise
    location = os.path.relpath(SHIPPED_MODEL) if SHIPPED_MODEL.is_relative_to(Path.cwd()) else str(SHIPPED_MODEL)
    return location, f"no finished run in {folder}/, so the bundled model"


def choose_model(given: str | None) -> tuple[str, str]:
    """Return the location of the model that a script uses, and which one it is; empty for the one that is given.

    Raises: ModelError as `find_default_model` does.
    """
    return (given, "") if given is not None else find_default_model()


def choose_output(given: str | None, run: RunFolder | None, model: str) -> RunFolder | None:
    """Return the folder that a report is written to: the given one, or else the run's; `run` itself, whichever path names its folder.

    `model` is the folder of the model.

    Raises: ConfigError as `check_output` does, for another folder than that of the model.
    """
    if given is None or (run is not None and expand_path(given).resolve() == run.path.resolve()):
        return run
    if expand_path(given).resolve() != expand_path(model).resolve():
        check_output(given)
    return RunFolder(expand_path(given))


def check_output(given: str) -> None:
    """Raise a ConfigError if --output cannot be a folder, or is that of a run or model, whose predictions would be replaced."""
    path = expand_path(given)
    if file := next((part for part in (path, *path.parents) if part.exists() and not part.is_dir()), None):
        raise ConfigError(f"--output {given}: {file} is a file; name a folder")
    if (path / "emotion.json").is_file() or _is_run(path):
        raise ConfigError(f"--output {given}: is the folder of a run or model, whose own predictions and reports are kept; choose another")


def find_run_of_model(location: str) -> RunFolder | None:
    """Return the run of a run folder or of the model folder in it; None for another folder."""
    path = expand_path(location)
    for candidate in (path, path.parent):
        if _is_run(candidate):
            return RunFolder(candidate)
    return None


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "model").is_dir()
