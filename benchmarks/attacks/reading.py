"""Groups of `benchmarks.hostile` on files of rows: cells, time and memory, parquet, values, formulas."""

import csv
import gzip
import importlib
import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.attacks.scripts import Target, Trials, change_json, expect

CHARACTERS = [*map(chr, range(1, 32)), "\r", "\n", "\r\n", '"', '"', ",", ";", "\\", "'", "\x7f", "\x85", "\u2028", "\ufeff", "a", " ", "é"]
OPEN_QUOTES = {'x",y"z,"': 1_600, '"a': 4_000, 'a"b': 4_000, '"a""b': 4_000, '"",""x': 4_000, 'a,"b",c"': 4_000}
"""Lines whose quotes do not close, and how many of them a file has: 50 KB at most, which a reader may take a few seconds for."""
READING_SECONDS = 20
LINE_BYTES = 128 * 2**20
MAX_EXTRA_BYTES = 100 * 2**20
"""By how much a line of `LINE_BYTES` may raise the peak memory."""
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


def attack_cells(target: Target, folder: Path) -> Trials:
    """Random cells of control characters, quotes, separators and newlines come back from every reader."""
    endings = [
        *[("csv", "csv")] * 6,
        ("jsonl", "csv"),
        ("jsonl", "csv"),
        ("csv.gz", "csv"),
        ("csv", "jsonl"),
        ("csv", "parquet"),
        ("csv", "csv.gz"),
    ]
    for number, (source, output) in enumerate(endings):
        yield f"{number}: {source} to {output}", partial(check_cells, target, source, output)


def check_cells(target: Target, source_ending: str, output_ending: str, tmp_dir: Path, generator: random.Random) -> None:
    rows = [[str(i), make_cell(generator), f"ok {make_cell(generator)}"] for i in range(60)]
    names = ["id", "note", "text"]
    if source_ending == "jsonl":
        content = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    else:
        stream = io.StringIO(newline="")
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([names, *rows])
        content = stream.getvalue()
    source, output = tmp_dir / f"in.{source_ending}", tmp_dir / f"out.{output_ending}"
    source.write_bytes(gzip.compress(content.encode()) if source_ending.endswith("gz") else content.encode())
    target.score(source, output).check_done()
    for reader, read in CELL_READERS.items():
        if reader in output.name:
            expect(read(output) == rows, f"other rows or cells by {reader}")
    if output_ending == "csv":
        for reader, read in CSV_READERS.items():
            found = read(output)
            expect(len(found) == len(rows), f"{len(found)} rows in place of {len(rows)} by {reader}")
            expect(found == rows, f"other cells by {reader}")


def make_cell(generator: random.Random) -> str:
    return "".join(generator.choices(CHARACTERS, k=generator.randint(0, 6)))


def read_csv_rows(path: Path) -> list[list[str]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [row[:3] for row in csv.reader(io.StringIO(content.decode(), newline=""), strict=True)][1:]


def read_with_pyarrow(path: Path) -> list[list[str]]:
    texts = pa_csv.ConvertOptions(column_types=dict.fromkeys(("id", "note", "text", "predicted_labels"), pa.string()))
    table = pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(newlines_in_values=True), convert_options=texts)
    return [[row[name] for name in ("id", "note", "text")] for row in table.to_pylist()]


def read_with_duckdb(path: Path) -> list[list[str]]:
    query = "SELECT id, note, text FROM read_csv(?, header=true, all_varchar=true, delim=',', quote='\"', escape='\"', auto_detect=false, "
    query += "columns={'id': 'VARCHAR', 'note': 'VARCHAR', 'text': 'VARCHAR', 'predicted_labels': 'VARCHAR'}, parallel=false)"
    found = importlib.import_module("duckdb").execute(query, [str(path)]).fetchall()
    return [[value or "" for value in row] for row in found]


CSV_READERS: dict[str, Callable[[Path], list[list[str]]]] = {"csv": read_csv_rows, "pyarrow": read_with_pyarrow}
if importlib.util.find_spec("duckdb"):
    CSV_READERS["duckdb"] = read_with_duckdb
CELL_READERS: dict[str, Callable[[Path], list[list[str]]]] = {
    ".csv.gz": read_csv_rows,
    ".jsonl": lambda path: [list(json.loads(line).values())[:3] for line in path.read_text(encoding="utf-8").split("\n") if line],
    ".parquet": lambda path: [list(row.values())[:3] for row in pq.read_table(path).to_pylist()],
}


def attack_reader(target: Target, folder: Path) -> Trials:
    """Quotes that do not close take no more than linear time; a line without end takes no more memory than a short one."""
    for line, count in OPEN_QUOTES.items():
        yield f"{count} lines {line}", partial(check_time, target, "csv", "id,text\n" + f"{line}\n" * count)
    yield "nested JSON", partial(check_time, target, "jsonl", '{"text": ' + "[" * 100_000 + "\n" + '{"text": "a"}\n')
    yield "a row of a million cells", partial(check_time, target, "tsv", "id\ttext\n1\ta\n" + "\t" * 1_000_000 + "\n")
    long_line = folder / "long.gz"
    with gzip.open(long_line, "wb", compresslevel=1) as stream:
        stream.write(b"text\n")
        for _ in range(LINE_BYTES // 2**20):
            stream.write(b"a" * 2**20)
        stream.write(b"\nthe last row\n")
    for ending in ("csv", "tsv", "jsonl"):
        yield f"a line of {LINE_BYTES // 2**20} MiB in {ending}", partial(check_memory, target, ending, long_line)
    quoted = folder / "quoted.gz"
    with gzip.open(quoted, "wb", compresslevel=1) as stream:
        stream.write(b'text\n"')
        for _ in range(LINE_BYTES // 2**20):
            stream.write(b"two," + b"a" * 2**20 + b" cells\n")
    yield f"a quoted cell of {LINE_BYTES // 2**20} MiB", partial(check_memory, target, "csv", quoted)


def check_time(target: Target, ending: str, content: str, tmp_dir: Path, generator: random.Random) -> None:
    source = tmp_dir / f"in.{ending}"
    source.write_text(content)
    target.score(source, tmp_dir / "out.csv", limit=READING_SECONDS).check()


def check_memory(target: Target, ending: str, content: Path, tmp_dir: Path, generator: random.Random) -> None:
    small, source = tmp_dir / "small.csv", tmp_dir / f"in.{ending}.gz"
    small.write_text("text\na\n")
    source.hardlink_to(content)
    usual = target.score(small, tmp_dir / "small-out.csv").peak_bytes
    result = target.score(source, tmp_dir / "out.csv")
    expect(result.peak_bytes < usual + MAX_EXTRA_BYTES, f"{(result.peak_bytes - usual) / 2**20:,.0f} MiB more than for a short line")
    result.check()


def attack_formulas(target: Target, folder: Path) -> Trials:
    """`--excel-safe` leaves no cell of a csv that a spreadsheet takes for a formula; without it cells pass unchanged."""
    for formula in FORMULAS:
        yield f"a cell {formula!r}", partial(check_formula, target, formula, True)
    yield "a label", partial(check_formula_label, target)
    yield "a cell without the option", partial(check_formula, target, "=1+1", False)


def check_formula(target: Target, formula: str, is_safe: bool, tmp_dir: Path, generator: random.Random) -> None:
    source, output = tmp_dir / "in.csv", tmp_dir / "out.csv"
    with source.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["note", "text"], [formula, "a"], ["plain", formula + " text"]])
    target.score(source, output, *["--excel-safe"] * is_safe).check_done()
    rows = [*csv.reader(io.StringIO(output.read_bytes().decode(), newline=""))][1:]
    expect(len(rows) == 2, f"{len(rows)} rows in place of 2")
    if is_safe:
        expect(not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row), "a cell begins as a formula")
        expect(rows[0][0].endswith(formula) and rows[1][0] == "plain", "cells are changed")
    else:
        expect(rows[0][0] == formula, "the cell is changed")


def check_formula_label(target: Target, tmp_dir: Path, generator: random.Random) -> None:
    model, output = target.copy_model(tmp_dir / "model"), tmp_dir / "out.csv"
    change_json(model / "emotion.json", labels=["=HYPERLINK(1)", "+b", "-c", "@d"])
    (tmp_dir / "in.csv").write_text("text\na\n")
    target.score(tmp_dir / "in.csv", output, "--excel-safe", "--empty-set", "top1", model=model).check_done()
    labels = output.read_text().splitlines()[1].split(",")[1]
    expect(labels and labels.strip('"')[0] not in "=+-@", f"a cell begins as a formula: {labels!r}")
