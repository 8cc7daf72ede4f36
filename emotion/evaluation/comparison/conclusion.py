"""The conclusion in words, made from the numbers and never stronger than the tests."""

from emotion.evaluation.comparison.accuracy import MAIN_METRIC, Difference, ModelScores
from emotion.evaluation.comparison.costs import Cost


def conclude(standings: list[ModelScores], differences: list[Difference], costs: list[Cost]) -> list[str]:
    """Return the sentences of the conclusion; `differences` are of macro-F1."""
    ranked = sorted(standings, key=lambda standing: -standing.score(MAIN_METRIC))
    best = ranked[0]
    low, high = best.interval(MAIN_METRIC)
    sentences = [f"**{best.name}** has the highest macro-F1 on the test rows: {best.score(MAIN_METRIC):.3f} ({low:.3f} to {high:.3f})."]
    beaten = [standing for standing in ranked[1:] if _find(differences, best, standing).winner is best]
    level = [standing for standing in ranked[1:] if standing not in beaten]
    if not ranked[1:]:
        return [*sentences, "There is nothing to compare it with."]
    if beaten:
        sentences.append(f"It is better than {_enumerate(beaten)}: the paired bootstrap of the test rows shows it, Holm-corrected.")
    if level:
        sentences.append(f"Between it and {_enumerate(level)} no difference is shown; that is not to say that there is none.")
    sentences += _describe_cost_verdict(best, level, costs)
    sentences += _name_limits(standings, [_find(differences, best, standing) for standing in beaten])
    return sentences


def _describe_cost_verdict(best: ModelScores, level: list[ModelScores], costs: list[Cost]) -> list[str]:
    """Name the cheapest to ask among those that are not shown to be worse than the best."""
    candidates = [(cost.hours_per_million, cost) for cost in costs if cost.standing in (best, *level)]
    known = [(hours, cost) for hours, cost in candidates if hours is not None]
    if len(known) < len(candidates) or len(known) < 2:
        return []
    hours, cheapest = min(known, key=lambda pair: pair[0])
    best_hours = next(hours for hours, cost in known if cost.standing is best)
    if cheapest.standing is best:
        return ["It is also the cheapest to ask of those."]
    return [
        f"Of these **{cheapest.standing.name}** is the cheapest to ask: {hours:.2g} hours for a million texts as measured, "
        f"against {best_hours:.2g}."
    ]


def _name_limits(standings: list[ModelScores], shown: list[Difference]) -> list[str]:
    """Say what the tests do not cover."""
    single = [standing for standing in standings if len(standing.by_seed) == 1]
    sentences = []
    if within := [difference for difference in shown if difference.is_within_seeds]:
        names = _enumerate([difference.second if difference.winner is difference.first else difference.first for difference in within])
        sentences.append(
            f"But two seeds of one model lie as far apart as the best and {names}: the seed alone could have made that difference."
        )
    if len(single) == len(standings):
        sentences.append("Every model was trained once: the tests carry the chance in the test rows, none of that in the seed.")
    elif single:
        sentences.append(f"Trained with one seed only: {_enumerate(single)}; for them the chance in the seed is not known.")
    return sentences


def _find(differences: list[Difference], one: ModelScores, other: ModelScores) -> Difference:
    return next(pair for pair in differences if {pair.first.name, pair.second.name} == {one.name, other.name})


def _enumerate(standings: list[ModelScores]) -> str:
    names = [standing.name for standing in standings]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
