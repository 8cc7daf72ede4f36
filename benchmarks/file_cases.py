"""What happens to files as people have them? Train, evaluate and score every file of a folder, with TF-IDF, and print a table.

    python -m benchmarks.file_cases --cases path/to/files --output file_cases.json

Each file or folder is the data of a run of `configs/tfidf.yaml`, whose test split is evaluated. The texts of a file are also scored, with a
model of the bundled corpus. A refusal is shown by the line that the script prints.
"""

import argparse
import contextlib
import io
import re
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from emotion.errors import exit_on_error
from emotion.files import write_json

DATA, JUDGED, SCORED = re.compile(r"^data: (.*)"), re.compile(r"^test, ([\d,]+ rows)"), re.compile(r": ([\d,]+ rows) in .*\); (.*)")
"""What the scripts say about a file: how it was read, how many rows were judged, how many were scored."""
LEFT_OUT = ("rows split off", "labels with fewer than", " rows; ", ", test ")
"""What is left out of the table: the sizes of splits and of labels."""
SETTINGS = ("tracking.backend=none", "data.test_fraction=0.2", "data.validation_fraction=0.2")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", required=True, type=Path, metavar="FOLDER", help="folder with files and folders of data")
    parser.add_argument("--only", default="", metavar="TEXT", help="only names that begin with this")
    parser.add_argument("--output", default="file_cases.json", help="JSON file for the results (default: file_cases.json)")
    arguments = parser.parse_args()
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as tmp_dir:
        runs = f"run.folder={tmp_dir}"
        call("train.py", "--config", "configs/tfidf.yaml", "data.source=sample", runs, "run.name=scorer", "tracking.backend=none")
        for path in sorted(arguments.cases.iterdir()):
            if not path.name.startswith(arguments.only):
                continue
            name = f"case-{len(rows)}"
            row = {"case": path.name}
            data = f"data.source={path}"
            row["train"] = describe(
                call("train.py", "--config", "configs/tfidf.yaml", data, runs, f"run.name={name}", *SETTINGS), path, DATA
            )
            if not row["train"].startswith("refused"):
                row["evaluate"] = describe(call("evaluate.py", "--model", f"{tmp_dir}/{name}", "--split", "test"), path, JUDGED)
            if path.is_file():
                command = ("evaluate.py", "--model", f"{tmp_dir}/scorer", "--input", str(path), "--output", f"{tmp_dir}/{name}.csv")
                row["score"] = describe(call(*command), path, SCORED)
            rows.append(row)
            print(" | ".join(row.values()), file=sys.stderr, flush=True)
            write_json(Path(arguments.output), rows)
    print("| file | train | evaluate | score |\n|---|---|---|---|")
    for row in rows:
        print(
            "| "
            + " | ".join(row.get(key, "").replace("|", "\\|").replace("\n", " ") for key in ("case", "train", "evaluate", "score"))
            + " |"
        )
    return 0


def call(script: str, *options: str) -> tuple[Any, str]:
    """Run a script in this process and return its exit status and all that it prints."""
    stream = io.StringIO()
    before = sys.argv
    sys.argv = [script, *options]
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        return error.code, stream.getvalue()
    finally:
        sys.argv = before
    return 0, stream.getvalue()


def describe(result: tuple[Any, str], path: Path, pattern: re.Pattern[str]) -> str:
    """Return what a script said about the file: the parts of its lines that match, or the line of the refusal."""
    status, output = result
    lines = [line.strip() for line in output.replace("\r", "\n").splitlines()]
    if status not in (0, None):
        error = output.partition("error: ")[2].strip().splitlines()
        said = [f"refused: {' '.join(map(str.strip, error[:2] if error and error[0].endswith(':') else error[:1]))}"]
    else:
        found = [" ".join(match.groups()) for line in lines if (match := pattern.search(line))]
        said = [text for text in found if not any(part in text for part in LEFT_OUT)]
    return "; ".join(said).replace(f"{path}: ", "").replace(str(path), path.name)


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
