"""A server that has the slow packages imported and forks a process for each script: a script then starts in 0.2 s, not in 5 s.

    python -m tests.warm FD    # FD: the file descriptor of a listening Unix socket

A client calls `request_script`: it sends one JSON line and its stdin, stdout and stderr, and receives two lines: the number of the script's
process and, when that has ended, its exit status (negative: the signal). A client that closes the connection before kills the script. The
server ends with the last open connection, so each test process keeps one open. Nothing of this project is imported beforehand.

Plots are drawn but not rendered, which would take half of a tiny run, unless the environment has `RENDER`.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from io import RawIOBase
from pathlib import Path
from typing import Any

SERVER = "EMOTION_TESTS_SERVER"
"""Variable with the socket of the server that starts the processes of a launcher (`forward_to_server`)."""


def connect(path: str | Path) -> socket.socket:
    """Return a connection to a server.

    Raises: FileNotFoundError, ConnectionRefusedError if there is none.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def request_script(
    connection: socket.socket, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]
) -> tuple[int, RawIOBase]:
    """Have a server start `python ARGUMENTS`; return the number of its process and a reader of its exit status."""
    request = {"arguments": arguments, "folder": folder, "environment": environment}
    content = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [content], streams)
    connection.sendall(content[sent:])
    answers = connection.makefile("rb", buffering=0)
    return int(answers.readline()), answers


def forward_to_server() -> None:
    """Run the command line of this process, `python ARGUMENTS`, in a process of the server instead, and end as that ends.

    torchrun and `accelerate launch` start what the variable PYTHON_EXEC names.
    """
    arguments = [word for word in sys.argv[1:] if word != "-u"]
    process, answers = request_script(connect(os.environ[SERVER]), arguments, str(Path.cwd()), dict(os.environ), [0, 1, 2])
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(process, number))
    status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def serve(listener: socket.socket) -> None:
    """Answer requests until the last connection is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps the forked processes
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    num_waiting = 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                num_waiting += 1
                continue
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            selector.unregister(connection)
            num_waiting -= 1
            answer_request(connection, listener)
            if num_waiting == 0:
                return


def answer_request(connection: socket.socket, listener: socket.socket) -> None:
    """Read a request and fork the process that starts its script and waits for it; do nothing if the connection was closed."""
    content, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while content and not content.endswith(b"\n"):
        content += connection.recv(1 << 16)
    if content and os.fork() == 0:
        listener.close()
        start_and_wait(json.loads(content), streams, connection)
    for descriptor in streams:
        os.close(descriptor)
    connection.close()


def start_and_wait(request: dict[str, Any], streams: list[int], connection: socket.socket) -> None:
    """Fork the script's process, send its number and, when it has ended, its exit status; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        connection.close()
        run_to_the_end(request, streams)

    def kill_with_client() -> None:
        with contextlib.suppress(ConnectionError):
            connection.recv(1)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    connection.sendall(b"%d\n" % process)
    threading.Thread(target=kill_with_client, daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % status)
    os._exit(0)


def run_to_the_end(request: dict[str, Any], streams: list[int]) -> None:
    """Run a script and end as the interpreter does: exit handlers, flushed streams, status; does not return."""
    status: Any = 0
    try:
        redirect(streams)
        run(**request)
    except SystemExit as stopped:
        status = stopped.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def redirect(streams: list[int]) -> None:
    """Make three file descriptors stdin, stdout and stderr, in the encoding that the interpreter would use."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, (descriptor, name) in enumerate(zip(streams, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(descriptor, number)
        os.close(descriptor)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", buffering=1, encoding=encoding, errors=errors or None, closefd=False))


def run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Become `python ARGUMENTS` in a folder."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "RENDER" not in environment:
        skip_rendering()
    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], ""
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def skip_rendering() -> None:
    """Make every figure a PNG of one pixel."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save_blank(figure: Figure, target: str | Path, **_: Any) -> None:
        Image.new("RGB", (1, 1)).save(target, format="png")

    Figure.savefig = save_blank


def import_slow_packages() -> None:
    import accelerate  # noqa: F401
    import bitsandbytes  # noqa: F401
    import matplotlib
    import matplotlib.pyplot as plt
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import scipy.optimize  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch  # noqa: F401
    from PIL import Image  # noqa: F401
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.models import bert, distilbert, gemma, mistral  # noqa: F401

    matplotlib.use("Agg")
    plt.close(plt.subplots()[0])  # finds fonts
    get_checkpoint_conversion_mapping("bert")  # a cache: 0.3 s of each script
    gc.collect()
    gc.freeze()  # otherwise each script's collections walk all of this: 0.5 s


if __name__ == "__main__":
    listening = socket.socket(fileno=int(sys.argv[1]))
    import_slow_packages()
    serve(listening)
