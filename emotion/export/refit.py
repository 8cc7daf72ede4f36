"""Fit the decision rule of a finished run again, with other settings, and store it in the model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from emotion.config import Config, load_config
from emotion.errors import ConfigError
from emotion.evaluation.behaviour.results import FILE_NAME, has_rule, read_results
from emotion.evaluation.decision import DecisionRule, compute_logits, fit_rule
from emotion.evaluation.reporting import write_report
from emotion.evaluation.selection import score_rule
from emotion.export.model_card import complete_card, remove_rule_sections
from emotion.inference.model_folder import write_sidecar
from emotion.inference.sidecar import Sidecar, read_sidecar
from emotion.tracking.findings import read_findings, renew_verdict
from emotion.tracking.run_folder import RunFolder


def refit_model(run: RunFolder, overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Fit the rule on the validation probabilities that training saved; return the report of validation and the splits reported on.

    The reports of validation and test are written again from their saved probabilities, so that they show the model's rule.

    Raises: ConfigError for settings that need a new training, or without saved probabilities.
    """
    if not run.predictions("validation").is_file():
        raise ConfigError(f"--refit: {run.predictions('validation')} does not exist, so there is nothing to fit the rule on; train again")
    if others := [word for word in overrides if not word.startswith("decision.") or word.startswith("decision.fit_temperature")]:
        allowed = "decision.maximize, decision.shrinkage and decision.empty_set"
        raise ConfigError(f"--refit: takes {allowed}, got {' '.join(others)}; train again to change that")
    config, (sidecar, rule) = load_config(run.config, overrides, is_of_run=True), read_sidecar(str(run.model))
    rows = run.read_predictions("validation")
    rule = fit_rule(rows.labels, compute_logits(rows.probabilities), config.decision, rule.fitted_on, rows.is_judged)
    report = report_again(run, "validation", rule)
    store_rule(run.model, config, sidecar, rule, report)
    run.write_config(config)
    splits = ["validation"]
    if (run.report("test") / "metrics.json").is_file() and run.predictions("test").is_file():
        report_again(run, "test", rule)
        splits.append("test")
    remove_rule_sections(run.model / "README.md")
    complete_card(run)
    return report, splits


def find_earlier_reports(run: RunFolder, splits: list[str]) -> list[Path]:
    """Return the folders of a run's reports that are of an earlier rule: of taxonomies and behaviour, and of splits not in `splits`."""
    rule, results = read_sidecar(str(run.model))[1], run.behaviour / FILE_NAME
    earlier = [path.parent for path in sorted(run.report("").glob("*/metrics.json")) if path.parent.name not in splits]
    return earlier + ([run.behaviour] if results.is_file() and not has_rule(read_results(results), rule) else [])


def store_rule(model: Path, config: Config, sidecar: Sidecar, rule: DecisionRule, report: dict[str, Any]) -> dict[str, float]:
    """Write a rule that was fitted again into a model folder, with the scores of its validation `report`, and return these."""
    others = {name: value for name, value in sidecar.validation.items() if not name.endswith("_tuned")}
    scores = others | score_rule(report["at_decision_rule"], config.decision.maximize)
    write_sidecar(model, replace(sidecar, validation=scores), rule)
    return scores


def report_again(run: RunFolder, split: str, rule: DecisionRule, target: RunFolder | None = None) -> dict[str, Any]:
    """Write the report of a split again from stored predictions, with what the run found about its rows, and return its scores.

    `target` holds the predictions and gets the report, if it is not the run.
    """
    target = target or run
    rows, findings = target.read_predictions(split), read_findings(run.report(split))
    return write_report(target.report(split), rows, rule, split, None if findings is None else renew_verdict(findings, rows, rule))
