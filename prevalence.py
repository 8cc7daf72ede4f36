"""How common is each emotion, by time and group? Corrected for the model's errors, with intervals and tests.

    python prevalence.py --model runs/NAME --input scored.csv --by "month(date),source" --output report
    python prevalence.py --model runs/NAME --input comments.csv --by "week(created)" --cluster author --output report
    python prevalence.py --model runs/NAME --input scored.csv --by source --taxonomy ekman --output report

scored rows (evaluate.py --probabilities all), or rows that are scored first -> estimates, corrected on the model's validation rows ->
report.html (one self-contained page), report.md, prevalence.csv, changes.csv, plots.
"""

from emotion.errors import ConfigError, DataError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import re
    import sys
    import time
    from pathlib import Path
    from typing import TYPE_CHECKING

    from emotion.arguments import BACKBONE_OPTION, ArgumentParser, BeQuiet
    from emotion.paths import expand_home
    from emotion.text import print_message

if TYPE_CHECKING:
    from emotion.analysis.prevalence.grouping import Grouping
    from emotion.analysis.prevalence.levels import Levels
    from emotion.config import DataConfig


def main() -> int:
    arguments = parse_arguments()
    from emotion.analysis.prevalence.changes import list_comparisons, measure, sum_cells
    from emotion.analysis.prevalence.grouping import parse_grouping
    from emotion.analysis.prevalence.levels import Levels
    from emotion.analysis.prevalence.reading import read_scored
    from emotion.analysis.prevalence.report import Analysis, write_prevalences
    from emotion.analysis.prevalence.signs import TextChecker, find_signs, measure_validation
    from emotion.analysis.prevalence.validation import count_rows, read_stored, read_validation_texts
    from emotion.config import check_keys, load_config
    from emotion.evaluation.document import format_plain
    from emotion.inference.sidecar import find_model_folder, read_sidecar
    from emotion.labels import LabelSet
    from emotion.scoring.options import TEXT_KEYS
    from emotion.tracking.locating import check_output, choose_model
    from emotion.tracking.taxonomies import fit_taxonomy

    grouping = parse_grouping(arguments.by, arguments.date_format)
    check_keys(arguments.overrides, TEXT_KEYS, "the model keeps the settings that it was trained with")
    config = load_config(None, arguments.overrides).data
    model, choice = choose_model(arguments.model)
    print_message(f"model: {model} ({choice})" if choice else f"model: {model}")
    folder = find_model_folder(model)
    sidecar, rule = read_sidecar(folder)
    labels = LabelSet(sidecar.labels)
    parents = fit_taxonomy(arguments.taxonomy, folder, labels) if arguments.taxonomy else None
    levels = Levels(labels, rule, parents)
    stored = read_stored(model, levels)  # before anything slow
    check_output(arguments.output)
    output = Path(arguments.output)
    paths, config = score_first(arguments, model, config, levels, grouping)
    started = time.perf_counter()
    scored = read_scored(paths, grouping, levels, config, arguments.cluster)
    validation = count_rows(stored, levels, scored.label_set)
    notes = [*(parents.level.notes if parents else ()), *scored.notes, *scored.skipped.describe()]
    texts, reason = read_validation_texts(folder, validation.ids, labels) if scored.has_texts else (None, "the input has no text column")
    if texts is None:
        notes.append(f"texts were not compared with those of the validation rows: {reason}")
    for note in notes:
        print_message(f"data: {note}")
    cells = sum_cells(scored.counter.cells)
    checker = TextChecker(Path(folder), sidecar)
    signs = find_signs(cells, measure_validation(validation, texts, checker), checker)
    pairs = list_comparisons(cells)  # adds the cells of all other groups, in which no signs are looked for
    prevalences = measure(cells, validation, pairs)
    for sentence in write_prevalences(
        output, Analysis(levels.label_set, cells, validation, prevalences, signs, notes), not arguments.no_texts
    ):
        print(format_plain(sentence))
    seconds = time.perf_counter() - started
    print(f"\n{output}: report.html, report.md, prevalence.csv, changes.csv, plots ({scored.num_rows:,} rows in {seconds:.0f} s)")
    return 0


def score_first(
    arguments: argparse.Namespace, model: str, config: "DataConfig", levels: "Levels", grouping: "Grouping"
) -> tuple[tuple[Path, ...], "DataConfig"]:
    """Return the files and how to read them if they are scored; otherwise a file in the output folder, which is scored now or reused."""
    import pyarrow.parquet as pq

    from emotion.analysis.prevalence.reading import is_scored
    from emotion.config import DataConfig
    from emotion.data.reading.streams import expand_patterns

    paths = expand_patterns(arguments.input)
    resolved = [path.resolve() for path in paths]
    if repeated := [path for path, own in zip(paths, resolved, strict=True) if resolved.count(own) > 1]:
        raise DataError(f"{repeated[0]}: is named more than once by --input, so its rows would count more than once; name each file once")
    scored = [is_scored(path, grouping, levels, config, arguments.cluster) for path in paths]
    if all(scored):
        return paths, config
    if any(scored):
        raise DataError(f"{paths[scored.index(False)]}: is not scored, but {paths[scored.index(True)]} is; give files of one sort")
    from emotion.scoring.commands import score_or_reuse
    from emotion.scoring.manifest import ScoringJob

    job = ScoringJob(paths, Path(arguments.output) / "scored.parquet", config, "all", model=model)
    score_or_reuse(job, arguments.backbone)
    is_column = config.text_column in pq.read_schema(job.output).names  # and not a path within one; no other setting is of parquet
    return (job.output,), DataConfig(text_column=config.text_column if is_column else None)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add(
        "--model",
        type=expand_home,
        metavar="FOLDER",
        help="run folder, or model folder with validation predictions (default: the newest finished run, or else the bundled model)",
    )
    add("--backbone", type=expand_home, **BACKBONE_OPTION)
    add(
        "--input",
        type=expand_home,
        metavar="FILE",
        nargs="+",
        required=True,
        help="files scored with --probabilities all, or files to score first",
    )
    add("--by", required=True, metavar="COLUMNS", help="columns to group by, such as 'month(date),source': day, week, month, quarter, year")
    add("--date-format", metavar="FORMAT", help="format of the dates, such as %%d/%%m/%%Y, or unix for seconds (default: ISO 8601)")
    add("--cluster", metavar="COLUMN", help="author or thread: rows with the same value are not independent")
    add("--taxonomy", type=expand_home, metavar="NAME|FILE", help="coarser labels: ekman, sentiment, or a YAML file of parents")
    add("--output", type=expand_home, required=True, metavar="FOLDER", help="folder of the report")
    add("--no-texts", action="store_true", help="quote no texts, for a report that is shared with others")
    add("overrides", nargs="*", metavar="data.key=value", help="how to read the rows, such as data.text_column=body")
    add("--quiet", action=BeQuiet, help="print results and errors only")
    arguments = parser.parse_intermixed_args()
    settings = [word for word in arguments.input if re.match(r"data\.[a-z_]+=", word)]  # `--input a.csv data.text_column=body`
    arguments.input = [word for word in arguments.input if word not in settings]
    arguments.overrides += settings
    if "-" in arguments.input:
        raise ConfigError("--input -: is read twice, so it cannot be stdin; write it to a file")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
