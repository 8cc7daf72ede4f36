"""Score a trained model on labelled rows, or score files of any size with it.

    python evaluate.py --model runs/NAME --split test
    python evaluate.py --model runs/NAME --input FILE --output FOLDER [data.text_column=...]
    python evaluate.py --model runs/NAME --input FILE ... --output SCORED.csv [--probabilities all] [--shard 2/8]
    python evaluate.py --model runs/NAME --split test --taxonomy ekman
    python evaluate.py --join SCORED.csv
    python evaluate.py --model runs/NAME --behaviour [SUITE]
    python evaluate.py --model runs/NAME --input "FOLDER/*.parquet" --output FOLDER --engine ray

model + split or labelled file -> probabilities -> stored decision rule -> index.html, metrics.json, per_label.csv, plots.
model + files of any size -> one scored file: the input's rows in order, with labels (and probabilities) added.
model + behaviour checks -> pass rates of capabilities such as negation, the worst cases, gaps between identity terms.
"""

from emotion.errors import ConfigError, DataError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import os
    import re
    import sys
    import time
    from pathlib import Path

    from emotion.arguments import BACKBONE_OPTION, MODEL_OPTION, ArgumentParser, BeQuiet
    from emotion.config import load_config
    from emotion.paths import expand_home
    from emotion.scoring.commands import fit_parents_of, join, score, score_on_ray
    from emotion.scoring.options import check_options, is_scored_file, refuse_moved_options
    from emotion.text import escape_controls, print_message


def main() -> int:
    arguments = parse_arguments()
    if arguments.join is not None:
        return join(Path(arguments.join), arguments.overwrite)
    from emotion.tracking.locating import choose_model

    model, choice = choose_model(arguments.model)
    process, num_processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if process == 0:
        print_message(f"model: {model} ({choice})" if choice else f"model: {model}")
    if arguments.engine is not None:
        return score_on_ray(arguments, model)
    if is_scored_file(arguments.output):
        return score(arguments, model, process, num_processes)
    if num_processes > 1:
        raise ConfigError(f"{num_processes} processes: only scored files (--output FILE.csv) are written by several; start one process")
    return evaluate(arguments, model) if arguments.behaviour is None else check_behaviour(arguments, model)


def evaluate(arguments: argparse.Namespace, model: str) -> int:
    """Write and print the report of a model on a split of its run's data, or on a labelled file."""
    from emotion.evaluation.reporting import format_report, write_report
    from emotion.evaluation.rows import ScoredRows
    from emotion.evaluation.summary import summarize
    from emotion.export.model_card import complete_card
    from emotion.files import write_json
    from emotion.inference.predictor import Predictor
    from emotion.inference.sidecar import find_model_folder, read_sidecar
    from emotion.inference.speed import predict_timed
    from emotion.labels import LabelSet
    from emotion.tracking.findings import collect_findings, format_findings
    from emotion.tracking.locating import choose_output, find_run_of_model
    from emotion.tracking.run_rows import read_rows_to_score
    from emotion.tracking.taxonomies import merge_rows

    folder = find_model_folder(model)
    run = find_run_of_model(folder)
    label_set = LabelSet(read_sidecar(folder)[0].labels)
    parents = fit_parents_of(arguments.taxonomy, folder, label_set)
    file = arguments.input[0] if arguments.input else None
    split = Path(file).stem if file else arguments.split or "test"
    gold_labels = label_set if parents is None or file is None else parents.level.gold_labels
    output = choose_output(arguments.output, run, folder)
    if file and output is not None and output.path.resolve() in (run and run.path.resolve(), Path(folder).resolve()):
        raise ConfigError(f"--output {arguments.output}: is the folder of the model, whose own reports are kept; choose another folder")
    rows = read_rows_to_score(run, split, file, arguments.overrides, gold_labels)
    if parents is not None:
        rows, label_set = merge_rows(rows, parents.level), parents.label_set
    examples = rows.examples
    for message in [*rows.messages, *rows.notes]:
        print_message(f"data: {message}")
    if not examples.labels.any():
        raise DataError(f"{file or split}: none of its {len(examples):,} rows has a gold label of the model, so there is nothing to judge")
    predictor = Predictor.load(model, backbone=arguments.backbone)
    rule = (predictor if parents is None else parents).rule.with_overrides(arguments.threshold, arguments.empty_set)
    probabilities, checks, speed = predict_timed(predictor, examples.texts, "predict")
    probabilities = probabilities if parents is None else parents.convert(probabilities)
    config = load_config(run.config, arguments.overrides, is_of_run=True) if run is not None else None
    findings = collect_findings(rows, None if file else split, rule.decide(probabilities), checks.counts, run, config)
    split = split if parents is None else f"{split}-{parents.level.name}"  # beside the report of the model's own labels
    if file:
        findings["data"] = escape_controls(Path(file).name)
    is_quoted = not arguments.no_texts and (config is None or config.run.quote_texts)
    texts = examples.texts if is_quoted else None
    assert output is not None  # without a run there is --input, which requires --output
    scored = ScoredRows(examples.ids, label_set, examples.labels, probabilities, examples.is_judged, texts, examples.ratings)
    report = write_report(output.report(split), scored, rule, split, findings)
    if output != run or split != "validation":  # training wrote these predictions, and export.py --verify compares with them
        output.write_predictions(split, examples.ids, examples.labels, probabilities, label_set, examples.is_judged)
        write_json(output.speed(split), speed)
    if output == run and not file and parents is None:
        complete_card(output)
    if arguments.full:
        print(format_report(report), end="\n\n")
    results = f"report: {output.report(split) / 'index.html'}, tables and plots beside it; probabilities: {output.predictions(split)}"
    for line in [*summarize(report), results, *format_findings(findings)]:
        print_message(line, sys.stdout)
    return 0


def check_behaviour(arguments: argparse.Namespace, model: str) -> int:
    """Write and print how a model answers the cases of a suite."""
    from emotion.evaluation.behaviour.suite import BUNDLED, read_suite

    suite = BUNDLED if arguments.behaviour is True else Path(arguments.behaviour)
    cases = read_suite(suite)  # before the packages that take seconds
    from emotion.evaluation.behaviour.checks import list_texts
    from emotion.evaluation.behaviour.pages import format_results, write_behaviour_report
    from emotion.evaluation.behaviour.results import collect_results
    from emotion.export.model_card import complete_card
    from emotion.inference.loading import load_predictor
    from emotion.inference.sidecar import find_model_folder
    from emotion.tracking.locating import choose_output, find_run_of_model

    folder = find_model_folder(model)
    run = find_run_of_model(folder)
    predictor = load_predictor(model, arguments.backend, backbone=arguments.backbone)
    rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
    name = "the bundled suite" if arguments.behaviour is True else f"the suite {escape_controls(suite.name)}"
    probabilities = predictor.predict(list_texts(cases), "predict")
    results = collect_results(cases, name, probabilities, predictor.label_set, rule, not arguments.no_texts)
    results |= {"model": escape_controls((run.path if run else Path(folder)).resolve().name), "evaluated": time.strftime("%Y-%m-%d %H:%M")}
    output = choose_output(arguments.output, run, folder)
    if output is not None:
        write_behaviour_report(output.behaviour, results)
        if output == run:
            complete_card(output)
    for line in format_results(results, arguments.full):
        print_message(line, sys.stdout)
    written = f"{output.behaviour / 'report.html'}, report.md, tables beside it" if output else "none; give --output FOLDER"
    print_message(f"report: {written}", sys.stdout)
    return 0


def parse_arguments() -> argparse.Namespace:
    refuse_moved_options(sys.argv[1:])
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--model", type=expand_home, **MODEL_OPTION)
    add("--backbone", type=expand_home, **BACKBONE_OPTION)
    add("--split", choices=("validation", "test"), help="split of the run's data to evaluate on (default: test)")
    add(
        "--input",
        type=expand_home,
        metavar="FILE",
        nargs="+",
        help="a labelled file, or files to score; patterns such as 'texts/*.csv'; - for csv on stdin",
    )
    add(
        "--output",
        type=expand_home,
        metavar="PATH",
        help="a folder for the report, or a scored file: .csv, .jsonl (.gz, .zst), .parquet, .xlsx, - (stdout)",
    )
    add("--probabilities", default="none", metavar="none|all|K", help="probabilities in a scored file: none, all, or the K highest")
    add("--excel-safe", action="store_true", help="in a scored csv, put ' before cells that a spreadsheet would take for formulas")
    add("--overwrite", action="store_true", help="replace a scored file that exists")
    add("--shard", metavar="I/N", help="score one of N shards of a scored file, such as 2/8: a task of an array job")
    add("--join", type=expand_home, metavar="FILE", help="put the shards of a scored file together; needs no model and no other option")
    add("--part-rows", type=int, metavar="N", help="rows of a scored file that are scored and saved together (default: 16,384)")
    add("--backend", choices=("auto", "torch", "onnx"), default="torch", help="backend that scores files (default: torch)")
    add("--engine", choices=("ray",), help="score files on a Ray cluster, into a folder of parquet files")
    add("--worker-cores", type=int, metavar="N", help="CPU cores of each worker of --engine ray, which has a model of its own (default: 1)")
    add("--threshold", type=float, help="one threshold in (0, 1) for all labels instead of the stored ones")
    add("--empty-set", choices=("none", "top1"), help="labels of a text with no label above its threshold: none, or the most likely one")
    add(
        "--behaviour",
        nargs="?",
        const=True,  # the bundled suite; a string would go through `type`
        type=expand_home,
        metavar="SUITE",
        help="check the behaviour on the bundled suite of short texts, or on a .csv or .jsonl file of your own (docs/behaviour.md)",
    )
    add("--full", action="store_true", help="print the scores of all labels or all failed cases, too; the report has them in any case")
    add("--no-texts", action="store_true", help="quote no texts in the report, for one that is shared with others")
    add("--taxonomy", type=expand_home, metavar="NAME|FILE", help="coarser labels: ekman, sentiment, or a YAML file of parents")
    add("overrides", nargs="*", metavar="data.key=value", help="how to read the rows, such as data.text_column=body")
    add("--quiet", action=BeQuiet, help="print results and errors only")
    arguments = parser.parse_intermixed_args()
    if arguments.input is not None:  # in `--input a.csv data.text_column=body` the last word is a setting
        settings = [word for word in arguments.input if re.match(r"[a-z_]+\.[a-z_]+=", word)]
        arguments.input = [word for word in arguments.input if word not in settings]
        arguments.overrides += settings
    check_options(arguments)
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
