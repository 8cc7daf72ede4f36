"""Score a trained model on labelled rows it was not fitted on, or verify that all its forms answer alike.

    python evaluate.py --model runs/NAME --split test
    python evaluate.py --model runs/NAME --input FILE --output FOLDER [data.text_column=...]
    python evaluate.py --model runs/NAME --input FILE ... --output SCORED.csv [--probabilities all]
    python evaluate.py --model runs/NAME --verify [--merge FOLDER]
    python evaluate.py --model runs/NAME --export onnx [--int8]
    python evaluate.py --model runs/NAME --refit decision.maximize=micro_f1
    python evaluate.py --model runs/NAME --push USER/NAME [--dry-run]

model folder + split or labelled file -> probabilities -> stored decision rule -> metrics.json, per_label.csv, pictures.
model folder + files of any size -> one scored file with their rows in order, labels (and probabilities) beside them.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from emotion.config import load_config
from emotion.errors import ConfigError, DataError, exit_on_error

if TYPE_CHECKING:
    from emotion.data.reading import Examples
    from emotion.inference.predictor import Predictor
    from emotion.scoring.manifest import ScoringJob
    from emotion.scoring.scoring import Tally
    from emotion.tracking.run_folder import RunFolder


def main() -> int:
    arguments = parse_arguments()
    from emotion.inference.sidecar import find_model_folder
    from emotion.tracking.run_folder import RunFolder, find_newest_run, find_run_of_model

    model = arguments.model or str(find_newest_run().path)
    process = int(os.environ.get("RANK", "0"))
    if process == 0:
        print(f"model: {model}", file=sys.stderr)
    if is_scored_file(arguments.output):
        return score(arguments, model, process)
    if process > 0:
        raise ConfigError("several processes: are for scoring files only (--output FILE.csv)")
    run = find_run_of_model(find_model_folder(model))
    if arguments.push is not None:
        return push(run, model, arguments.push, arguments.dry_run)
    if arguments.refit:
        return refit(run, model, arguments.overrides)
    from emotion.data.reading import read_dataset, read_examples
    from emotion.evaluation.reporting import format_report, write_report
    from emotion.files import write_json
    from emotion.inference.predictor import Predictor
    from emotion.inference.speed import predict_timed

    is_check = arguments.verify or arguments.merge is not None or arguments.export is not None
    split = arguments.split or ("validation" if is_check else "test")
    if len(arguments.input or ()) > 1:
        raise ConfigError(f"--input: {len(arguments.input)} files can be scored into one (--output FILE.csv), not judged into a folder")
    if arguments.input is None and run is None:
        raise DataError(f"--model {model}: is not in a run folder, so its data is not known; give labelled rows with --input FILE")
    config = load_config(run.config if run else None, arguments.overrides)
    if arguments.input is None:
        dataset = read_dataset(config.data)
        predictor = Predictor.load(model)
        examples, label_set, messages, bad_rows = dataset[split], dataset.label_set, dataset.messages, dataset.bad_rows
        if label_set != predictor.label_set:
            raise DataError(f"{config.data.name}: has the labels {label_set.names}, the model {predictor.label_set.names}")
    else:
        predictor = Predictor.load(model)
        split, label_set = Path(arguments.input[0]).stem, predictor.label_set
        columns = load_config(None, arguments.overrides).data  # the file need not look like the training data
        examples, messages, bad_rows = read_examples(Path(arguments.input[0]), columns, label_set)
    for message in messages:
        print(f"data: {message}", file=sys.stderr)
    if bad_rows:
        print(f"data: {len(bad_rows):,} bad rows left out, the first: {bad_rows[0]}", file=sys.stderr)

    if is_check:
        return check_forms(arguments, model, split, run, predictor, examples)
    rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
    probabilities, speed = predict_timed(predictor, examples.texts, "predict")
    output = RunFolder(Path(arguments.output)) if arguments.output is not None else run
    assert output is not None  # without a run there is --input, and with that --output
    report = write_report(output.report(split), examples.labels, probabilities, rule, label_set, split)
    if output != run or split != "validation":  # training wrote those, and --verify holds the model to them
        output.write_predictions(split, examples.ids, examples.labels, probabilities, label_set)
        write_json(output.speed(split), speed)
    print(format_report(report))
    print(f"\n{output.report(split)}: metrics.json, per_label.csv and pictures; probabilities in {output.predictions(split)}")
    return 0


def is_scored_file(output: str | None) -> bool:
    """Whether --output names a file to write rows to, and not a folder for a report."""
    return output is not None and (output == "-" or (Path(output).suffix != "" and not Path(output).is_dir()))


def score(arguments: argparse.Namespace, model: str, process: int) -> int:
    """Score the input files into one file, alone or as one of several processes, and say what came of it."""
    from emotion.data.reading.streams import expand_patterns
    from emotion.inference.loading import load_predictor
    from emotion.scoring.manifest import PART_ROWS, ScoringJob
    from emotion.scoring.scoring import score_files

    columns = load_config(None, arguments.overrides).data
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    with tempfile.TemporaryDirectory() as place:
        output = Path(arguments.output if arguments.output != "-" else f"{place}/stdout.csv")
        inputs = expand_patterns(arguments.input)
        if num_processes > 1 and (Path("-") in inputs or arguments.output == "-"):
            raise ConfigError(f"{num_processes} processes cannot share stdin or stdout: give files, or start one process")
        job = ScoringJob(inputs, output, columns, arguments.probabilities, arguments.part_rows or PART_ROWS, process, num_processes)
        predictor = load_predictor(model, arguments.backend)
        rule = predictor.rule.with_overrides(arguments.threshold, arguments.empty_set)
        started = time.perf_counter()
        tally = score_files(predictor, rule, job, lambda message: print(message, file=sys.stderr))
        if tally is None:
            return 0
        seconds = time.perf_counter() - started
        print(format_tally(tally, job, seconds), file=sys.stderr)
        if arguments.output == "-":
            with output.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
    return 0


def format_tally(tally: "Tally", job: "ScoringJob", seconds: float) -> str:
    """Return what came of scoring: the scores if there are any, and the last line with rows, speed and rows left out."""
    lines = []
    if tally.scores is not None:
        shown = ", ".join(f"{name} {tally.scores[name]:.3f}" for name in ("macro_f1", "micro_f1", "subset_accuracy"))
        lines.append(f"against the gold labels of {tally.num_judged:,} rows: {shown}; all in {job.metrics}")
    bad = f"{tally.num_bad:,} rows could not be scored, they are in {job.quarantine}" if tally.num_bad else "every row was scored"
    lines.append(f"{job.output}: {tally.num_rows:,} rows in {seconds:.1f} s ({tally.num_rows / seconds:,.0f} rows/s); {bad}")
    return "\n".join(lines)


def push(run: "RunFolder | None", model: str, name: str, is_dry_run: bool) -> int:
    """Upload the run's model folder to the Hub, or say what would go up."""
    from emotion.export.hub import format_files, push_model

    if run is None:
        raise ConfigError(f"--push: {model} is not in a run folder, so its scores and settings for the model card are not known")
    is_private = run.read_config().hub.private
    print(format_files(run, name, is_private) if is_dry_run else f"pushed to {push_model(run, name, is_private)}")
    return 0


def refit(run: "RunFolder | None", model: str, overrides: list[str]) -> int:
    """Fit the decision rule anew, with other settings, on the validation probabilities that training wrote, and keep it in the model.

    Reports of the splits that were opened are written anew from their probabilities: none may be of another rule than the model's.
    """
    from emotion.evaluation.decision import refit_rule
    from emotion.evaluation.reporting import format_report, write_report
    from emotion.export.model_card import write_card
    from emotion.files import atomic_write
    from emotion.inference.model_folder import write_sidecar
    from emotion.inference.sidecar import read_sidecar

    if run is None or not run.predictions("validation").is_file():
        raise ConfigError(f"--refit: {model} is not in a run folder, so the rows to fit the rule on are not known")
    if others := [word for word in overrides if not word.startswith("decision.") or word.startswith("decision.fit_temperature")]:
        raise ConfigError(f"--refit: takes decision.maximize, .shrinkage and .empty_set alone, got {' '.join(others)}: train again for it")
    config, (sidecar, rule) = load_config(run.config, overrides), read_sidecar(str(run.model))
    _, label_set, labels, probabilities = run.read_predictions("validation")
    rule = refit_rule(labels, probabilities, config.decision, rule)
    report = write_report(run.report("validation"), labels, probabilities, rule, label_set, "validation")
    is_opened = (run.report("test") / "metrics.json").is_file() and run.predictions("test").is_file()
    if is_opened:
        _, _, test_labels, test_probabilities = run.read_predictions("test")
        write_report(run.report("test"), test_labels, test_probabilities, rule, label_set, "test")
    scores = sidecar.validation | {f"{name}_tuned": report["at_decision_rule"][name] for name in ("macro_f1", "micro_f1")}
    with atomic_write(run.model / "README.md") as partial:
        partial.write_text(write_card(config, label_set, scores, run.path.name), encoding="utf-8")
    run.write_config(config)
    write_sidecar(run.model, replace(sidecar, validation=scores), rule)
    print(format_report(report))
    print(f"\n{run.model}: decides by the new rule; written anew: its card, the report of validation{' and of test' if is_opened else ''}")
    return 0


def check_forms(
    arguments: argparse.Namespace, model: str, split: str, run: "RunFolder | None", predictor: "Predictor", examples: "Examples"
) -> int:
    """Compare the model's forms on the rows, write the table into its card, and return 1 if a bound is exceeded."""
    from emotion.export.forms import export_onnx, format_agreements, merge_model, verify, write_merged
    from emotion.export.model_card import add_verification, write_card
    from emotion.inference.sidecar import find_model_folder

    if arguments.export is not None:
        agreement = export_onnx(predictor, model, arguments.int8, examples.texts, examples.labels)
        moved = f"macro-F1 moves by {agreement.macro_f1_difference:.4f}, a logit by at most {agreement.logit_difference:.4f}"
        print(f"{find_model_folder(model)}/onnx: on {len(examples):,} rows ({split}) {moved}, {agreement.num_flipped:,} decisions flip")
        return 0
    if arguments.merge is not None:
        if run is None:
            raise ConfigError(f"--merge: {model} is not in a run folder, so its settings for the model card are not known")
        card = write_card(run.read_config(), predictor.label_set, predictor.sidecar.validation, run.path.name, is_merged=True)
        write_merged(merge_model(predictor, model), Path(arguments.merge), card)
        print(f"{arguments.merge}: the adapter merged into its dequantised backbone", file=sys.stderr)
    trained = None
    if run is not None and arguments.input is None and split == "validation":
        trained = run.read_probabilities(split, examples.ids, predictor.label_set)
    agreements = verify(predictor, model, examples.texts, examples.labels, trained, arguments.merge)
    table = f"On {len(examples):,} rows ({arguments.input[0] if arguments.input else split}):\n\n{format_agreements(agreements)}"
    print(table)
    cards = [Path(folder) / "README.md" for folder in (find_model_folder(model), arguments.merge) if folder is not None]
    for path in filter(Path.is_file, cards):
        add_verification(path, table)
    return 0 if all(agreement.is_within for agreement in agreements) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", metavar="FOLDER", help="run folder, model folder or Hub id; the newest finished run if left out")
    parser.add_argument("--split", choices=("validation", "test"), help="split of the run's data (default: test; --verify: validation)")
    parser.add_argument(
        "--input",
        metavar="FILE",
        nargs="+",
        help="csv, tsv, jsonl or parquet files, plain, .gz or .zst, or patterns, or - for csv on stdin: one labelled file to judge "
        "in place of a split, or any to score",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="a folder for report/ and predictions/ (the run folder if left out), or a .csv, .jsonl or .parquet file for the scored rows",
    )
    parser.add_argument(
        "--probabilities", default="none", metavar="none|all|K", help="in a scored file: of no label, of all, or of the K likeliest"
    )
    parser.add_argument("--part-rows", type=int, metavar="N", help="rows that are scored and saved together, in a scored file (16,384)")
    parser.add_argument(
        "--verify", action="store_true", help="compare the trained, reloaded, batched, padded and merged forms; status 1 if they differ"
    )
    parser.add_argument("--merge", metavar="FOLDER", help="write an adapter merged into its backbone as a full model, and verify")
    parser.add_argument("--export", choices=("onnx",), help="write the ONNX form into the model folder, if it answers alike on validation")
    parser.add_argument("--int8", action="store_true", help="with --export onnx: int8 weights and activations")
    parser.add_argument("--backend", choices=("auto", "torch", "onnx"), default="torch", help="what scores files (torch)")
    parser.add_argument(
        "--refit", action="store_true", help="fit the decision rule anew on validation, with decision.key=value, and keep it"
    )
    parser.add_argument("--push", metavar="NAME", help="upload the run's model folder to the Hub as USER/NAME, private at first")
    parser.add_argument("--dry-run", action="store_true", help="with --push: list what would go up")
    parser.add_argument("--threshold", type=float, help="one threshold for all labels in place of the stored ones, in (0, 1)")
    parser.add_argument("--empty-set", choices=("none", "top1"), help="what a text without a label above its threshold gets")
    parser.add_argument(
        "overrides", nargs="*", metavar="data.key=value", help="how to read the rows, such as data.text_column=body; --refit: decision.*"
    )
    arguments = parser.parse_intermixed_args()
    if arguments.input is not None:  # `--input a.csv data.text_column=body`: what looks like a setting is one
        settings = [word for word in arguments.input if re.match(r"[a-z_]+\.[a-z_]+=", word)]
        arguments.input = [word for word in arguments.input if word not in settings]
        arguments.overrides += settings
    if is_scored_file(arguments.output):
        if not arguments.input:
            raise ConfigError(f"--output {arguments.output}: give the files to score with --input")
        if arguments.probabilities not in ("none", "all") and not (
            arguments.probabilities.isdecimal() and int(arguments.probabilities) > 0
        ):
            raise ConfigError(f"--probabilities {arguments.probabilities}: must be none, all or a number of labels, at least 1")
        if arguments.part_rows is not None and arguments.part_rows < 1:
            raise ConfigError(f"--part-rows {arguments.part_rows}: must be at least 1")
    elif arguments.probabilities != "none":
        raise ConfigError("--probabilities: is for scored files; give --output FILE.csv, .jsonl or .parquet")
    if arguments.input is not None and arguments.output is None and not (arguments.verify or arguments.merge):
        raise ConfigError("--input FILE: give --output FOLDER too, so that the scores of a run's own splits stay as they are")
    if arguments.merge is not None and Path(arguments.merge).exists():
        raise ConfigError(f"--merge {arguments.merge}: exists already; choose another folder")
    if arguments.threshold is not None and not 0 < arguments.threshold < 1:
        raise ConfigError(f"--threshold {arguments.threshold}: must be in (0, 1)")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
