"""A run's model folder -> a repository on the Hub. What is there already is gone on with: repeating a push completes it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emotion.errors import ModelError
from emotion.export.model_card import complete_card
from emotion.tracking.run_folder import RunFolder


def push_model(run: RunFolder, name: str, is_private: bool) -> str:
    """Complete the model card, make the repository if it is not there, upload the model folder; return the address.

    Raises: ModelError in one line if there is no token, the name is another's, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ModelError(f"--push {name}: no token: set HF_TOKEN to one with write access, or run `hf auth login`")
    files = list_files(run)
    api = HfApi()
    with _translate_hub_errors(name):
        repository: Any = api.create_repo(name, private=is_private, exist_ok=True)
        complete_card(run, repository.repo_id)
        # One commit: either all files are there afterwards or none of them is new.
        api.upload_folder(repo_id=repository.repo_id, folder_path=run.model, commit_message=f"Upload {run.path.name}: {len(files)} files")
    return f"{api.endpoint}/{repository.repo_id}"


def push_finished(run: RunFolder, name: str, is_private: bool) -> None:
    """Push the model of a run that has just ended; a Hub that does not take it now is no reason to fail it."""
    try:
        print(f"pushed to {push_model(run, name, is_private)}")
    except ModelError as error:
        again = f"python evaluate.py --model {run.path} --push {name}"
        print(f"{error}\nthe model is safe in {run.model}; to repeat: {again}", file=sys.stderr)


def list_files(run: RunFolder) -> list[tuple[str, int]]:
    """Return name and size in bytes of all that a push uploads.

    Raises: ModelError if there is no model.
    """
    files = [path for path in sorted(run.model.rglob("*")) if path.is_file()]
    if not any(path.name == "emotion.json" for path in files):
        raise ModelError(f"{run.path}: holds no finished model, there is nothing to push")
    return [(str(path.relative_to(run.model)), path.stat().st_size) for path in files]


def format_files(run: RunFolder, name: str, is_private: bool) -> str:
    """Return what a push would upload, as text."""
    files = list_files(run)
    lines = [f"would go to {name} ({'private' if is_private else 'public'}), {sum(size for _, size in files):,} bytes:"]
    return "\n".join([*lines, *(f"  {size:>13,}  {file}" for file, size in files)])


@contextmanager
def _translate_hub_errors(name: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one `ModelError` that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as error:
        raise ModelError(f"--push {name}: is no name of a repository ({_shorten(error)}); give USER/NAME") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        advice = {
            401: "the token is not valid: set HF_TOKEN to one with write access",
            403: "the token may not write there: the name is another's, or the token reads only",
        }.get(status or 0, "the Hub refused or broke off; repeat the command to complete it")
        raise ModelError(f"--push {name}: {advice} ({_shorten(error)})") from None
    except Exception as error:  # the client's HTTP library is not ours to name: httpx before, httpx2 now
        is_network = isinstance(error, (OSError, OfflineModeIsEnabled)) or type(error).__module__.startswith("httpx")
        if not is_network:
            raise
        raise ModelError(f"--push {name}: the Hub cannot be reached; repeat the command to complete it ({_shorten(error)})") from None


def _shorten(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
