"""Errors that a user can cause and correct.

Each message says where the error is, which value was given, what is allowed and what to do. The scripts catch `EmotionError` only: they
print its message and exit with status 2. Any other exception is a bug in this project and keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class EmotionError(Exception):
    """An error that the user can correct; the message is complete without a traceback."""


class ConfigError(EmotionError):
    """A config file, a `key=value` override or an option that cannot be used."""


class DataError(EmotionError):
    """A data source, file or row that cannot be used."""


class ModelError(EmotionError):
    """A backbone or model folder that cannot be used."""


class StorageError(EmotionError):
    """A file or folder that cannot be written."""


class TrainingError(EmotionError):
    """A training run that cannot start or continue."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exit with status 2 and the message of an `EmotionError` on stderr, and with status 130 on Ctrl-C."""
    try:
        yield
    except EmotionError as error:
        raise SystemExit(_report(f"error: {error}", status=2)) from None
    except KeyboardInterrupt:
        raise SystemExit(_report("interrupted", status=130)) from None
    except BrokenPipeError:  # the reader of the output, such as `head`, closed the pipe
        raise SystemExit(_silence_stdout()) from None


def _report(message: str, status: int) -> int:
    import sys

    print(message, file=sys.stderr, flush=True)
    return status


def _silence_stdout() -> int:
    """Redirect stdout to the null device, so that the flush at exit does not fail on the closed pipe."""
    import os
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
