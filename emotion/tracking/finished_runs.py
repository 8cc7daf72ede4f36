"""A finished run folder -> what a comparison needs of it. Works without torch."""

import json
from pathlib import Path
from typing import Any

from emotion.errors import DataError
from emotion.evaluation.comparison.runs import Run
from emotion.evaluation.decision import DecisionRule
from emotion.tracking.run_folder import RunFolder


def read_finished_run(path: str, split: str = "test") -> Run:
    """Return a run with its predictions of a split, decided by the rule that its report was made with.

    Raises: DataError if it is not a run folder, or has no report of that split, or a file is damaged.
    """
    folder = RunFolder(Path(path))
    if not folder.config.is_file():
        raise DataError(f"{path}: is no run folder (it has no config.yaml); `ls runs` shows the runs that there are")
    for needed in (folder.predictions(split), folder.report(split) / "metrics.json"):
        if not needed.is_file():
            raise DataError(f"{path}: its {split} split was not opened yet; do so with `python evaluate.py --model {path} --split {split}`")
    try:
        ids, label_set, labels, probabilities = folder.read_predictions(split)
        decision = json.loads((folder.report(split) / "metrics.json").read_text(encoding="utf-8"))["decision"]
        efficiency, speed = _read_json(folder.efficiency), _read_json(folder.speed(split))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); open its test split again with evaluate.py") from None
    rule = DecisionRule.from_dict(decision, len(label_set), str(folder.report(split) / "metrics.json"))
    predictions = rule.decide(probabilities)
    return Run(folder.path.resolve().name, folder.read_config(), label_set, ids, labels, probabilities, predictions, efficiency, speed)


def _read_json(path: Path) -> dict[str, Any]:
    """Return what a file holds, nothing if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
