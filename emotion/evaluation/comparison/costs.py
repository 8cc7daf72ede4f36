"""Cost of each model in training, on disk and at inference, and the sets of models that show a trade-off."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from emotion.evaluation.comparison.accuracy import ModelScores

MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """Measured cost of a model, averaged over its seeds; None for a value that was not measured."""

    model: ModelScores
    num_parameters: float | None
    num_trained_parameters: float | None
    training_seconds: float | None
    training_examples_per_second: float | None
    peak_memory: float | None
    """Bytes, of the training process."""
    model_size: float | None
    """Bytes on disk."""
    texts_per_second: float | None
    """Batched inference, measured while evaluate.py scored a split."""
    milliseconds_per_text: float | None
    """Inference of one text at a time."""
    predicted_on: str | None
    """Device of the inference."""
    trained_on: str | None

    @property
    def trained_fraction(self) -> float | None:
        """Fraction of the parameters that were trained."""
        if not self.num_parameters or self.num_trained_parameters is None:
            return None
        return self.num_trained_parameters / self.num_parameters

    @property
    def hours_per_million(self) -> float | None:
        """Hours of batched inference for a million texts."""
        return MILLION / self.texts_per_second / 3_600 if self.texts_per_second else None


def compute_cost(model: ModelScores) -> Cost:
    """Return the cost of a model, averaged over its runs."""
    runs = model.group.runs

    def average(key: str, source: str = "efficiency") -> float | None:
        values = [getattr(run, source).get(key) for run in runs]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def join(devices: Iterable[str | None]) -> str | None:
        return ", ".join(sorted({device for device in devices if device})) or None

    return Cost(
        model=model,
        num_parameters=average("parameters"),
        num_trained_parameters=average("trainable_parameters"),
        training_seconds=average("total_seconds"),
        training_examples_per_second=average("examples_per_second"),
        peak_memory=average("peak_memory"),
        model_size=average("model_size"),
        texts_per_second=average("texts_per_second", "speed"),
        milliseconds_per_text=average("milliseconds_per_text", "speed"),
        predicted_on=join(run.speed.get("device") for run in runs),
        trained_on=join(run.trained_on for run in runs),
    )


def find_pareto_front(costs: list[float], scores: list[float]) -> list[int]:
    """Return the indices of the Pareto front, cheapest first: each has a higher score than everything that costs less or the same."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i])):
        if not front or scores[index] > scores[front[-1]]:
            front.append(index)
    return front


def find_scaling_curves(models: list[ModelScores]) -> list[list[ModelScores]]:
    """Return the sets of models that differ only in `data.train_fraction`, smallest fraction first.

    A set with a single fraction is left out.
    """
    by_recipe: list[tuple[dict, list[ModelScores]]] = []
    for model in (model for model in models if not model.group.is_external):
        recipe = model.group.runs[0].recipe
        del recipe["data"]["train_fraction"]
        for known, members in by_recipe:
            if known == recipe:
                members.append(model)
                break
        else:
            by_recipe.append((recipe, [model]))
    curves = [sorted(members, key=lambda model: model.group.train_fraction) for _, members in by_recipe]
    return [curve for curve in curves if curve[0].group.train_fraction < curve[-1].group.train_fraction]
