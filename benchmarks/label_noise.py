"""Does an audit find planted label errors, and does it pay to drop the rows that it flags?

    python -m benchmarks.label_noise --data sample --output runs/label_noise/sample
    python -m benchmarks.label_noise --data path/to/goemotions --output runs/label_noise/goemotions data.train_fraction=0.25
    python -m benchmarks.label_noise --run runs/NAME --output runs/label_noise/NAME

Errors are planted in 5, 10 and 20 % of the training rows, with three seeds: a true label is dropped, a wrong one added, or a label swapped
for the one that a model without noise confuses it with. Rows are ranked by out-of-fold probabilities: as in audit.csv, by cleanlab's score
of a row, by the same from probabilities adjusted for the label's frequency, by loss, and at random. Models trained with the errors, without
the flagged rows and without errors are scored on the validation rows, which stay as they are and on which nothing is fitted. A finished
cell is a JSON file and is not computed again.

With --run nothing is trained: the errors are planted in the validation rows of a finished run and ranked by its stored probabilities. The
model has learnt from rows without planted errors, so it is better than that of an audit.
"""

import argparse
import base64
import itertools
import json
import runpy
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotion.analysis.audit.ranking import LabelIssues, find_issues, list_columns
from emotion.config import Config, load_config
from emotion.data.reading import Examples, read_dataset
from emotion.distributed.launch import Launch, start_launch
from emotion.errors import exit_on_error
from emotion.evaluation.uncertainty import draw_counts, find_interval, resample_several, score_rows
from emotion.files import write_json
from emotion.inference.sidecar import find_model_folder, read_sidecar
from emotion.labels import LabelSet
from emotion.tracking.run_folder import RunFolder
from emotion.training.folds import gather_held_out, list_folds, make_fold, predict_held_out, train_fold

NOISES, FRACTIONS, SEEDS = ("drop", "add", "swap"), (0.05, 0.1, 0.2), (0, 1, 2)
NUM_FOLDS = 4
NUM_FIRST = 100
"""Rows of which a person would look at first."""
RANKINGS = ("audit.csv", "cleanlab", "adjusted", "loss", "random")
ARMS = ("noise", "flagged dropped", "first dropped", "clean")
"""Trained with the errors, without the rows that are flagged, without as many first rows as there are errors, and without errors."""


@dataclass(frozen=True)
class Bench:
    """What all cells share."""

    config: Config
    train: Examples
    validation: Examples
    label_set: LabelSet
    launch: Launch
    loop: Callable[..., None]
    output: Path

    def fit(self, rows: Examples, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities, float (n, L), and predictions, bool (n, L), for the validation rows, of a model trained on other rows."""
        fold = make_fold(rows, self.validation, self.label_set, self.seeded(seed), self.output / "runs" / name)
        self.train_or_stop(fold)
        probabilities = predict_held_out(fold)
        return probabilities, read_sidecar(find_model_folder(str(fold.folder.path)))[1].decide(probabilities)

    def cross_validate(self, rows: Examples, seed: int, name: str) -> np.ndarray:
        """Return the out-of-fold probabilities of all rows, float32 (n, L)."""
        folds = list_folds(rows, self.label_set, self.seeded(seed), NUM_FOLDS, self.output / "runs" / name)
        for fold, _ in folds:
            self.train_or_stop(fold)
        return gather_held_out(folds, len(rows))

    def train_or_stop(self, fold: Any) -> None:
        if status := train_fold(fold, self.launch, self.loop, "the same command"):
            sys.exit(status)

    def seeded(self, seed: int) -> Config:
        config = self.config
        return replace(config, training=replace(config.training, seed=seed), data=replace(config.data, split_seed=seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", default="configs/tfidf.yaml", metavar="FILE", help="settings of the models (default: TF-IDF)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="SOURCE", help="data with training and validation rows")
    source.add_argument("--run", metavar="RUN", help="a finished run, whose validation rows and probabilities are used; nothing is trained")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder of the cells and of table.md")
    parser.add_argument("--minutes", type=float, default=float("inf"), metavar="M", help="begin no further cell after M minutes")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings on top of the config")
    arguments = parser.parse_intermixed_args()
    output = Path(arguments.output)
    if arguments.run:
        return rank_stored(Path(arguments.run), output)
    config = load_config(arguments.config, [f"data.source={arguments.data}", *arguments.overrides])
    dataset = read_dataset(config.data)
    loop = runpy.run_path("train.py")["train"]
    bench = Bench(config, dataset["train"], dataset["validation"], dataset.label_set, start_launch(config), loop, output)
    started = time.perf_counter()
    for name, compute in list_cells(bench):
        path = output / "cells" / f"{name}.json"
        if path.is_file():
            continue
        if time.perf_counter() - started > 60 * arguments.minutes:
            print(f"{name}: not yet computed; give the same command again", file=sys.stderr)
            break
        write_json(path, compute())
        shutil.rmtree(output / "runs", ignore_errors=True)
    write_table(output, [*format_rankings(output), *format_gains(output, bench)])
    return 0


def rank_stored(run: Path, output: Path) -> int:
    """Plant errors in the validation rows of a run and rank them by its stored probabilities."""
    rows = RunFolder(run).read_predictions("validation")
    confusable = find_confusable(rows.labels, rows.probabilities)
    for seed, fraction, noise in itertools.product(SEEDS, FRACTIONS, NOISES):
        generator = make_generator(seed, fraction, noise)
        labels, is_planted = plant(rows.labels, noise, fraction, confusable, generator)
        issues = find_issues(labels, rows.probabilities)
        rankings = rank_rows(issues, rows.probabilities, generator)
        write_json(output / "cells" / f"{name_cell(noise, fraction, seed)}.json", count_found(issues, is_planted, rankings))
    write_table(output, list(format_rankings(output)))
    return 0


def write_table(output: Path, lines: list[str]) -> None:
    (output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def list_cells(bench: Bench) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the name of each cell and what computes it; cells without noise come first, the others need them."""
    for seed in SEEDS:
        yield f"clean-{seed}", lambda seed=seed: compute_clean(bench, seed)  # type: ignore[misc]
    for seed, fraction, noise in itertools.product(SEEDS, FRACTIONS, NOISES):
        yield name_cell(noise, fraction, seed), lambda values=(noise, fraction, seed): compute_cell(bench, *values)  # type: ignore[misc]


def name_cell(noise: str, fraction: float, seed: int) -> str:
    return f"{noise}-{100 * fraction:.0f}-{seed}"


def compute_clean(bench: Bench, seed: int) -> dict[str, Any]:
    """Return the scores without noise, and the label that each label is confused with."""
    probabilities, predictions = bench.fit(bench.train, seed, "clean")
    return {"confusable": find_confusable(bench.validation.labels, probabilities), "predictions": pack(predictions)}


def find_confusable(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Return for each label the other one that is most probable, on average, in its rows."""
    confusable = []
    for label in range(labels.shape[1]):
        rows = labels[:, label]
        means = np.where(labels[rows], 0, probabilities[rows]).mean(axis=0) if rows.any() else probabilities.mean(axis=0)
        confusable.append(int(np.argmax(np.where(np.arange(len(means)) == label, -1, means))))
    return confusable


def compute_cell(bench: Bench, noise: str, fraction: float, seed: int) -> dict[str, Any]:
    """Plant errors, rank the rows, and train without those that are flagged."""
    clean = json.loads((bench.output / "cells" / f"clean-{seed}.json").read_text(encoding="utf-8"))
    generator = make_generator(seed, fraction, noise)
    labels, is_planted = plant(bench.train.labels, noise, fraction, clean["confusable"], generator)
    rows = replace(bench.train, labels=labels)
    probabilities = bench.cross_validate(rows, seed, "folds")
    issues = find_issues(labels, probabilities)
    rankings = rank_rows(issues, probabilities, generator)
    everything = np.arange(len(rows))
    arms = {"noise": everything, "flagged dropped": np.setdiff1d(everything, issues.order)}
    arms["first dropped"] = np.setdiff1d(everything, issues.order[: is_planted.sum()])
    predictions = {name: pack(bench.fit(rows.take(kept), seed, name.replace(" ", "-"))[1]) for name, kept in arms.items()}
    return count_found(issues, is_planted, rankings) | {"predictions": predictions | {"clean": clean["predictions"]}}


def make_generator(seed: int, fraction: float, noise: str) -> np.random.Generator:
    return np.random.default_rng([seed, NOISES.index(noise), round(100 * fraction)])


def rank_rows(issues: LabelIssues, probabilities: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the rows in each of `RANKINGS`; those of `audit.csv` are the flagged ones only."""
    from cleanlab.multilabel_classification import get_label_quality_scores

    columns, probabilities = list_columns(issues.labels), probabilities.astype(np.float64)
    raw, adjusted = (get_label_quality_scores(columns, probabilities, adjust_pred_probs=is_adjusted) for is_adjusted in (False, True))
    clipped = probabilities.clip(1e-7, 1 - 1e-7)
    losses = -np.where(issues.labels, np.log(clipped), np.log1p(-clipped)).sum(axis=1)
    return {
        "audit.csv": issues.order,
        "cleanlab": np.lexsort((raw, ~issues.is_flagged.any(axis=1))),
        "adjusted": np.argsort(adjusted, kind="stable"),
        "loss": np.argsort(-losses, kind="stable"),
        "random": generator.permutation(len(probabilities)),
    }


def count_found(issues: LabelIssues, is_planted: np.ndarray, rankings: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "rows": len(is_planted),
        "planted": int(is_planted.sum()),
        "flagged": len(issues.order),
        "flagged_planted": int(is_planted[issues.order].sum()),
        "first": {name: int(is_planted[order[:NUM_FIRST]].sum()) for name, order in rankings.items()},
    }


def plant(
    labels: np.ndarray, noise: str, fraction: float, confusable: list[int], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, bool (n, L), with an error in a fraction of the rows, and whether each row has one, bool (n,)."""
    partners = np.array(confusable)
    can_change = {"drop": labels, "add": ~labels, "swap": labels & ~labels[:, partners]}[noise]  # labels that an error may be about
    eligible = np.flatnonzero(can_change.any(axis=1))
    number = min(round(fraction * len(labels)), len(eligible))
    planted, is_planted = labels.copy(), np.zeros(len(labels), dtype=bool)
    for row in generator.choice(eligible, number, replace=False):
        label = generator.choice(np.flatnonzero(can_change[row]))
        planted[row, label] = noise == "add"
        if noise == "swap":
            planted[row, partners[label]] = True
        is_planted[row] = True
    return planted, is_planted


def pack(predictions: np.ndarray) -> str:
    return base64.b64encode(np.packbits(predictions).tobytes()).decode("ascii")


def unpack(packed: str, shape: tuple[int, ...]) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), dtype=np.uint8), count=int(np.prod(shape)))
    return bits.reshape(shape).astype(bool)


def read_cells(output: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the finished cells of all seeds, by kind of error and fraction."""
    groups = {}
    for noise, fraction in itertools.product(NOISES, FRACTIONS):
        paths = [output / "cells" / f"{name_cell(noise, fraction, seed)}.json" for seed in SEEDS]
        if cells := [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]:
            groups[f"{noise}, {fraction:.0%} ({len(cells)} seeds)"] = cells
    return groups


def format_rankings(output: Path) -> Iterator[str]:
    yield f"Precision of the first {NUM_FIRST} rows, and precision and recall of the flagged rows, with 95% intervals:\n"
    yield f"| error, rows | {' | '.join(RANKINGS)} | flagged: precision; recall |\n|---" + "|---" * (len(RANKINGS) + 1) + "|"
    for name, cells in read_cells(output).items():
        first = [format_rate(sum(cell["first"][key] for cell in cells), NUM_FIRST * len(cells)) for key in RANKINGS]
        planted, flagged, both = (sum(cell[key] for cell in cells) for key in ("planted", "flagged", "flagged_planted"))
        yield f"| {' | '.join([name, *first, f'{format_rate(both, flagged)}; {format_rate(both, planted)}'])} |"


def format_gains(output: Path, bench: Bench) -> Iterator[str]:
    yield "\nMacro-F1 on the validation rows, mean over seeds, and the gains, with paired 95% intervals over rows:\n"
    yield "| error, rows | flagged | with errors | flagged rows dropped | as many first rows dropped | no errors |\n|---" + "|---" * 5 + "|"
    labels = bench.validation.labels
    for name, cells in read_cells(output).items():
        predictions = [unpack(cell["predictions"][arm], labels.shape) for arm in ARMS for cell in cells]
        scores = np.array([score_rows(labels, predicted)["macro_f1"] for predicted in predictions]).reshape(len(ARMS), -1).mean(axis=1)
        resampled = resample_several(labels, predictions, draw_counts(len(labels)))
        draws = np.array([part["macro_f1"] for part in resampled]).reshape(len(ARMS), len(cells), -1).mean(axis=1)
        gains = [format_gain(scores[arm] - scores[0], draws[arm] - draws[0]) for arm in range(1, len(ARMS))]
        fraction = sum(cell["flagged"] for cell in cells) / sum(cell["rows"] for cell in cells)
        yield f"| {' | '.join([name, f'{fraction:.0%}', f'{scores[0]:.3f}', *gains])} |"


def format_rate(number: int, total: int) -> str:
    """Return a proportion with its interval.

    Source: Jeffreys' interval: Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion".
    """
    from scipy.stats import beta

    low, high = beta.ppf([0.025, 0.975], number + 0.5, total - number + 0.5)
    return f"{number / max(total, 1):.2f} ({low:.2f}-{high:.2f})"


def format_gain(gain: float, draws: np.ndarray) -> str:
    low, high = find_interval(draws, gain)
    return f"{gain:+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    with exit_on_error():
        sys.exit(main())
