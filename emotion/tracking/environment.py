"""What environment.json records of the machine, the packages and the command of a run."""

import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emotion.secrets import mask_secrets

PACKAGES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "datasets", "scikit-learn", "numpy")
"""Packages whose versions environment.json records."""


def describe_environment(command: list[str]) -> dict[str, Any]:
    """Return the content of environment.json of a run that begins now, without secrets in its command."""
    import torch

    return {
        "command": [mask_secrets(argument) for argument in command],
        "working_directory": str(Path.cwd()),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git_commit": _read_git_commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine(),
        "num_threads": torch.get_num_threads(),
        "packages": {name: _read_version(name) for name in PACKAGES},
    }


def _read_git_commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _read_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
