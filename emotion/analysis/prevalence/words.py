"""What a report says in sentences; no sentence claims more than the tests show."""

from collections.abc import Mapping, Sequence

from emotion.analysis.prevalence.cells import MIN_BATCHES, MIN_ROWS, Cell, CellKey
from emotion.analysis.prevalence.changes import SIGNIFICANCE_LEVEL, Change, Prevalences
from emotion.analysis.prevalence.figures import format_percent
from emotion.evaluation.document import escape_markdown
from emotion.labels import LabelSet

NUM_SENTENCES = 5
METHOD = (
    "Predicted labels are not counted: a count is biased wherever a model's precision and recall differ. From the probabilities of a group "
    "and of the validation rows, the prevalence is estimated at which the group's probabilities are most likely (SLD, "
    "expectation-maximization of the prior), after calibration for each label. This assumes label shift: a group's texts with a label are "
    "like the validation rows with it, and texts without it like those without it; only how many there are differs. Then the group's "
    "probabilities are a mixture of both; where a chi-squared test shows that they are not, the fit is called poor. Intervals are of "
    "95 % and hold the chance in the group's rows and in the validation rows, by resampling both."
)
POOR_FIT = "poor fit: not to be trusted"


def format_interval(values: Sequence[float]) -> str:
    """Return an interval such as 2.4% to 3.9%."""
    low, high = values
    return f"{format_percent(low)} to {format_percent(high)}"


def name_cell(key: CellKey) -> str:
    """Return the name of a cell for a sentence, in Markdown."""
    group, period = key.group, key.period
    if key.is_rest and period:
        period = f"all periods but {period}"
    elif key.is_rest:
        group = f"all groups but {group}"
    return escape_markdown(", ".join(filter(None, (group, period)))) or "all rows"


def describe_change(change: Change, prevalences: Prevalences, label_set: LabelSet) -> str:
    """Return a sentence on a difference, such as `anger is more common in 2024-03, 9.0% (...), than in all periods but 2024-03, ...`."""
    first, second = (
        f"{name_cell(key)}, {format_percent(prevalences.estimates[row, change.label])} "
        f"({format_interval(prevalences.bounds[row, change.label])})"
        for key in (change.first, change.second)
        for row in (prevalences.keys.index(key),)
    )
    p_value = f"p = {change.p_value:.3f}" if change.p_value >= 0.001 else "p < 0.001"
    comparison = "more" if change.difference > 0 else "less"
    fit = f" ({POOR_FIT})" if prevalences.has_poor_fit(change) else ""
    return f"**{escape_markdown(label_set.names[change.label])}** is {comparison} common in {second}, than in {first}: {p_value}{fit}."


def conclude(prevalences: Prevalences, cells: Mapping[CellKey, Cell], label_set: LabelSet, num_signs: int) -> list[str]:
    """Return the sentences of the summary."""
    changes = prevalences.changes
    shown = sorted((change for change in changes if change.is_shown), key=lambda change: -abs(change.difference))
    if not changes:
        sentences = ["There are no two groups to compare."]
    elif not shown:
        sentences = [
            f"No change shown: of {len(changes):,} differences between groups and over time, none is more than chance after correction for "
            "their number. This does not show that nothing changed."
        ]
    else:
        is_many = len(shown) > 1
        sentences = [
            f"Of {len(changes):,} differences between groups and over time, {len(shown):,} {'are' if is_many else 'is'} more than chance "
            f"(p < {SIGNIFICANCE_LEVEL} after correction for their number{', the largest first' if is_many else ''})."
        ]
        sentences += [describe_change(change, prevalences, label_set) for change in shown[:NUM_SENTENCES]]
    small = [key for key, cell in cells.items() if cell.is_small]
    if small:
        names = "; ".join(name_cell(key) for key in small[:NUM_SENTENCES]) + ("; and others" if len(small) > NUM_SENTENCES else "")
        has_clusters = any(cell.batches is not None for cell in cells.values())
        limit = f"{MIN_ROWS} rows" + (f", or of fewer than about {MIN_BATCHES} clusters," if has_clusters else "")
        sentences.append(f"Groups of fewer than {limit} are too small to say anything: {names}.")
    if misfits := prevalences.misfits:
        worst = next(iter(misfits))
        poor = [escape_markdown(label_set.names[label]) for label in misfits[worst]]
        more = f" and {len(poor) - NUM_SENTENCES:,} more" if len(poor) > NUM_SENTENCES else ""
        sentences.append(
            f"**Warning:** texts are not like the validation rows. In {name_cell(worst)}, {len(poor):,} of "
            f"{len(label_set):,} labels have a poor fit ({', '.join(poor[:NUM_SENTENCES])}{more}): their estimates may be wrong by more "
            "than the intervals say. Label some hundred of these rows, and compare."
        )
    if num_signs:
        sentences.append(
            f"**Warning:** {num_signs:,} signs that texts differ from the validation rows, on which the correction rests; "
            "the report lists them."
        )
    return sentences
