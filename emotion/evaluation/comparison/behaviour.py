"""The behaviour checks of the compared models side by side: pass rates with intervals, and paired tests on the same cases."""

from collections.abc import Sequence

import numpy as np

from emotion.evaluation.behaviour.intervals import compute_paired_p_value, find_pass_interval
from emotion.evaluation.behaviour.results import PassedCases
from emotion.evaluation.comparison.accuracy import SIGNIFICANCE_LEVEL, ModelScores, format_score
from emotion.evaluation.document import Block, Paragraph, Section, Table, escape_markdown
from emotion.evaluation.uncertainty import adjust_p_values

COMMAND = "`python evaluate.py --model RUN --behaviour` checks it"


def report_behaviour(ranked: Sequence[ModelScores]) -> list[Section]:
    """Return a section on the models that have answered the same suite as the best of them; none if no model was checked.

    Of a model with several seeds, a case counts as the mean over the seeds, all of which must have been checked.
    """
    checked = {model.name: passed for model in ranked if (passed := _average_seeds(model)) is not None}
    if not checked:
        return []
    best, *others = checked
    is_same = {name: _have_same_cases(checked[best], checked[name]) for name in checked}
    own = [model.name for model in ranked if not model.group.is_external]
    missing = [escape_markdown(name) for name in own if not is_same.get(name, False)]
    blocks: list[Block] = [_tabulate_rates({name: checked[name] for name in checked if is_same[name]})]
    if tested := {name: checked[name] for name in others if is_same[name]}:
        blocks.append(_tabulate_differences(best, checked[best], tested))
    if missing:
        blocks.append(Paragraph(f"Not checked on these cases with the present decision rule: {', '.join(missing)}; {COMMAND}."))
    return [Section("Behaviour", blocks)]


def _average_seeds(model: ModelScores) -> PassedCases | None:
    """Return the passed cases of a model, the mean over its seeds; None unless all were checked on the same cases."""
    found = [run.behaviour for run in model.group.runs]
    known = [cases for cases in found if cases is not None]
    if len(known) < len(found) or not all(_have_same_cases(known[0], cases) for cases in known):
        return None
    passed = np.mean([cases.passed for cases in known], axis=0)
    return PassedCases(known[0].fingerprint, known[0].capabilities, known[0].ids, passed, known[0].clusters)


def _have_same_cases(first: PassedCases, second: PassedCases) -> bool:
    return (first.fingerprint, first.ids) == (second.fingerprint, second.ids)


def _list_capabilities(cases: PassedCases) -> dict[str, np.ndarray]:
    """Return which cases a capability has, bool (n,), in the order of the suite."""
    return {name: np.array(cases.capabilities) == name for name in dict.fromkeys(cases.capabilities)}


def _tabulate_rates(models: dict[str, PassedCases]) -> Table:
    first = next(iter(models.values()))
    rows = []
    for capability, members in _list_capabilities(first).items():
        cells = [
            format_score(float(cases.passed[members].mean()), find_pass_interval(cases.passed[members], cases.clusters[members]))
            for cases in models.values()
        ]
        rows.append([capability, f"{members.sum():,}", *cells])
    note = (
        "Pass rates of the behaviour checks, in parentheses Wilson's 95% interval with the effective number of cases. They are about these "
        "cases and not about the texts that people write."
    )
    return Table("behaviour", ["capability", "cases", *models], rows, note)


def _tabulate_differences(best: str, of_best: PassedCases, others: dict[str, PassedCases]) -> Table:
    """Return the differences of the pass rates from those of the best model, with their tests."""
    capabilities = _list_capabilities(of_best)
    columns = []
    for cases in others.values():
        gaps = [cases.passed[members].mean() - of_best.passed[members].mean() for members in capabilities.values()]
        p_values = adjust_p_values(
            np.array(
                [
                    compute_paired_p_value(cases.passed[members], of_best.passed[members], of_best.clusters[members])
                    for members in capabilities.values()
                ]
            )
        )
        columns.append([f"{gap:+.3f}" + (" ●" if p < SIGNIFICANCE_LEVEL else "") for gap, p in zip(gaps, p_values, strict=True)])
    name = escape_markdown(best)
    note = (
        f"Pass rate minus that of {name}, the model with the highest macro-F1 of those checked. ● marks a significant difference "
        f"(p < {SIGNIFICANCE_LEVEL}, paired permutation test over groups of cases that share a text, corrected by Holm's method over the "
        "capabilities of one model). Without the mark the cases do not tell the two apart."
    )
    rows = [[capability, *cells] for capability, *cells in zip(capabilities, *columns, strict=True)]
    return Table("behaviour_differences", ["capability", *others], rows, note)
