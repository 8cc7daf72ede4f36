"""A taxonomy for a trained model: its parents fitted on the validation predictions of the run, and rows and runs merged to parents."""

from dataclasses import replace

from emotion.config import DecisionConfig
from emotion.data.reading import Examples
from emotion.data.reading.labelled_rows import LabelledRows
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.parents import ParentModel, fit_parents
from emotion.evaluation.taxonomy import TaxonomyLevel, read_taxonomy
from emotion.labels import LabelSet
from emotion.tracking.locating import find_run_of_model
from emotion.tracking.run_rows import read_validation


def fit_taxonomy(name: str, location: str, label_set: LabelSet) -> ParentModel:
    """Return the parents of the labels of a model, fitted on its validation predictions; `name` is as in `read_taxonomy`.

    `location` is as in `read_validation`. Thresholds are fitted with the settings of the run, or the defaults outside of a run.

    Raises: ConfigError as `read_taxonomy` does; DataError as `read_validation` does.
    """
    level = read_taxonomy(name).apply(label_set)
    rows = read_validation(location, label_set, f"--taxonomy {name}: parents are")
    run = find_run_of_model(location)
    return fit_parents(level, rows.labels, rows.probabilities, run.read_config().decision if run else DecisionConfig(), rows.is_judged)


def merge_rows(rows: LabelledRows, level: TaxonomyLevel) -> LabelledRows:
    """Return labelled rows with the parents of their labels."""

    def merge(examples: Examples) -> Examples:
        labels, is_judged = level.merge_labels(examples.labels, examples.is_judged)
        ratings = None if examples.ratings is None else examples.ratings.convert(level.merge_labels)
        return replace(examples, labels=labels, is_judged=is_judged, fractions=None, ratings=ratings)

    splits = {split: merge(examples) for split, examples in rows.splits.items()}
    return replace(rows, examples=merge(rows.examples), splits=splits)


def merge_run(run: Run, name: str, location: str | None) -> Run:
    """Return a run with the parents of its labels; those of `location`, its folder, are fitted on its validation predictions.

    Without a folder, a text has a parent if one of its labels was predicted, and the run has no probabilities.
    """
    if location is None or run.probabilities is None:
        level, probabilities = read_taxonomy(name).apply(run.label_set), None
        predictions, _ = level.merge_labels(run.predictions if run.given is None else run.given)
        notes = (*run.notes, f"it has a label of the taxonomy {level.name} where a label of that one was predicted")
    else:
        parents = fit_taxonomy(name, location, run.label_set)
        level, probabilities, notes = parents.level, parents.convert(run.probabilities), ()
        predictions = parents.rule.decide(probabilities)
    labels, is_judged = level.merge_labels(run.labels, run.is_judged)
    return replace(
        run,
        label_set=level.label_set,
        labels=labels,
        probabilities=probabilities,
        predictions=predictions if is_judged is None else predictions & is_judged,
        is_judged=is_judged,
        given=None,
        notes=notes,
        taxonomy=level.name,
        behaviour=None,  # its cases are about the labels of the model
    )
