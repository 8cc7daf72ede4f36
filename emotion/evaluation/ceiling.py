"""The human ceiling: how well one rater agrees with the majority of the others, and how well the model does, on the same labels.

The target of a rating is what at least half of the other raters of its text gave, so a tie counts as given, as it does for gold labels.
Labels that the rater did not judge, or none of the others, are left out. Both scores are of the same pairs of target and text, and their
intervals are of the same resamples of texts. m is the number of ratings, L that of labels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotion.evaluation.uncertainty import draw_counts, find_interval, resample_tables, score_rows, score_totals, tabulate_rows
from emotion.ratings import UNKNOWN, Ratings, count_votes, find_majority
from emotion.text import escape_controls

MIN_TEXTS = 30
"""Texts that a rater must share with others to be listed; an interval of fewer would not hold its level."""
MAX_RATERS = 50
"""Raters that are listed: those with most texts."""
METRICS = ("macro_f1", "micro_f1")


@dataclass(frozen=True)
class _Pairs:
    """Ratings beside what the other raters of the text gave and what the model predicts, bool (m, L); False where a label is left out."""

    texts: np.ndarray
    raters: np.ndarray
    targets: np.ndarray
    given: np.ndarray
    predicted: np.ndarray

    def take(self, rows: np.ndarray) -> "_Pairs":
        return _Pairs(*(values[rows] for values in vars(self).values()))


def measure_ceiling(ratings: Ratings, predictions: np.ndarray) -> dict[str, Any] | None:
    """Return the scores of the raters and of the model, all together and by rater; None if no text has two known raters.

    `predictions` is bool (n, L), for each row of the split. With too few texts, only their number is returned.
    """
    pairs, num_ties = _pair(ratings, predictions)
    num_texts = len(np.unique(pairs.texts))
    if num_texts == 0:
        return None
    counts = np.array([len(np.unique(pairs.texts[pairs.raters == rater])) for rater in range(len(ratings.names))])
    num_raters = int((counts > 0).sum())
    result: dict[str, Any] = {"num_texts": num_texts, "num_raters": num_raters, "num_ratings": len(pairs.texts), "num_ties": num_ties}
    if num_texts < MIN_TEXTS:
        return result
    listed = [rater for rater in np.argsort(-counts, kind="stable")[:MAX_RATERS].tolist() if counts[rater] >= MIN_TEXTS]
    per_rater = [{"rater": escape_controls(ratings.names[rater])} | _score(pairs.take(pairs.raters == rater)) for rater in listed]
    others = pairs.take(~np.isin(pairs.raters, listed))
    result |= {"all": _score(pairs), "per_rater": sorted(per_rater, key=lambda row: -np.nan_to_num(row["raters"]["macro_f1"], nan=-1.0))}
    if num_others := len(np.unique(others.raters)):
        is_enough = len(np.unique(others.texts)) >= MIN_TEXTS
        result["other_raters"] = {"num_raters": num_others} | (_score(others) if is_enough else {"num_texts": len(np.unique(others.texts))})
    return result


def describe_ceiling(ceiling: dict[str, Any]) -> list[str]:
    """Return the ceiling in sentences that claim no more than the interval of the difference shows."""
    if "all" not in ceiling:
        few = f"only {ceiling['num_texts']:,} texts have several raters"
        return [f"human ceiling: {few}, too few to measure how well these agree ({MIN_TEXTS} are needed)"]
    scores = ceiling["all"]
    raters, model = (
        ", ".join(f"{name.replace('_f1', '-F1')} {_format_score(scores[who], name)}" for name in METRICS) for who in ("raters", "model")
    )
    low, high = scores["difference"]["macro_f1_interval_95"]
    verdict = "a difference in macro-F1 is not shown"
    if low > 0 or high < 0:
        verdict = f"by macro-F1, it agrees {'better' if low > 0 else 'less well'} with the majority than a rater does"
    return [
        f"human ceiling: one rater against the majority of the others has {raters}; in brackets 95% intervals",
        f"the model against the same majority has {model}; {verdict} (model minus rater {_format_score(scores['difference'], 'macro_f1')})",
    ]


def list_ceiling(ceiling: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table of raters: all of them, those with most texts by macro-F1, and the others together."""
    named = [(f"all {ceiling['num_raters']:,} raters", ceiling["all"])]
    named += [(row["rater"], row) for row in ceiling["per_rater"]]
    if others := ceiling.get("other_raters"):
        named.append((f"{others['num_raters']:,} other raters", others))
    return [[name, f"{row['num_texts']:,}", *_list_scores(row)] for name, row in named]


def _pair(ratings: Ratings, predictions: np.ndarray) -> tuple[_Pairs, int]:
    """Return the ratings that another rater can be compared with, and the number of targets that are ties."""
    votes, judges = count_votes(ratings.rows, ratings.labels, ratings.is_judged)
    own = ratings.labels & ratings.is_judged
    others = votes[ratings.rows] - own, judges[ratings.rows] - ratings.is_judged
    is_measured = ratings.is_judged & (others[1] > 0) & (ratings.raters != UNKNOWN)[:, None]
    targets = find_majority(*others) & is_measured
    num_ties = int((is_measured & (2 * others[0] == others[1])).sum())
    pairs = _Pairs(ratings.rows, ratings.raters, targets, own & is_measured, predictions[ratings.rows] & is_measured)
    return pairs.take(is_measured.any(axis=1)), num_ties


def _score(pairs: _Pairs) -> dict[str, Any]:
    """Return the scores of raters and model against the targets, and of their difference, with intervals over texts."""
    texts, groups = np.unique(pairs.texts, return_inverse=True)
    predictions = {"raters": pairs.given, "model": pairs.predicted}
    tables = []
    for predicted in predictions.values():
        terms = tabulate_rows(pairs.targets, predicted)
        tables.append(np.zeros((len(texts), terms.shape[1]), dtype=np.float32))
        np.add.at(tables[-1], groups, terms)
    resampled = [score_totals(totals, len(texts)) for totals in resample_tables(tables, draw_counts(len(texts)))]
    estimates = [score_rows(pairs.targets, predicted) for predicted in predictions.values()]
    scores = {who: _add_intervals(estimates[number], resampled[number]) for number, who in enumerate(predictions)}
    differences = [{name: values[1][name] - values[0][name] for name in METRICS} for values in (estimates, resampled)]
    return {"num_texts": len(texts), **scores, "difference": _add_intervals(*differences)}


def _add_intervals(estimates: dict[str, Any], resampled: dict[str, np.ndarray]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name in METRICS:
        scores[name] = float(estimates[name])
        scores[f"{name}_interval_95"] = find_interval(resampled[name], scores[name])
    return scores


def _format_score(scores: dict[str, Any], name: str) -> str:
    """Return a score with its interval; macro-F1 is not measured where no label was given by the others."""
    if np.isnan(scores[name]):
        return "not measured"
    return "{:.3f} ({:.3f} to {:.3f})".format(scores[name], *scores[f"{name}_interval_95"])


def _list_scores(row: dict[str, Any]) -> Iterable[str]:
    """Return the cells of scores; of too few texts, there are none."""
    if "raters" not in row:
        return ["too few", "", "", ""]
    return [_format_score(row[who], name) for name in METRICS for who in ("raters", "model")]
