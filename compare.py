"""Compare runs whose test split was opened: accuracy, cost and scale in one report.

    python compare.py runs/tfidf runs/minilm runs/minilm-lora --output comparison
    python compare.py runs/* --output comparison --price-per-hour 0.5 --data path/to/goemotions

run folders -> tables and tests -> report.html (one page), report.md, CSV tables, pictures.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.errors import ConfigError, DataError, exit_on_error

if TYPE_CHECKING:
    from emotion.evaluation.comparison.runs import Run


def main() -> int:
    arguments = parse_arguments()
    from emotion.evaluation.comparison.report import write_comparison
    from emotion.evaluation.comparison.runs import check_comparable
    from emotion.tracking.finished_runs import read_finished_run

    runs = [read_finished_run(path) for path in arguments.runs]
    check_comparable(runs)  # before anything slow
    texts = read_test_texts(runs[0], arguments.data)
    output = Path(arguments.output)
    for sentence in write_comparison(output, runs, texts, arguments.price_per_hour, not arguments.no_texts):
        print(sentence.replace("**", ""))
    print(f"\n{output}: report.html, report.md, tables as CSV, pictures")
    return 0


def read_test_texts(run: "Run", source: str | None) -> list[str] | None:
    """Return the texts of the test rows, None (and a word about it) if the data is not at hand or not the same.

    Raises: DataError if the user named the data.
    """
    from emotion.data.reading import read_dataset

    is_local = source is not None or run.config.data.train or run.config.data.source == "sample" or Path(run.config.data.source).exists()
    reason = f"{run.config.data.source} is not here"
    if is_local:  # a data set on the Hub is not downloaded for a few example texts
        config = replace(run.config.data, source=source, train=None, validation=None, test=None) if source else run.config.data
        try:
            examples = read_dataset(replace(config, train_fraction=1.0))["test"]
        except DataError as error:
            if source is not None:
                raise
            reason = str(error)
        else:
            if examples.ids == run.ids:
                return examples.texts
            reason = f"{config.name}: its test rows are not those that the runs were tested on"
            if source is not None:
                raise DataError(f"--data {reason}")
    print(f"no texts in the report: {reason}; name the data with --data FOLDER", file=sys.stderr)
    return None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; those that differ in their seed alone count as one model")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the report goes")
    parser.add_argument("--price-per-hour", type=float, metavar="X", help="price of an hour of the machine, in any currency")
    parser.add_argument("--data", metavar="SOURCE", help="where the test texts are, if not where the runs found them")
    parser.add_argument("--no-texts", action="store_true", help="quote no text, for a report that others will see")
    arguments = parser.parse_args()
    if arguments.price_per_hour is not None and arguments.price_per_hour <= 0:
        raise ConfigError(f"--price-per-hour {arguments.price_per_hour:g}: must be above 0")
    names = [Path(path).resolve() for path in arguments.runs]
    if twice := [path for path in names if names.count(path) > 1]:
        raise ConfigError(f"{twice[0].name}: is named twice; name each run once")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
