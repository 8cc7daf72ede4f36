"""Fit the decision rule of a finished run again, with other settings, and store it in the model."""

from dataclasses import replace
from typing import Any

from emotion.config import load_config
from emotion.errors import ConfigError
from emotion.evaluation.decision import DecisionRule, refit_rule
from emotion.evaluation.reporting import write_report
from emotion.export.model_card import write_card
from emotion.files import atomic_write
from emotion.inference.model_folder import write_sidecar
from emotion.inference.sidecar import read_sidecar
from emotion.tracking.findings import read_findings, renew_verdict, write_findings
from emotion.tracking.run_folder import RunFolder, StoredPredictions


def refit_model(run: RunFolder, overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Fit the rule on the validation probabilities that training saved; return the report of validation and the splits reported on.

    Every report that exists is written again from its saved probabilities, so that none shows another rule than the model's.

    Raises: ConfigError for settings that need a new training, or without saved probabilities.
    """
    if not run.predictions("validation").is_file():
        raise ConfigError(f"--refit: {run.predictions('validation')} does not exist, so there is nothing to fit the rule on; train again")
    if others := [word for word in overrides if not word.startswith("decision.") or word.startswith("decision.fit_temperature")]:
        allowed = "decision.maximize, decision.shrinkage and decision.empty_set"
        raise ConfigError(f"--refit: takes {allowed}, got {' '.join(others)}; train again to change that")
    config, (sidecar, rule) = load_config(run.config, overrides, is_of_run=True), read_sidecar(str(run.model))
    rows = run.read_predictions("validation")
    rule = refit_rule(rows.labels, rows.probabilities, config.decision, rule, rows.is_judged)
    report = _rewrite_report(run, "validation", rows, rule)
    splits = ["validation"]
    if (run.report("test") / "metrics.json").is_file() and run.predictions("test").is_file():
        _rewrite_report(run, "test", run.read_predictions("test"), rule)
        splits.append("test")
    scores = sidecar.validation | {f"{name}_tuned": report["at_decision_rule"][name] for name in ("macro_f1", "micro_f1")}
    with atomic_write(run.model / "README.md") as partial:
        partial.write_text(write_card(config, rows.label_set, scores, run.path.name), encoding="utf-8")
    run.write_config(config)
    write_sidecar(run.model, replace(sidecar, validation=scores), rule)
    return report, splits


def _rewrite_report(run: RunFolder, split: str, rows: StoredPredictions, rule: DecisionRule) -> dict[str, Any]:
    """Write the report of a split again, with what it found about its rows, and return its scores."""
    findings = read_findings(run.report(split))
    report = write_report(run.report(split), rows.labels, rows.probabilities, rule, rows.label_set, split, rows.is_judged)
    if findings is not None:
        write_findings(run.report(split), renew_verdict(findings, rows, rule))
    return report
