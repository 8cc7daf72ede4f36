"""Compare runs that evaluate.py has scored on the test split: accuracy, cost and scaling in one report.

    python compare.py runs/tfidf runs/minilm runs/minilm-lora --output comparison
    python compare.py runs/* --output comparison --price-per-hour 0.5 --data path/to/goemotions

run folders -> tables and tests -> report.html (one self-contained page), report.md, CSV tables, plots.
"""

from emotion.errors import ConfigError, DataError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import sys
    from dataclasses import replace
    from pathlib import Path
    from typing import TYPE_CHECKING

    from emotion.arguments import ArgumentParser
    from emotion.paths import expand_home

if TYPE_CHECKING:
    from emotion.evaluation.comparison.runs import Run


def main() -> int:
    arguments = parse_arguments()
    from emotion.evaluation.comparison.report import write_comparison
    from emotion.evaluation.comparison.runs import check_comparable
    from emotion.evaluation.document import format_plain
    from emotion.tracking.finished_runs import read_finished_run

    runs = [read_finished_run(path) for path in arguments.runs]
    check_comparable(runs)  # before anything slow
    texts = read_test_texts(runs[0], arguments.runs[0], arguments.data)
    output = Path(arguments.output)
    for sentence in write_comparison(output, runs, texts, arguments.price_per_hour, not arguments.no_texts):
        print(format_plain(sentence))
    print(f"\n{output}: report.html, report.md, tables as CSV, plots")
    return 0


def read_test_texts(run: "Run", path: str, source: str | None) -> list[str] | None:
    """Return the texts of the test rows, of a run in the folder `path`. Return None and print the reason if the data is missing or has
    other rows.

    Raises: DataError for such data if the user named it with --data.
    """
    from emotion.data.reading.labelled_rows import read_labelled_rows
    from emotion.tracking.run_folder import RunFolder
    from emotion.tracking.run_rows import read_rows

    config = replace(run.config.data, train_fraction=1.0)
    if source is not None:
        config = replace(config, source=source, train=None, validation=None, test=None)
    reason = f"{config.source} is not a local file or folder"
    if source is not None or config.train or config.source == "sample" or Path(config.source).exists():  # else it would be downloaded
        try:
            remembered = read_rows(RunFolder(Path(path)))
            examples = read_labelled_rows(replace(run.config, data=config), "test", None, (), run.label_set, remembered).examples
            if examples.ids == run.ids:
                return examples.texts
            raise DataError(f"{config.name}: its test rows are not those that the runs were tested on")
        except DataError as error:
            if source is not None:
                raise
            reason = str(error)
    print(f"no texts in the report: {reason}; name the data with --data FOLDER", file=sys.stderr)
    return None


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument(
        "runs", type=expand_home, nargs="+", metavar="RUN", help="run folders; runs that differ only in their seed count as one model"
    )
    parser.add_argument("--output", type=expand_home, required=True, metavar="FOLDER", help="folder of the report")
    parser.add_argument("--price-per-hour", type=float, metavar="X", help="price of one hour on the machine, in any currency")
    parser.add_argument(
        "--data", type=expand_home, metavar="SOURCE", help="data with the test texts, if it is no longer where the runs read it"
    )
    parser.add_argument("--no-texts", action="store_true", help="quote no texts, for a report that is shared with others")
    arguments = parser.parse_args()
    if arguments.price_per_hour is not None and arguments.price_per_hour <= 0:
        raise ConfigError(f"--price-per-hour {arguments.price_per_hour:g}: must be above 0")
    paths = [Path(path).resolve() for path in arguments.runs]
    if duplicates := [path for path in paths if paths.count(path) > 1]:
        raise ConfigError(f"{duplicates[0].name}: is named twice; name each run once")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
