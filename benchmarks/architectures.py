"""Which architectures work: train, reload, verify and export a tiny random checkpoint of each one with a sequence-classification head.

    python -m benchmarks.architectures --output runs/architectures                       # all of transformers; finished ones are kept
    python -m benchmarks.architectures --output runs/architectures --only bert gpt2 t5
    python -m benchmarks.architectures --output runs/architectures --page docs/models.md  # also write the table into the page

Each variant runs `train.py` for two steps, `export.py --verify` and `export.py --onnx` in a process of its own with a time limit, so that
a crash or an endless loop of one ends neither the others nor the table. A cell is `works`, or the line that the script ends with.
"""

import argparse
import gc
import json
import multiprocessing
import re
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from emotion.errors import EmotionError
from emotion.files import write_json

VARIANTS = {"full": [], "LoRA": ["lora.r=4"], "NF4": ["lora.r=4", "model.quantization=nf4"]}
"""Settings of each variant."""
COLUMNS = ("full", "LoRA", "NF4", "verify", "ONNX")
WORKS = "works"
CELLS = "cells.json"
START, END = "<!-- architectures: written by benchmarks/architectures.py -->", "<!-- end of architectures -->"
TEXTS = ("thank you so much", "I am afraid of the dark", "what a day", "this is awful and I am angry", "ok", "oh no, not again!")
ROWS = {"train": 16, "validation": 8, "test": 8}
SETTINGS = ["data.max_length=16", "training.epochs=1", "training.per_device_batch_size=8", "training.validations_per_epoch=1"]
SECONDS = 150
"""Time limit of a variant."""
PRELOADED = ("train", "export", "peft", "bitsandbytes")
ONNX_PRELOADED = ("emotion.export.onnx_export", "onnxruntime.quantization", "onnxscript")
"""Modules that are imported once: the processes are forks of this one."""


def main() -> int:
    arguments = parse_arguments()
    names = arguments.only or list_architectures()
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    write_data(output / "data")
    context = preload(arguments.skip_onnx)
    for name in names:
        result = output / f"{name}.json"
        cells = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
        for variant in VARIANTS:
            if not is_done(cells.get(variant), variant, arguments.skip_onnx):
                cells[variant] = run_alone(context, name, variant, output, arguments)
        write_json(result, cells)
        print(f"{name}: {json.dumps(read_cells(result))}", flush=True)
    if arguments.page:
        write_page(Path(arguments.page), {name: read_cells(output / f"{name}.json") for name in sorted(names)})
    return 0


def preload(is_onnx_skipped: bool) -> Any:
    """Import what the processes need, and return the context of processes that are forks of this one."""
    for module in PRELOADED if is_onnx_skipped else PRELOADED + ONNX_PRELOADED:
        import_module(module)
    gc.freeze()
    return multiprocessing.get_context("fork")


def list_architectures() -> list[str]:
    """Return the model types that transformers has a sequence-classification head for."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def write_data(folder: Path) -> None:
    """Write a few rows with two labels."""
    folder.mkdir(exist_ok=True)
    for split, num_rows in ROWS.items():
        rows = [f'"{TEXTS[row % len(TEXTS)]}, {split} {row}",{"joy" if row % 2 else "fear"}' for row in range(num_rows)]
        (folder / f"{split}.csv").write_text("text,labels\n" + "\n".join(rows) + "\n", encoding="utf-8")


def is_done(cells: dict[str, str] | None, variant: str, is_onnx_skipped: bool) -> bool:
    """Return whether a variant needs no run: it has its cells, with that of ONNX if it is a full model that works."""
    if cells is None:
        return False
    return is_onnx_skipped or variant != "full" or cells[variant] != WORKS or "ONNX" in cells


def run_alone(context: Any, name: str, variant: str, output: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the cells of a variant, by column, computed in a process of its own."""
    seconds = arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / CELLS
        process = context.Process(target=run_variant, args=(name, variant, Path(folder), output / "data", arguments.skip_onnx))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
            return {variant: f"not finished after {seconds:.0f} s"}
        return json.loads(answer.read_text()) if answer.is_file() else {variant: f"crash (exit status {process.exitcode})"}


def run_variant(name: str, variant: str, folder: Path, data: Path, is_onnx_skipped: bool) -> None:
    """Make the checkpoint, train it, verify the model and, if it is a full one, export it to ONNX; write the cells to `CELLS`."""
    sys.stdout = sys.stderr = (folder / "output.txt").open("w", encoding="utf-8")
    from benchmarks.tiny_checkpoints import make_checkpoint
    from emotion.training.run import Run

    Run.write_results = lambda *_: None  # type: ignore[method-assign]  # its pictures take longer than all else, and are of any model
    cells: dict[str, str] = {}
    base, run = folder / "base", folder / "run"
    if (message := describe_end(lambda: make_checkpoint(name, base))) != WORKS:
        cells = {variant: f"no tiny checkpoint: {message}"}
    else:
        words = [
            "--config",
            "configs/quickstart.yaml",
            f"model.backbone={base}",
            f"data.source={data}",
            f"run.folder={folder}",
            "run.name=run",
        ]
        cells[variant] = describe_end(lambda: call_script("train", [*words, *SETTINGS, *VARIANTS[variant]]))
        if cells[variant] == WORKS:
            cells["verify"] = describe_end(lambda: call_script("export", ["--model", str(run), "--verify"]))
            if variant == "full" and not is_onnx_skipped:
                cells["ONNX"] = describe_end(lambda: call_script("export", ["--model", str(run), "--onnx"]))
    write_json(folder / CELLS, {column: hide_folder(cell, folder) for column, cell in cells.items()})


def call_script(name: str, words: list[str]) -> None:
    """Run a script's main function in this process. Raises: what it raises, RuntimeError if it ends with another status than 0."""
    module: Any = import_module(name)
    sys.argv = [f"{name}.py", *words]
    if (status := module.main()) != 0:
        raise RuntimeError("the variants differ" if name == "export" else f"exit status {status}")


def describe_end(call: Callable[[], None]) -> str:
    """Return `works`, the line of a user's error, or the type and message of a traceback."""
    try:
        call()
    except EmotionError as error:
        return str(error).splitlines()[0]
    except (Exception, SystemExit) as error:
        return f"traceback: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return WORKS


def hide_folder(message: str, folder: Path) -> str:
    """Return a message without the temporary folder's name."""
    return re.sub(rf"{re.escape(str(folder))}/?", "", message)


def read_cells(path: Path) -> dict[str, str]:
    """Return the cells of an architecture, by column: `verify` works if it does for each variant that was trained."""
    variants = json.loads(path.read_text(encoding="utf-8"))
    cells = {column: cell for values in variants.values() for column, cell in values.items() if column != "verify"}
    verified = {variant: values["verify"] for variant, values in variants.items() if "verify" in values}
    failed = [f"{variant}: {cell}" for variant, cell in verified.items() if cell != WORKS]
    return cells | ({"verify": "; ".join(failed) or WORKS} if verified else {})


def write_page(page: Path, results: dict[str, dict[str, str]]) -> None:
    """Write the table between the markers of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n\n{format_table(results)}\n{END}{after}", encoding="utf-8")


def format_table(results: dict[str, dict[str, str]]) -> str:
    """Return the results as a Markdown table; each line other than `works` is a number, explained below."""
    notes: dict[str, int] = {}
    lines = [f"| architecture | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, cells in results.items():
        shown = []
        for column in COLUMNS:
            cell = cells.get(column, "")
            shown.append(cell if cell in ("", WORKS) else f"line {notes.setdefault(cell, 1 + len(notes))}")
        lines.append(f"| `{name}` | {' | '.join(shown)} |")
    return "\n".join([*lines, "", *(f"{number}. `{note.replace('`', chr(39))}`" for note, number in notes.items()), ""])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder of the results, one JSON file for each architecture")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="model types, such as bert (default: all)")
    parser.add_argument("--page", metavar="FILE", help="write the table between the markers of this page")
    parser.add_argument("--skip-onnx", action="store_true", help="leave out ONNX, which takes longest; a later call without it adds it")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit of a variant (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
