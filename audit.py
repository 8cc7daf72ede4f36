"""Which gold labels look wrong? Train the run's settings on folds of its rows, and rank the labels that the models doubt.

    python audit.py --run runs/NAME --folds 4 --output audit
    python train.py --config configs/recipe.yaml data.source=feedback.csv data.corrections=audit/reviewed.csv run.name=corrected

a run -> out-of-fold probabilities of its training and validation rows -> audit.csv (worst first, with a column for decisions), index.html
(one self-contained page), noise.json, predictions. The same command continues an audit that was stopped.
"""

from emotion.errors import ConfigError, ModelError, TrainingError, exit_on_error

with exit_on_error():  # Ctrl-C during the imports is one line too
    import argparse
    import runpy
    import shlex
    import sys
    from collections.abc import Callable
    from pathlib import Path
    from typing import TYPE_CHECKING

    from emotion.arguments import ArgumentParser, BeQuiet
    from emotion.config import check_keys, describe_keys, load_config
    from emotion.paths import expand_home
    from emotion.text import print_message

if TYPE_CHECKING:
    import numpy as np

    from emotion.config import Config
    from emotion.data.reading import Examples
    from emotion.labels import LabelSet
    from emotion.tracking.run_folder import RunFolder

AUDITED = ("train", "validation")
UNUSED_SECTIONS = ("distillation", "tracking", "hub")
UNUSED_KEYS = ("data.train_fraction", "data.test_fraction", "run.folder", "run.name")
"""Settings that have no effect on a fold."""


def main() -> int:
    arguments = parse_arguments()
    resume_command = shlex.join(["python", *sys.argv])
    try:
        return audit(arguments, resume_command)
    except KeyboardInterrupt as error:
        if not getattr(error, "__notes__", None):  # a run says it itself
            error.add_note(f"go on with: {resume_command}")
        raise


def audit(arguments: argparse.Namespace, resume_command: str) -> int:
    from emotion.analysis.audit.ranking import check_installed
    from emotion.analysis.audit.report import check_undecided
    from emotion.data.reading import Examples
    from emotion.data.reading.labelled_rows import SPLITTING_KEYS  # they are of the folds here
    from emotion.tracking.locating import check_output
    from emotion.tracking.run_folder import RunFolder

    check_installed()
    run, output = RunFolder(Path(arguments.run)), Path(arguments.output)
    if not run.config.is_file():
        raise ConfigError(f"--run {arguments.run}: is not a run folder (no config.yaml); `ls runs` lists the runs")
    config = load_config(run.config, arguments.overrides, is_of_run=True)
    check_output(arguments.output)
    check_undecided(output)
    label_set, splits = read_rows(run, [word for word in arguments.overrides if word.partition("=")[0].strip() not in SPLITTING_KEYS])
    rows = Examples.join(list(splits.values()))
    probabilities, status = train_folds(rows, label_set, config, arguments.folds, output / "folds", resume_command)
    if probabilities is None:
        return status
    write_results(arguments, run, config, label_set, splits, probabilities)
    return 0


def read_rows(run: "RunFolder", overrides: list[str]) -> "tuple[LabelSet, dict[str, Examples]]":
    """Return the labels of a run, and its rows by split as it remembers them; print how far they are those of its training."""
    from emotion.inference.sidecar import find_model_folder, read_sidecar
    from emotion.labels import LabelSet
    from emotion.tracking.run_rows import read_rows_to_score

    try:
        label_set = LabelSet(read_sidecar(find_model_folder(str(run.path)))[0].labels)
    except ModelError as error:
        raise ConfigError(f"--run {str(error).removeprefix('--model ')}") from None
    splits = {}
    for split in AUDITED:
        labelled = read_rows_to_score(run, split, None, overrides, label_set)
        splits[split] = labelled.examples
        for note in labelled.notes:
            print_message(f"data: {note}")
    return label_set, splits


def train_folds(
    rows: "Examples", label_set: "LabelSet", config: "Config", num_folds: int, folder: Path, resume_command: str
) -> "tuple[np.ndarray | None, int]":
    """Return the out-of-fold probabilities of all rows, float32 (n, L), and 0; None and the exit status if training was interrupted."""
    from emotion.distributed.launch import start_launch
    from emotion.training.folds import check_same_folds, gather_held_out, list_folds, predict_held_out, train_fold

    launch = start_launch(config)
    if launch.accelerator.num_processes > 1:
        raise TrainingError("audit.py: runs in one process; start it with `python audit.py`")
    folds = list_folds(rows, label_set, config, num_folds, folder)
    check_same_folds(folder, rows, config, num_folds)
    train = load_training_loop()
    for number, (fold, held_out) in enumerate(folds, start=1):
        is_finished = fold.folder.is_finished
        doing = "is finished" if is_finished else "trains"
        print_message(f"fold {number} of {num_folds}: {doing}; {len(held_out):,} rows are held out")
        if status := train_fold(fold, launch, train, resume_command):
            return None, status
        predict_held_out(fold)
    return gather_held_out(folds, len(rows)), 0


def load_training_loop() -> Callable[..., None]:
    """Return `train` of train.py: the loop is in that file only."""
    loop: Callable[..., None] = runpy.run_path(str(Path(__file__).with_name("train.py")))["train"]
    return loop


def write_results(
    arguments: argparse.Namespace,
    run: "RunFolder",
    config: "Config",
    label_set: "LabelSet",
    splits: "dict[str, Examples]",
    probabilities: "np.ndarray",
) -> None:
    """Rank the labels, write the output and print the table."""
    import numpy as np

    from emotion.analysis.audit.noise import estimate_noise
    from emotion.analysis.audit.ranking import find_issues
    from emotion.analysis.audit.report import Audit, format_table, summarize, write_audit
    from emotion.data.reading import Examples
    from emotion.evaluation.rows import ScoredRows
    from emotion.tracking.run_folder import RunFolder

    rows = Examples.join(list(splits.values()))
    scored = ScoredRows(rows.ids, label_set, rows.labels, probabilities, rows.is_judged, rows.texts)
    issues = find_issues(rows.labels, probabilities, rows.is_judged)
    noise = estimate_noise(rows.labels, probabilities, rows.is_judged)
    names = [split for split, examples in splits.items() for _ in examples.ids]
    result = Audit(scored, names, issues, noise, run.path.resolve().name, arguments.folds)
    output = RunFolder(Path(arguments.output))
    ends = np.cumsum([len(examples) for examples in splits.values()])[:-1]
    for (split, examples), part in zip(splits.items(), np.split(probabilities, ends), strict=True):
        output.write_predictions(split, examples.ids, examples.labels, part, label_set, examples.is_judged)
    write_audit(output.path, result, config.run.quote_texts and not arguments.no_texts)
    for line in [*format_table(result), "", *summarize(result)]:
        print_message(line, sys.stdout)
    print_message(f"{output.path}: audit.csv, index.html, noise.json, predictions", sys.stdout)
    print_message(f"with decisions: data.corrections={shlex.quote(str(output.path / 'reviewed.csv'))}", sys.stdout)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--run", type=expand_home, required=True, metavar="FOLDER", help="run folder, whose settings and rows are taken")
    parser.add_argument("--folds", type=int, default=4, metavar="N", help="number of trainings, each without 1/N of the rows (default: 4)")
    parser.add_argument("--output", type=expand_home, required=True, metavar="FOLDER", help="folder of the audit")
    parser.add_argument("--no-texts", action="store_true", help="quote no texts on the page; audit.csv has them in any case")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings on top of the run's, such as training.epochs=2")
    parser.add_argument("--quiet", action=BeQuiet, help="print results and errors only")
    arguments = parser.parse_intermixed_args()
    if arguments.folds < 2:
        raise ConfigError(f"--folds {arguments.folds}: must be at least 2")
    check_keys(arguments.overrides, [key for key, _, _ in describe_keys()], "")
    for override in arguments.overrides:
        key = override.partition("=")[0].strip()
        if key in UNUSED_KEYS or key.partition(".")[0] in UNUSED_SECTIONS:
            raise ConfigError(f"{override}: has no effect here: folds have the rows of the run, no teachers and no tracker; leave it out")
    return arguments


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
