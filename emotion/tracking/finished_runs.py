"""A finished run folder, or a file with the predictions of another model -> the `Run` of a comparison. Works without torch."""

import json
import shlex
from pathlib import Path
from typing import Any

from emotion.data.reading.predictions import read_predictions
from emotion.errors import DataError
from emotion.evaluation.behaviour.results import FILE_NAME, PassedCases, has_rule, list_passed, read_results
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.decision import BY_HAND, DecisionRule
from emotion.tracking.run_folder import RunFolder


def read_finished_run(path: str, split: str = "test") -> Run:
    """Return a run with its predictions of a split, made with the decision rule of its report.

    Raises: DataError if it is not a run folder, has no report of that split, or a file is damaged.
    """
    folder = RunFolder(Path(path))
    if not folder.config.is_file():
        raise DataError(f"{path}: is not a run folder (no config.yaml); `ls runs` lists the runs")
    for needed in (folder.predictions(split), folder.report(split) / "metrics.json"):
        if not needed.is_file():
            raise DataError(f"{path}: its {split} split is not evaluated yet; run `{_write_command(path, split)}`")
    try:
        rows = folder.read_predictions(split)
        report = json.loads((folder.report(split) / "metrics.json").read_text(encoding="utf-8"))
        decision, evaluated = report["decision"], report.get("evaluated")
        efficiency, speed = _read_json(folder.efficiency), _read_json(folder.speed(split))
        trained_on = _read_json(folder.environment).get("device")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); evaluate its {split} split again") from None
    rule = DecisionRule.from_dict(decision, len(rows.label_set), str(folder.report(split) / "metrics.json"))
    remedy = f"`{_write_command(path, split)}` evaluates it with those fitted on validation rows"
    by_hand = f"it was evaluated with one threshold given by hand (--threshold); {remedy}"
    policy = (
        f"it was evaluated with --empty-set {rule.empty_set}, which is not the model's; `{_write_command(path, split)}` takes the model's"
    )
    config = folder.resolve_data(folder.read_config())
    notes = [by_hand] if rule.fitted_on == BY_HAND else []
    notes += [policy] if rule.empty_set != config.decision.empty_set else []
    return Run(
        name=folder.path.resolve().name,
        config=config,
        label_set=rows.label_set,
        ids=rows.ids,
        labels=rows.labels,
        probabilities=rows.probabilities,
        predictions=rule.decide(rows.probabilities, rows.is_judged),
        efficiency=efficiency,
        speed=speed,
        trained_on=trained_on if isinstance(trained_on, str) else None,
        is_judged=rows.is_judged,
        evaluated=evaluated if isinstance(evaluated, str) else None,
        notes=tuple(notes),
        behaviour=_read_behaviour(folder, rule),
    )


def read_external_run(name: str, path: str, reference: Run) -> Run:
    """Return the predictions of a model that this project did not train, for the test rows of `reference`.

    Raises: DataError as `read_predictions` does.
    """
    found = read_predictions(Path(path), reference.ids, reference.label_set)
    is_judged = reference.is_judged
    return Run(
        name=name,
        config=None,
        label_set=reference.label_set,
        ids=reference.ids,
        labels=reference.labels,
        probabilities=found.probabilities,
        predictions=found.predictions if is_judged is None else found.predictions & is_judged,
        efficiency={},
        speed={},
        is_judged=is_judged,
        given=found.predictions,
        notes=tuple(found.notes),
    )


def _write_command(path: str, split: str) -> str:
    return shlex.join(["python", "evaluate.py", "--model", path, "--split", split])


def _read_behaviour(folder: RunFolder, rule: DecisionRule) -> PassedCases | None:
    """Return which behaviour cases the model passed with a decision rule; None if they were not checked with it."""
    path = folder.behaviour / FILE_NAME
    if not path.is_file():
        return None
    results = read_results(path)
    return list_passed(results) if has_rule(results, rule) else None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty dict if the file does not exist.

    Raises: ValueError if it holds anything else.
    """
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} does not hold a JSON object")
    return values
