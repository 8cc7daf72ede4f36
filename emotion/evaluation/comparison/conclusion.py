"""The conclusion of a comparison in sentences. No sentence claims more than the tests support."""

from emotion.evaluation.comparison.accuracy import MAIN_METRIC, SIGNIFICANCE_LEVEL, Difference, ModelScores, rank_models
from emotion.evaluation.comparison.costs import Cost
from emotion.evaluation.document import escape_markdown


def conclude(models: list[ModelScores], differences: list[Difference], costs: list[Cost]) -> list[str]:
    """Return the sentences of the conclusion, in Markdown; `differences` are those of macro-F1."""
    best, *others = rank_models(models)
    low, high = best.interval(MAIN_METRIC)
    score = f"{best.score(MAIN_METRIC):.3f} (95% interval {low:.3f} to {high:.3f})"
    if not others:
        return [
            f"**{_name(best)}** has a macro-F1 of {score} on the test rows.",
            "It is the only model in this report, so there is nothing to compare it with.",
        ]
    worse = [model for model in others if _find_difference(differences, best, model).winner is best]
    tied = [model for model in others if model not in worse]
    equal = [model for model in others if _find_difference(differences, best, model).is_equivalent]
    undecided = [model for model in tied if model not in equal]
    highest = [model for model in (best, *others) if model.score(MAIN_METRIC) == best.score(MAIN_METRIC)]
    names = " and ".join(f"**{_name(model)}**" for model in highest)
    sentences = [f"{names} {'has' if len(highest) == 1 else 'have'} the highest macro-F1 on the test rows: {score}."]
    if worse:
        sentences.append(
            f"It is better than {_join_names(worse)} (paired bootstrap over test rows, p < {SIGNIFICANCE_LEVEL} after Holm's correction)."
        )
    if equal:
        margin = _find_difference(differences, best, equal[0]).margin
        sentences.append(f"{_join_names(equal)} and it are practically equal: their macro-F1 differs by less than {margin:g} (p < 0.05).")
    if undecided:
        sentences.append(
            f"There is no significant difference between it and {_join_names(undecided)}; this does not show that they are equally good."
        )
    sentences += _compare_costs(best, tied, costs)
    sentences += _state_limits(models, best, [_find_difference(differences, best, model) for model in worse])
    return sentences


def _compare_costs(best: ModelScores, tied: list[ModelScores], costs: list[Cost]) -> list[str]:
    """Name the model with the cheapest inference among the best one and those that are not significantly worse, of one device.

    Models that compute the same, such as two that differ in their training, have times that differ by chance only: none is the cheapest.
    """
    candidates = [cost for cost in costs if cost.model in (best, *tied)]
    known = [(cost.hours_per_million, cost.model) for cost in candidates if cost.hours_per_million is not None]
    has_one_device = len({cost.predicted_on for cost in candidates}) == 1  # times of different devices cannot be compared
    if len(known) < len(candidates) or len(known) < 2 or not has_one_device:
        return []
    hours, cheapest = min(known, key=lambda pair: pair[0])
    twins = [model for model in tied if _list_what_costs(model) == _list_what_costs(best)]
    if twins and cheapest in (best, *twins):
        return []
    if cheapest is best:
        return ["It is also the cheapest at inference among the models without a significant difference."]
    best_hours = next(hours for hours, model in known if model is best)
    return [
        f"Among the models without a significant difference, **{_name(cheapest)}** is the cheapest at inference: "
        f"{_round(hours)} hours per million texts, compared with {_round(best_hours)} for {_name(best)}."
    ]


def _list_what_costs(model: ModelScores) -> tuple[object, ...]:
    """Return the settings on which the time of an inference depends."""
    config = model.group.runs[0].config
    return () if config is None else (config.model, config.lora, config.data.max_length, config.data.long_texts, config.training.precision)


def _state_limits(models: list[ModelScores], best: ModelScores, significant: list[Difference]) -> list[str]:
    """Return what the intervals and tests do not cover."""
    sentences = []
    if uncertain := [difference for difference in significant if difference.is_within_seed_range]:
        names = _join_names([difference.second if difference.first is best else difference.first for difference in uncertain])
        sentences.append(
            f"However, {_name(best)} and {names} differ no more than two seeds of one model do: the choice of the seed alone could explain "
            "the difference."
        )
    external = [model for model in models if model.group.is_external]
    trained = [model for model in models if model not in external]
    single = [model for model in trained if len(model.by_seed) == 1]
    if len(single) == len(trained):
        sentences.append(
            "Every model was trained with one seed: the intervals and tests cover the choice of test rows, but not the variation "
            "between seeds."
        )
    elif single:
        sentences.append(f"The variation between seeds is unknown for models that were trained with one seed: {_join_names(single)}.")
    if external:
        sentences.append(
            f"The predictions of {_join_names(external)} were read from files and are scored as they are; whether test rows took part in "
            "making or choosing that model is not known here."
        )
    return sentences


def _find_difference(differences: list[Difference], one: ModelScores, other: ModelScores) -> Difference:
    return next(pair for pair in differences if {pair.first.name, pair.second.name} == {one.name, other.name})


def _name(model: ModelScores) -> str:
    return escape_markdown(model.name)


def _join_names(models: list[ModelScores]) -> str:
    names = [_name(model) for model in models]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _round(hours: float) -> str:
    """Return a number with two significant digits."""
    return f"{float(f'{hours:.2g}'):,g}"
