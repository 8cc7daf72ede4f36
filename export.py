"""Verify, merge, convert, refit or publish a trained model.

    python export.py --model runs/NAME --verify
    python export.py --model runs/NAME --merge FOLDER
    python export.py --model runs/NAME --onnx [--int8]
    python export.py --model runs/NAME --half FOLDER
    python export.py --model runs/NAME --serving-check [--json]
    python export.py --model runs/NAME --refit decision.maximize=micro_f1
    python export.py --model runs/NAME --push USER/NAME [--dry-run]
    python export.py --model runs/NAME --push-space USER/NAME [--dry-run]

model + labelled rows -> table of how closely its variants agree, a merged or smaller model, or an ONNX graph.
model -> what other servers read in its folder, and what they get wrong.
run -> a model with another decision rule, or a repository or a Space on the Hub.
"""

from emotion.errors import ConfigError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import os
    import sys
    from contextlib import nullcontext
    from pathlib import Path
    from typing import TYPE_CHECKING

    from emotion.arguments import BACKBONE_OPTION, ArgumentParser, BeQuiet, check_one_source
    from emotion.config import check_keys, check_repository, describe_keys
    from emotion.paths import expand_home
    from emotion.scoring.options import DATA_KEYS, REPORT_KEYS
    from emotion.text import print_message

if TYPE_CHECKING:
    from emotion.data.reading.labelled_rows import LabelledRows
    from emotion.tracking.run_folder import RunFolder


def main() -> int:
    arguments = parse_arguments()
    from emotion.inference.sidecar import find_model_folder
    from emotion.tracking.locating import find_newest_run, find_run_of_model

    model = arguments.model or str(find_newest_run().path)
    print_message(f"model: {model}")
    if arguments.serving_check:
        return check_served(model, arguments.json)
    run = find_run_of_model(find_model_folder(model))
    if arguments.push is not None:
        return push(find_run(run, "--push"), arguments.push, arguments)
    if arguments.push_space is not None:
        return push_page(find_run(run, "--push-space"), arguments.push_space, arguments)
    if arguments.refit:
        return refit(find_run(run, "--refit"), arguments.overrides)
    if arguments.onnx:
        return export(arguments, model, run)
    if arguments.half is not None:
        return halve(arguments, model, find_run(run, "--half"))
    return verify(arguments, model, run)


def find_run(run: "RunFolder | None", option: str) -> "RunFolder":
    """Return the run. Raises: ConfigError if the model is not in a run folder."""
    if run is None:
        raise ConfigError(f"{option}: the model is not in a run folder, so its settings and scores are not known; give --model runs/NAME")
    return run


def set_hub_settings(run: "RunFolder", arguments: argparse.Namespace) -> bool:
    """Store the settings `hub.*` of the command in the run's config, but not in a dry run, and return whether a repository is private."""
    from emotion.config import load_config

    settings = [word for word in arguments.overrides if word.startswith("hub.")]
    config = load_config(run.config, settings, is_of_run=True)
    if settings and config.hub.repo is not None:
        check_repository("hub.repo", config.hub.repo)
    if settings and not arguments.dry_run:
        with run.hold():
            run.write_config(config)
    arguments.overrides = [word for word in arguments.overrides if word not in settings]
    return config.hub.private


def push(run: "RunFolder", name: str, arguments: argparse.Namespace) -> int:
    """Upload the run's model folder to the Hub, or print what would be uploaded."""
    from emotion.export.hub import format_files, push_model

    is_private = set_hub_settings(run, arguments)
    if arguments.dry_run:
        print(format_files(run, name, is_private))
        return 0
    with run.hold():  # a training would replace the model, or a part of it, between two files
        print(f"pushed to {push_model(run, name, is_private)}")
    return 0


def push_page(run: "RunFolder", name: str, arguments: argparse.Namespace) -> int:
    """Upload the page with the run's model to a Space on the Hub, or print what would be uploaded."""
    from emotion.export.space import format_space_files, push_space

    is_private = set_hub_settings(run, arguments)
    print(format_space_files(run, name, is_private) if arguments.dry_run else f"pushed to {push_space(run, name, is_private)}")
    return 0


def refit(run: "RunFolder", overrides: list[str]) -> int:
    """Fit the decision rule again, store it in the model, and print the report of validation."""
    from emotion.evaluation.summary import summarize
    from emotion.export.refit import find_earlier_reports, refit_model

    with run.hold():
        report, splits = refit_model(run, overrides)
        earlier = find_earlier_reports(run, splits)
    for line in summarize(report):
        print_message(line, sys.stdout)
    changed = f"has the new decision rule; its card and the report of {' and '.join(splits)} were written again"
    print_message(f"{run.model}: {changed}", sys.stdout)
    if earlier:
        names = ", ".join(map(str, earlier))
        print_message(f"still of the earlier rule: {names}; write them again by evaluate.py, as they were written", sys.stdout)
    return 0


def export(arguments: argparse.Namespace, model: str, run: "RunFolder | None") -> int:
    """Write the ONNX graph of the model into its folder."""
    from emotion.export.onnx_export import export_onnx, find_exportable_folder
    from emotion.inference.predictor import Predictor
    from emotion.inference.sidecar import find_model_folder

    find_exportable_folder(model)  # raises before the rows are read, and before the backbone of an adapter is looked for
    rows, rows_name = read_rows(arguments, model, run)
    examples = rows.examples
    with run.hold() if run is not None else nullcontext():
        agreement = export_onnx(Predictor.load(model), model, arguments.int8, examples.texts, examples.labels)
    print_message(f"{find_model_folder(model)}/onnx: {agreement.describe(rows_name)}", sys.stdout)
    return 0


def halve(arguments: argparse.Namespace, model: str, run: "RunFolder") -> int:
    """Write the model with float16 weights to another folder."""
    from emotion.export.half import write_half

    set_hub_settings(run, arguments)
    rows, rows_name = read_rows(arguments, model, run)
    is_opened = (run.report("test") / "metrics.json").is_file()
    test_rows = read_rows(arguments, model, run, "test")[0].examples if is_opened else None
    agreement = write_half(run, rows.examples, Path(arguments.half), test_rows)
    print_message(f"{arguments.half}: {agreement.describe(rows_name)}; its thresholds were then fitted again on them", sys.stdout)
    return 0


def verify(arguments: argparse.Namespace, model: str, run: "RunFolder | None") -> int:
    """Compare the variants of the model, after merging it if asked, and write the table into its card; return 1 if a bound is exceeded."""
    from emotion.export.merging import write_merged
    from emotion.export.model_card import add_verification
    from emotion.export.verification import format_agreements, verify_model
    from emotion.inference.predictor import Predictor
    from emotion.inference.sidecar import find_model_folder
    from emotion.tracking.run_rows import read_trained

    if arguments.merge is not None:
        set_hub_settings(find_run(run, "--merge"), arguments)
    rows, rows_name = read_rows(arguments, model, run)
    examples = rows.examples
    predictor = Predictor.load(model, backbone=arguments.backbone)
    if arguments.merge is not None:
        write_merged(predictor, model, find_run(run, "--merge"), Path(arguments.merge))
        print_message(f"{arguments.merge}: the adapter merged into its dequantized backbone")
    trained = None
    if run is not None and arguments.input is None and rows_name == "validation":
        trained = read_trained(run, rows, predictor.label_set)
        if trained is None:
            reason = "are missing, or of other rows than these"
            print_message(f"as trained: not compared, because the probabilities in {run.predictions('validation')} {reason}")
    agreements = verify_model(predictor, model, examples.texts, examples.labels, trained, arguments.merge)
    table = f"On {len(examples):,} rows ({rows_name}):\n\n{format_agreements(agreements)}"
    print(table)
    for folder in filter(None, (find_model_folder(model), arguments.merge)):
        if (card_path := Path(folder) / "README.md").is_file():
            add_verification(card_path, table)
    return 0 if all(agreement.is_within for agreement in agreements) else 1


def check_served(model: str, is_json: bool) -> int:
    """Print what other servers read in the model folder, and what they get wrong; return 1 if a field is wrong."""
    from emotion.export.serving import check_serving, format_serving
    from emotion.text import format_json

    report = check_serving(model)
    if is_json:
        print(format_json(report.to_dict(), sys.stdout))
    else:
        for line in format_serving(report):
            print_message(line, sys.stdout)
    return 0 if report.is_ok else 1


def read_rows(arguments: argparse.Namespace, model: str, run: "RunFolder | None", split: str | None = None) -> tuple["LabelledRows", str]:
    """Return the labelled rows to compare variants on, and the name of their split or file; `split` is read in place of --split."""
    from emotion.inference.sidecar import find_model_folder, read_sidecar
    from emotion.labels import LabelSet
    from emotion.tracking.run_rows import read_rows_to_score

    label_set = LabelSet(read_sidecar(find_model_folder(model))[0].labels)
    split = split or arguments.split or "validation"
    rows = read_rows_to_score(run, split, arguments.input, arguments.overrides, label_set)
    for message in [*rows.messages, *rows.notes]:
        print_message(f"data: {message}")
    return rows, arguments.input or split


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--model", type=expand_home, metavar="FOLDER", help="run folder, model folder or Hub id (default: the newest finished run)")
    add("--backbone", type=expand_home, **BACKBONE_OPTION)
    add("--verify", action="store_true", help="compare the trained, reloaded, plain, merged and ONNX models; status 1 if they differ")
    add("--merge", type=expand_home, metavar="FOLDER", help="write an adapter merged into its backbone as a full model, and verify both")
    add("--onnx", action="store_true", help="write an ONNX graph into the model folder, if its answers on validation are the same")
    add("--int8", action="store_true", help="with --onnx: int8 weights and activations")
    add("--half", type=expand_home, metavar="FOLDER", help="write a full model with float16 weights, and fit its decision rule again")
    add("--overwrite", action="store_true", help="with --merge or --half: replace an earlier model in FOLDER")
    add("--serving-check", action="store_true", help="print what other servers read in the model folder, and what they get wrong")
    add("--json", action="store_true", help="with --serving-check: print JSON")
    add("--refit", action="store_true", help="fit the decision rule again, with settings such as decision.maximize=micro_f1")
    add("--push", metavar="USER/NAME", help="upload the run's model folder to the Hub (private unless hub.private=false)")
    add(
        "--push-space",
        metavar="USER/NAME",
        help="upload the page of app.py with the model as a Space (private unless hub.private=false)",
    )
    add("--dry-run", action="store_true", help="with --push or --push-space: list the files that would be uploaded")
    add("--split", choices=("validation", "test"), help="split of the run's data to compare on (default: validation)")
    add("--input", type=expand_home, metavar="FILE", help="a labelled file to compare on instead of a split")
    add(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="data.*: how to read rows; decision.*: what to refit; hub.*: the card, with --push, --merge or --half",
    )
    add("--quiet", action=BeQuiet, help="print results and errors only")
    arguments = parser.parse_intermixed_args()
    check_arguments(arguments)
    return arguments


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise a ConfigError for anything but one task with options of its own."""
    tasks = {"--merge": arguments.merge, "--onnx": arguments.onnx, "--half": arguments.half, "--refit": arguments.refit}
    tasks["--serving-check"] = arguments.serving_check
    tasks |= {"--push": arguments.push, "--push-space": arguments.push_space}
    given = [name for name, value in tasks.items() if value]
    if arguments.verify and given != ["--merge"]:  # which verifies in any case
        given.insert(0, "--verify")
    if len(given) != 1:
        choices = "--verify, --merge FOLDER, --onnx, --half FOLDER, --refit, --serving-check, --push USER/NAME, --push-space USER/NAME"
        raise ConfigError(f"give one of {choices}; got {' and '.join(given) or 'none'}")
    reading = ["--verify", "--merge", "--onnx", "--half"]
    for option, allowed in (
        ("int8", ["--onnx"]),
        ("dry_run", ["--push", "--push-space"]),
        ("overwrite", ["--merge", "--half"]),
        ("json", ["--serving-check"]),
        ("backbone", ["--verify", "--merge"]),
        ("split", reading),
        ("input", reading),
    ):
        if getattr(arguments, option) and given[0] not in allowed:
            raise ConfigError(f"--{option.replace('_', '-')}: is an option of {' or '.join(allowed)}, got {given[0]}")
    if arguments.half is not None and (arguments.split == "test" or arguments.input):
        raise ConfigError("--half: fits the decision rule on the validation rows of the run; leave out --split and --input")
    check_one_source(arguments)
    for option, name in (("--push", arguments.push), ("--push-space", arguments.push_space)):
        if name is not None:
            check_repository(option, name)
    for option, folder in (("--merge", arguments.merge), ("--half", arguments.half)):
        if folder is not None:
            check_target(option, Path(folder), arguments.overwrite)
    check_settings(given[0], arguments)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("export.py runs in a single process; start it without a launcher")


def check_settings(task: str, arguments: argparse.Namespace) -> None:
    """Raise a ConfigError for a setting that cannot be read, or that has no effect on the task."""
    card = {"hub.license", "hub.language", "hub.dataset"}
    allowed: dict[str, set[str]] = {
        "--serving-check": set(),
        "--push": card | {"hub.private"},
        "--push-space": {"hub.repo", "hub.private"},
    }
    rows = REPORT_KEYS if arguments.input else DATA_KEYS
    keys = allowed.get(task, rows | card if task in ("--merge", "--half") else rows)
    check_keys(arguments.overrides, [key for key, _, _ in describe_keys()], "")  # before what has no effect: a name may be misspelt
    for word in arguments.overrides:
        if task != "--refit" and word.partition("=")[0].strip() not in keys:  # which says itself what it takes
            raise ConfigError(f"{word}: has no effect on {task}, which takes {', '.join(sorted(keys)) or 'no settings'}; leave it out")


def check_target(option: str, folder: Path, is_overwriting: bool) -> None:
    """Raise a ConfigError if the folder exists and is not to be replaced; only a model that is in no run folder is."""
    if folder.exists() and not is_overwriting:
        raise ConfigError(f"{option} {folder}: exists already; choose another folder, or give --overwrite")
    if folder.exists() and (not (folder / "emotion.json").is_file() or (folder.parent / "config.yaml").is_file()):
        raise ConfigError(f"{option} {folder}: --overwrite replaces only a model that is not in a run folder; choose another folder")


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
