"""Errors that a user can cause and correct, and how a script ends with one.

Each message says where the error is, which value was given, what is allowed and what to do. The scripts catch `EmotionError` and the errors
of files and streams only: they print one line and exit with status 2. Any other exception is a bug in this project and keeps its traceback.
No secret reaches stderr, whatever a message quotes.
"""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from emotion.secrets import mask_secrets
from emotion.text import escape_controls, show_all_characters


class EmotionError(Exception):
    """An error that the user can correct; the message is complete without a traceback. Each argument is a line of it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


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
    """Exit with status 2 and one line on stderr for an `EmotionError` or a file that cannot be used, and with status 130 on Ctrl-C.

    Such a file may be a standard stream: closed, or on a full device. Inside the block no secret is written to stderr.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        show_all_characters(stream)  # a file's name may not be UTF-8, or the terminal's encoding not have a label
    _mask_stderr()
    with _remember_interrupt() as interrupts:
        try:
            try:
                yield
            finally:
                sys.stdout.flush()  # at exit, an error would be a traceback
        except BaseException as error:
            ending = _describe_end(error, bool(interrupts))
            if ending is None:
                raise
            raise SystemExit(_report(*ending)) from None


def _describe_end(error: BaseException, is_interrupted: bool) -> tuple[list[str], int] | None:
    """Return the lines and the exit status for an exception; None for one that is a bug, or the script's own end."""
    if isinstance(error, KeyboardInterrupt) or (is_interrupted and isinstance(error, Exception)):
        # The other processes of a launcher are interrupted too; one line says so. A note says how to go on.
        lines = ["; ".join(["interrupted", *getattr(error, "__notes__", ())])] if os.environ.get("RANK", "0") == "0" else []
        return lines, 130
    if isinstance(error, EmotionError):
        first, *others = map(str, error.args)
        return [f"error: {first}", *others], 2
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("emotion"):
        package, remedy = error.name.partition(".")[0], "activate the environment (source .venv/bin/activate), or run `make install`"
        return [f"error: the package {package} is not installed for {sys.executable}: {remedy}"], 2
    if isinstance(error, BrokenPipeError):  # the reader of the output, such as `head`, closed the pipe
        return [], 0
    if isinstance(error, OSError) and error.strerror:
        if isinstance(error.filename, str | bytes):
            return [f"error: {os.fsdecode(error.filename)}: cannot be used ({error.strerror}); give another path"], 2
        return [f"error: stdin or stdout: cannot be used ({error.strerror}); redirect it to another file"], 2
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return [f"error: {error.object[:200]!r}: is not valid UTF-8; rename the file"], 2
    return None


def _report(lines: list[str], status: int) -> int:
    for line in lines:
        with suppress(OSError):
            print(escape_controls(line), file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what cannot be written is dropped, so that the flush at exit does not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return status


def _open_closed_streams() -> None:
    """Open the standard streams that the caller has closed; otherwise the next file that is opened becomes stdout, or messages do.

    The use of stdin and stdout is then an error, as their file is opened in the other direction; messages are dropped.
    """
    for name, flags in (("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), "r" if name == "stdin" else "w", encoding="utf-8"))


def _mask_stderr() -> None:
    """Let no secret reach stderr, whoever writes it: argparse quotes the words that it does not know, libraries quote URLs."""
    if "write" not in vars(sys.stderr):
        write = sys.stderr.write
        vars(sys.stderr)["write"] = lambda text: write(mask_secrets(text))


@contextmanager
def _remember_interrupt() -> Iterator[list[int]]:
    """Yield a list that is not empty after Ctrl-C, whose KeyboardInterrupt need not arrive.

    C code can turn it into another exception, as imports do. Where Python drops it, as in a `__del__`, it is raised again.
    """
    interrupts: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    def raise_again(dropped: Any) -> None:
        from _thread import interrupt_main
        from threading import Timer, get_ident

        if issubclass(dropped.exc_type, KeyboardInterrupt):
            # Not now: Python would drop it again. Windows has no pthread_kill; `interrupt_main` alone would not end a sleep elsewhere.
            kill = getattr(signal, "pthread_kill", lambda _, number: interrupt_main(number))
            Timer(0.01, kill, (get_ident(), signal.SIGINT)).start()
        else:
            hook(dropped)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or the caller's own
        yield interrupts
        return
    hook, sys.unraisablehook = sys.unraisablehook, raise_again
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupts
    finally:
        # The second Ctrl-C ends the process at once: while the interpreter shuts down, it would be a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL if interrupts else signal.default_int_handler)
        sys.unraisablehook = hook
        if not interrupts:
            atexit.register(signal.signal, signal.SIGINT, lambda *_: exit_at_once(130))


def exit_at_once(status: int) -> NoReturn:
    """End the process without waiting for its threads; of an interrupted one, status 130, one line says so."""
    if status == 130:
        os.write(2, b"interrupted\n")
    os._exit(status)
