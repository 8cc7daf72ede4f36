"""Names of files and folders that a user gives, in settings and options: `~`, and what tells a path from the id of a repository."""

import os
import re
from argparse import ArgumentTypeError
from pathlib import Path

HUB_ID = re.compile(r"(?!(?:runs|models)/)(?:[a-z0-9_][\w.-]*/)?[a-z0-9_][\w.-]*", re.ASCII | re.IGNORECASE)
"""Source: `validate_repo_id` of huggingface_hub. `runs/NAME` and `models/NAME` are folders of this project, not repositories."""


def expand_home(name: str) -> str:
    """Return a name with `~` or `~USER` at its beginning replaced by the home folder: the `type` of options that name a file or folder.

    Shells do this only at the beginning of a word, and on Windows not at all. The name of an unknown user stays.

    Raises: ArgumentTypeError for an empty name, as of a variable of the shell that is not set.
    """
    if not name:
        raise ArgumentTypeError("is empty; name a file or a folder")
    return os.path.expanduser(name)  # noqa: PTH111 - that of pathlib raises a RuntimeError for an unknown user


def expand_path(name: str | Path) -> Path:
    """Return the path that a setting or an option names, with `~` expanded."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - as above


def is_hub_id(name: str) -> bool:
    r"""Return whether a name looks like the id of a repository on the Hub, `NAME` or `USER/NAME`.

    All others can only be paths, such as `./x`, `../x`, `~/x`, `/x`, `a/b/c`, `a b`, `C:\x` or `C:/x`.
    """
    return HUB_ID.fullmatch(name) is not None


def find_model_fault(name: str) -> str | None:
    """Return why a name is not that of a model of transformers, as far as its look and the local disk tell; None for what may be one."""
    path = expand_path(name)
    if path.suffix.lower() == ".gguf":
        return None if path.is_file() else "no such file"
    if path.is_dir():
        return None if (path / "config.json").is_file() else "has no config.json; give a folder written by save_pretrained"
    if path.exists():
        return "is a file; give a folder written by save_pretrained, or a GGUF file"
    return None if is_hub_id(name) else "no such folder"
