"""Compare runs that evaluate.py has scored on the test split: accuracy, cost and scaling in one report.

    python compare.py runs/tfidf runs/minilm runs/minilm-lora --output comparison
    python compare.py runs/* --output comparison --price-per-hour 0.5 --data path/to/goemotions
    python compare.py runs/minilm --predictions gpt=answers.csv --output comparison

run folders, predictions of other models -> tables and tests -> report.html (one self-contained page), report.md, CSV tables, plots.
"""

from emotion.errors import ConfigError, DataError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import math
    import sys
    from dataclasses import replace
    from pathlib import Path
    from typing import TYPE_CHECKING

    from emotion.arguments import ArgumentParser
    from emotion.paths import expand_home
    from emotion.text import print_message

if TYPE_CHECKING:
    from emotion.evaluation.comparison.runs import Run


def main() -> int:
    arguments = parse_arguments()
    from emotion.evaluation.comparison.report import write_comparison
    from emotion.evaluation.comparison.runs import check_comparable
    from emotion.evaluation.document import format_plain
    from emotion.tracking.finished_runs import read_external_run, read_finished_run
    from emotion.tracking.locating import check_output

    check_output(arguments.output)
    runs = [read_finished_run(path) for path in arguments.runs]
    labelled = runs[0]  # with the labels of the model, as its data has them
    check_comparable(runs)  # before the texts, which take longer
    for name, path in arguments.predictions:
        runs.append(read_external_run(name, path, runs[0]))
    if arguments.taxonomy is not None:
        runs = merge_runs(runs, arguments.taxonomy, arguments.runs)
    for run in runs:
        for note in run.notes:
            print_message(f"{run.name}: {note}")
    texts = read_test_texts(labelled, arguments.runs[0], arguments.data)
    output = Path(arguments.output)
    is_allowed = all(run.config.run.quote_texts for run in runs if run.config is not None)
    quote_texts, margin = is_allowed and not arguments.no_texts, arguments.equivalence_margin
    for sentence in write_comparison(output, runs, texts, arguments.price_per_hour, quote_texts, margin):
        print(format_plain(sentence))
    print(f"\n{output}: report.html, report.md, tables as CSV, plots")
    return 0


def merge_runs(runs: list["Run"], taxonomy: str, paths: list[str]) -> list["Run"]:
    """Return the runs with the parents of their labels, and print what is left out. `paths` are the folders of the first ones."""
    from emotion.evaluation.taxonomy import read_taxonomy
    from emotion.tracking.taxonomies import merge_run

    for note in read_taxonomy(taxonomy).apply(runs[0].label_set).notes:
        print_message(note)
    folders = [*paths, *[None] * (len(runs) - len(paths))]
    return [merge_run(run, taxonomy, folder) for run, folder in zip(runs, folders, strict=True)]


def read_test_texts(run: "Run", path: str, source: str | None) -> list[str] | None:
    """Return the texts of the test rows, of a run in the folder `path`. Return None and print the reason if the data is missing or has
    other rows.

    Raises: DataError for such data if the user named it with --data.
    """
    from emotion.data.reading.labelled_rows import read_labelled_rows
    from emotion.tracking.run_folder import RunFolder
    from emotion.tracking.run_rows import read_rows

    assert run.config is not None
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
    print_message(f"no texts in the report: {reason}; name the data with --data FOLDER")
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
    parser.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="predictions of another model: ids, and labels or probabilities",
    )
    parser.add_argument(
        "--taxonomy", type=expand_home, metavar="NAME|FILE", help="compare on coarser labels: ekman, sentiment, or a YAML file"
    )
    parser.add_argument(
        "--equivalence-margin", type=float, default=0.01, metavar="X", help="difference of scores that does not matter (default: 0.01)"
    )
    parser.add_argument("--no-texts", action="store_true", help="quote no texts, for a report that is shared with others")
    arguments = parser.parse_args()
    if arguments.price_per_hour is not None and not 0 < arguments.price_per_hour < math.inf:
        raise ConfigError(f"--price-per-hour {arguments.price_per_hour:g}: must be above 0, and finite")
    paths = [Path(path).resolve() for path in arguments.runs]
    if duplicates := [path for path in paths if paths.count(path) > 1]:
        raise ConfigError(f"{duplicates[0].name}: is named twice; name each run once")
    if not 0 < arguments.equivalence_margin < 1:
        raise ConfigError(f"--equivalence-margin {arguments.equivalence_margin:g}: must be in (0, 1)")
    arguments.predictions = [parse_predictions(word) for word in arguments.predictions]
    return arguments


def parse_predictions(word: str) -> tuple[str, str]:
    """Return name and file of a value of --predictions."""
    name, _, path = word.partition("=")
    if not name.strip() or not path:
        raise ConfigError(f"--predictions {word}: must be NAME=FILE, such as gpt=answers.csv")
    return name.strip(), expand_home(path)


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
