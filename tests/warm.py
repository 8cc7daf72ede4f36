"""A process that has the heavy packages imported and forks a fresh one for each command: a script starts in .2 s in place of 5.

Requests come as JSON lines on stdin: {"words", "folder", "environment", "files"}; each is answered by the number of the new
process, and, when it has ended, by its exit status (negative: the signal). Nothing of this project is imported beforehand.
Pictures are painted but not rendered, which would take half of a tiny run, unless the environment has `RENDER`.
"""

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401
import bitsandbytes  # noqa: F401
import matplotlib
import matplotlib.pyplot
import pandas  # noqa: F401
import peft  # noqa: F401
import pyarrow.parquet  # noqa: F401
import scipy.optimize  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch  # noqa: F401
from matplotlib.figure import Figure
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401
from transformers.models import bert, distilbert, gemma, mistral  # noqa: F401


def save_blank(figure: Figure, target: str | Path, **_: Any) -> None:
    """Write a PNG of one pixel in a figure's place."""
    Image.new("RGB", (1, 1)).save(target, format="png")


def run(words: list[str], folder: str, environment: dict[str, str], files: list[str]) -> None:
    """Become `python WORDS` in a folder, with stdin, stdout and stderr in `files`."""
    os.setsid()
    for number, (path, flags) in enumerate(zip(files, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(path, flags), number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, os.fdopen(number, "w" if number else "r", buffering=1, encoding="utf-8", closefd=False))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "RENDER" not in environment:
        Figure.savefig = save_blank
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], ""
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


def finish(request: dict[str, Any]) -> None:
    """Run a request to its end and leave as the interpreter would: exit handlers, flushed streams, status."""
    import atexit
    import traceback

    status: Any = 0
    try:
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


if __name__ == "__main__":
    matplotlib.use("Agg")
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            finish(json.loads(line))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
