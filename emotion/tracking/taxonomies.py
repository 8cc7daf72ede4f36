"""A taxonomy for a trained model: its parents fitted on the validation predictions of the run, and rows and runs merged to parents."""

from dataclasses import replace
from pathlib import Path

from emotion.config import DecisionConfig
from emotion.data.reading import Examples
from emotion.data.reading.labelled_rows import LabelledRows
from emotion.errors import DataError
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.parents import ParentModel, fit_parents
from emotion.evaluation.rows import ScoredRows
from emotion.evaluation.taxonomy import TaxonomyLevel, read_taxonomy
from emotion.labels import LabelSet
from emotion.tracking.run_folder import RunFolder, find_run_of_model


def fit_taxonomy(name: str, location: str, label_set: LabelSet) -> ParentModel:
    """Return the parents of the labels of a model, fitted on its validation predictions; `name` is as in `read_taxonomy`.

    `location` is a run folder, the model folder in it, or a model folder with predictions/validation.parquet of its own.

    Raises: ConfigError as `read_taxonomy` does; DataError if there are no such predictions, or they have other labels.
    """
    taxonomy = read_taxonomy(name)
    level = taxonomy.apply(label_set)
    rows, config = read_validation(location, f"--taxonomy {name}")
    if rows.label_set != label_set:
        raise DataError(
            f"--taxonomy {name}: {location}: its predictions/validation.parquet has other labels than its model; restore the file"
        )
    return fit_parents(level, rows.labels, rows.probabilities, config, rows.is_judged)


def read_validation(location: str, where: str) -> tuple[ScoredRows, DecisionConfig]:
    """Return the stored validation predictions of a model, and the settings that its thresholds were fitted with.

    Those of a model folder outside its run are the defaults. `where` precedes the message.

    Raises: DataError if there are no such predictions, or the file is damaged.
    """
    run = find_run_of_model(location)
    folder = run or RunFolder(Path(location).expanduser())
    path = folder.predictions("validation")
    if not path.is_file():
        remedy = "give the run folder, or copy predictions/validation.parquet of the run into the model folder"
        raise DataError(f"{where}: {path}: does not exist, and parents are fitted on it; {remedy}")
    return folder.read_predictions("validation"), run.read_config().decision if run is not None else DecisionConfig()


def merge_rows(rows: LabelledRows, level: TaxonomyLevel) -> LabelledRows:
    """Return labelled rows with the parents of their labels."""

    def merge(examples: Examples) -> Examples:
        labels, is_judged = level.merge_labels(examples.labels, examples.is_judged)
        return replace(examples, labels=labels, is_judged=is_judged)

    splits = {split: merge(examples) for split, examples in rows.splits.items()}
    return replace(rows, examples=merge(rows.examples), splits=splits)


def merge_run(run: Run, name: str, location: str | None) -> Run:
    """Return a run with the parents of its labels; those of `location`, its folder, are fitted on its validation predictions.

    Without a folder, a text has a parent if one of its labels was predicted, and the run has no probabilities.
    """
    if location is None or run.probabilities is None:
        level, probabilities = read_taxonomy(name).apply(run.label_set), None
        predictions, _ = level.merge_labels(run.predictions)
        notes = (*run.notes, f"it has a label of the taxonomy {level.name} where a label of that one was predicted")
    else:
        parents = fit_taxonomy(name, location, run.label_set)
        level, probabilities, notes = parents.level, parents.convert(run.probabilities), run.notes
        predictions = parents.rule.decide(probabilities)
    labels, is_judged = level.merge_labels(run.labels, run.is_judged)
    return replace(
        run,
        label_set=level.label_set,
        labels=labels,
        probabilities=probabilities,
        predictions=predictions if is_judged is None else predictions & is_judged,
        is_judged=is_judged,
        notes=notes,
        taxonomy=level.name,
    )
