"""What each model costs: to train, to keep, and to ask a million times."""

from dataclasses import dataclass

import numpy as np

from emotion.evaluation.comparison.accuracy import MAIN_METRIC, ModelScores

MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """The cost of one model, means over its seeds; None where nothing was measured."""

    standing: ModelScores
    parameters: float | None
    trained_parameters: float | None
    training_seconds: float | None
    training_rate: float | None
    """Examples a second."""
    peak_memory: float | None
    """Bytes, of the training process."""
    model_size: float | None
    """Bytes on disk."""
    texts_per_second: float | None
    """In batches, as evaluate.py scores a split."""
    milliseconds: float | None
    """For one text alone."""
    device: str | None

    @property
    def hours_per_million(self) -> float | None:
        """Hours to answer a million texts in batches."""
        return MILLION / self.texts_per_second / 3_600 if self.texts_per_second else None


def find_cost(standing: ModelScores) -> Cost:
    """Return the mean cost of a model's runs."""

    def mean(name: str, part: str = "efficiency") -> float | None:
        values = [getattr(run, part).get(name) for run in standing.group.runs]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    devices = {run.speed["device"] for run in standing.group.runs if "device" in run.speed}
    return Cost(
        standing,
        mean("parameters"),
        mean("trainable_parameters"),
        mean("total_seconds"),
        mean("examples_per_second"),
        mean("peak_memory"),
        mean("model_size"),
        mean("texts_per_second", "speed"),
        mean("milliseconds_per_text", "speed"),
        ", ".join(sorted(devices)) or None,
    )


def find_front(costs: list[float], scores: list[float]) -> list[int]:
    """Return the positions that no other beats in cost and score alike, cheapest first (the Pareto front)."""
    front: list[int] = []
    for position in sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i])):
        if not front or scores[position] > scores[front[-1]]:
            front.append(position)
    return front


def find_ladders(standings: list[ModelScores]) -> list[list[ModelScores]]:
    """Return the sets of models that differ in `data.train_fraction` alone, smallest share first; single ones are left out."""
    scaling_curves: list[tuple[dict, list[ModelScores]]] = []
    for standing in standings:
        recipe = standing.group.runs[0].recipe
        del recipe["data"]["train_fraction"]
        for known, members in scaling_curves:
            if known == recipe:
                members.append(standing)
                break
        else:
            scaling_curves.append((recipe, [standing]))
    climbed = [sorted(members, key=share_of) for _, members in scaling_curves]
    return [members for members in climbed if len({share_of(standing) for standing in members}) > 1]


def share_of(standing: ModelScores) -> float:
    """Return the share of the training rows that a model saw."""
    return standing.group.runs[0].config.data.train_fraction


def main_scores(standings: list[ModelScores]) -> list[float]:
    """Return the scores by which models are ranked."""
    return [standing.score(MAIN_METRIC) for standing in standings]
