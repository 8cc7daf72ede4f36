"""Upload a run's model folder to a repository on the Hub. A push can be repeated until it is complete."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emotion.errors import ModelError
from emotion.export.model_card import complete_card
from emotion.files import is_temporary
from emotion.inference.numpy_predictor import WEIGHTS
from emotion.inference.onnx_predictor import ONNX_FOLDER
from emotion.inference.sidecar import SIDECAR
from emotion.modeling.backbones import hide_folders
from emotion.modeling.lora import ADAPTER_WEIGHTS
from emotion.text import describe_error, format_count, print_message
from emotion.tracking.run_folder import RunFolder

ADAPTER_CONFIG = "adapter_config.json"
"""Written by peft."""
MODEL_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "config.json", WEIGHTS)
"""What tells models apart: those of full models and those of adapters."""


def push_model(run: RunFolder, name: str, is_private: bool) -> str:
    """Complete the model card, create the repository if needed, upload the model folder, and return the address.

    Raises: ModelError without a token, without write access to the name, or if the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = open_hub(f"--push {name}")
    files = list_files(run)
    with translate_hub_errors(f"--push {name}"):
        repository: Any = api.create_repo(name, private=is_private, exist_ok=True)
        complete_card(run, name=repository.repo_id)
        public = read_public(run.model)
        operations: list[Any] = [CommitOperationAdd(file, public.get(file, run.model / file)) for file, _ in files]
        found = api.model_info(repository.repo_id)
        warn_of_visibility(name, found.private, is_private)
        stale = find_stale([sibling.rfilename for sibling in found.siblings or ()], [file for file, _ in files])
        operations += [CommitOperationDelete(file) for file in stale]
        # One commit, so that the repository never has a part of the new files.
        api.create_commit(repository.repo_id, operations, commit_message=f"Upload {run.path.name}: {format_count(len(files), 'file')}")
    return f"{api.endpoint}/{repository.repo_id}"


def warn_of_visibility(name: str, is_found_private: bool | None, is_private: bool) -> None:
    """Print a message if a repository exists with another visibility than the settings say: a push does not change it."""
    if is_found_private is not None and is_found_private != is_private:
        found = "private" if is_found_private else "public"
        print_message(
            f"hub: {name} exists and is {found}; hub.private={str(is_private).lower()} is for new ones: its page on the Hub changes it"
        )


def find_stale(found: list[str], files: list[str]) -> list[str]:
    """Return which files of a repository are of a model that was pushed before and is not like that in `files`.

    transformers loads an adapter wherever it finds one, so one that is left beside a full model would answer in place of it.
    """
    return [file for file in found if file not in files and (file in MODEL_FILES or file.startswith(f"{ONNX_FOLDER}/"))]


def read_public(folder: Path) -> dict[str, bytes]:
    """Return the files of a model folder that name its backbone, by name, as they are published, if they name folders of this machine."""
    public = {}
    for file, section, key in ((SIDECAR, "model", "backbone"), (ADAPTER_CONFIG, None, "base_model_name_or_path")):
        if (folder / file).is_file():
            content = json.loads((folder / file).read_text(encoding="utf-8"))
            values = content if section is None else content[section]
            if values[key] != (name := hide_folders(values[key])):
                values[key] = name
                public[file] = (json.dumps(content, indent=2) + "\n").encode()
    return public


def open_hub(option: str) -> Any:
    """Return the Hub's client.

    Raises: ModelError without a token; it begins with the option, `--push USER/NAME`.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ModelError(f"{option}: no token: set HF_TOKEN to one with write access, or run `hf auth login`")
    return HfApi()


def push_finished(run: RunFolder, name: str, is_private: bool) -> None:
    """Push the model of a run that has just ended. If the push fails, print how to repeat it: the run itself has succeeded."""
    try:
        print(f"pushed to {push_model(run, name, is_private)}")
    except ModelError as error:
        command = shlex.join(["python", "export.py", "--model", str(run.path), "--push", name])
        print(f"{error}\nthe model is saved in {run.model}; repeat the push with: {command}", file=sys.stderr)


def list_files(run: RunFolder) -> list[tuple[str, int]]:
    """Return name and size in bytes of every file that a push uploads.

    Raises: ModelError if the run has no model.
    """
    sizes = {path.relative_to(run.model): path.stat().st_size for path in sorted(run.model.rglob("*")) if path.is_file()}
    if Path(SIDECAR) not in sizes:
        raise ModelError(f"{run.path}: has no finished model, so there is nothing to push")
    return [(path.as_posix(), size) for path, size in sizes.items() if not any(map(is_temporary, path.parts))]


def format_files(run: RunFolder, name: str, is_private: bool) -> str:
    """Return the list of the files that a push would upload."""
    files = list_files(run)
    lines = [f"would upload to {name} ({describe_visibility(is_private)}), {sum(size for _, size in files):,} bytes:"]
    return "\n".join([*lines, *(f"  {size:>13,}  {file}" for file, size in files)])


def describe_visibility(is_private: bool) -> str:
    """Return what a push makes of a repository."""
    return f"{'private' if is_private else 'public'}, if it has to be created"


@contextmanager
def translate_hub_errors(option: str) -> Iterator[None]:
    """Raise a ModelError that says what to do in place of the errors of the Hub's client; it begins with the option, `--push USER/NAME`."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as error:
        raise ModelError(f"{option}: not a valid name of a repository ({_shorten(error)}); give USER/NAME") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        advice = {
            401: "the token is not valid: set HF_TOKEN to one with write access",
            403: "the token has no write access to this name: use a name of your own, and a token that may write",
        }.get(status or 0, "the Hub refused or interrupted the upload; repeat the command to complete it")
        raise ModelError(f"{option}: {advice} ({_shorten(error)})") from None
    except Exception as error:  # connection errors have the types of the client's HTTP library: httpx, or httpx2 in newer versions
        is_network = isinstance(error, (OSError, OfflineModeIsEnabled)) or type(error).__module__.startswith("httpx")
        if not is_network:
            raise
        raise ModelError(f"{option}: the Hub cannot be reached; repeat the command to complete it ({_shorten(error)})") from None


def _shorten(error: Exception) -> str:
    return f"{type(error).__name__}: {describe_error(error, 150)}"
