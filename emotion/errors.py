"""The errors a user can cause. Each message says where, what came, what is allowed and what to do.

Scripts catch `EmotionError` alone: it is printed as it is and the exit status is 2. Anything else is a bug of ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class EmotionError(Exception):
    """A mistake that the user can mend; the message is complete without a traceback."""


class ConfigError(EmotionError):
    """A config file or a `key=value` that cannot be used."""


class DataError(EmotionError):
    """A source, file or row that cannot be used."""


class ModelError(EmotionError):
    """A backbone or model folder that cannot be used."""


class StorageError(EmotionError):
    """A file that cannot be written for want of space."""


class TrainingError(EmotionError):
    """A run that cannot go on."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an `EmotionError` into its message on stderr and exit status 2, Ctrl-C into status 130."""
    try:
        yield
    except EmotionError as error:
        raise SystemExit(_report(f"error: {error}", status=2)) from None
    except KeyboardInterrupt:
        raise SystemExit(_report("interrupted", status=130)) from None
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        raise SystemExit(_silence_stdout()) from None


def _report(message: str, status: int) -> int:
    import sys

    print(message, file=sys.stderr, flush=True)
    return status


def _silence_stdout() -> int:
    import os
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
