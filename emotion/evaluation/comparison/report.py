"""The report of a comparison: its sections in the order they are read."""

from collections.abc import Sequence
from pathlib import Path

from emotion.config import BASELINE
from emotion.evaluation.comparison import figures
from emotion.evaluation.comparison.accuracy import (
    LEVEL,
    MAIN_METRIC,
    METRICS,
    NUM_PAIRED_RESAMPLES,
    PAIRED_METRICS,
    Difference,
    ModelScores,
    compare_labels,
    compare_pairs,
    find_standings,
)
from emotion.evaluation.comparison.conclusion import conclude
from emotion.evaluation.comparison.costs import Cost, find_cost, find_ladders, share_of
from emotion.evaluation.comparison.document import Figure, Paragraph, Section, Table, write_document
from emotion.evaluation.comparison.failures import make_slices, rank_confusions, rank_errors, score_slice
from emotion.evaluation.comparison.runs import Run, check_comparable, group_seeds

SLICE_METRIC = "jaccard_samples"
"""The one score that means something for rows without a label too."""
UNKNOWN = "not measured"


def write_comparison(
    folder: Path, runs: Sequence[Run], texts: Sequence[str] | None, price_per_hour: float | None, quotes_texts: bool = True
) -> list[str]:
    """Write report.html, report.md, tables and pictures into `folder`, and return the sentences of the conclusion.

    `texts` are those of the test rows, if they are at hand; without `quotes_texts` only their lengths are used.

    Raises: DataError if the runs were not tested on the same rows.
    """
    check_comparable(runs)
    standings = find_standings(group_seeds(runs))
    differences = {metric: compare_pairs(standings, metric) for metric in PAIRED_METRICS if len(standings) > 1}
    costs = [find_cost(standing) for standing in standings]
    ranked = sorted(standings, key=lambda standing: -standing.score(MAIN_METRIC))
    conclusion = conclude(standings, differences.get(MAIN_METRIC, []), costs)
    sections = [
        Section("Conclusion", [Paragraph(" ".join(conclusion))]),
        describe_accuracy(folder, ranked, len(runs)),
        *([describe_differences(folder, ranked, differences)] if differences else []),
        describe_costs(folder, costs, price_per_hour),
        *describe_scale(folder, standings),
        describe_failures(ranked, texts, quotes_texts),
        Section("Runs", [list_runs(standings)]),
    ]
    write_document(folder, f"{len(standings)} models on {len(runs[0].ids):,} test rows", sections)
    return conclusion


def describe_accuracy(folder: Path, ranked: list[ModelScores], num_runs: int) -> Section:
    rows = []
    for standing in ranked:
        cells = []
        for metric in METRICS:
            low, high = standing.interval(metric)
            spread = standing.spread(metric)
            cells.append(f"{standing.score(metric):.3f} ({low:.3f} to {high:.3f})" + (f" ± {spread:.3f}" if spread is not None else ""))
        rows.append([standing.name, *cells, f"{standing.calibration_error:.3f}", str(len(standing.by_seed))])
    note = (
        "At each model's decision rule, fitted on validation. In brackets the 95 % interval over test rows (percentile bootstrap); "
        "behind ± the standard deviation over seeds, where a model was trained with several: its scores are then means over them."
    )
    caption = "Scores with their 95 % intervals over test rows" + ("; small dots are single seeds." if num_runs > len(ranked) else ".")
    table = Table("accuracy", ["model", *METRICS, "calibration_error", "seeds"], rows, note)
    return Section("Accuracy", [figures.draw(folder / "accuracy.png", caption, figures.paint_scores, ranked), table])


def describe_differences(folder: Path, ranked: list[ModelScores], differences: dict[str, list[Difference]]) -> Section:
    ordered = {metric: sorted(pairs, key=lambda pair: -abs(pair.value)) for metric, pairs in differences.items()}
    rows = [
        [
            f"{pair.first.name} - {pair.second.name}",
            metric,
            f"{pair.value:+.4f}",
            "{:+.4f} to {:+.4f}".format(*pair.interval),
            f"{pair.p_value:.4f}",
            f"{pair.winner.name} is better" if pair.winner else "no difference shown",
        ]
        for metric, pairs in ordered.items()
        for pair in pairs
    ]
    best = ranked[0]
    label_rows = []
    labels = best.group.runs[0].label_set.names
    found = {standing.name: compare_labels(standing, best) for standing in ranked[1:]}
    for column, label in enumerate(labels):
        cells = [f"{gaps[column]:+.3f}" + (" ●" if p_values[column] < LEVEL else "") for gaps, p_values in found.values()]
        label_rows.append([label, f"{best.label_f1[column]:.3f}", *cells])
    pairs_note = (
        f"Paired bootstrap over test rows, {NUM_PAIRED_RESAMPLES:,} resamples that are the same for all models; p values corrected by Holm "
        f"over the pairs of a metric; a difference is shown where p is below {LEVEL}. The interval is not corrected."
    )
    labels_note = f"F1 minus that of {best.name}; ● where the difference is shown, corrected by Holm over the labels of a column."
    return Section(
        "Who beats whom",
        [
            figures.draw(
                folder / "differences.png",
                "Macro-F1 of the row's model minus that of the column's, with its 95 % interval.",
                figures.paint_matrix,
                ranked,
                differences[MAIN_METRIC],
            ),
            Table("differences", ["pair", "metric", "difference", "95 % interval", "p (Holm)", "verdict"], rows, pairs_note),
            figures.draw(
                folder / "labels.png",
                f"F1 of each label (gold rows in brackets) minus that of {best.name}; ● marks differences that are shown.",
                figures.paint_labels,
                ranked,
                best,
            ),
            Table("labels", ["label", best.name, *found], label_rows, labels_note),
        ],
    )


def describe_costs(folder: Path, costs: list[Cost], price_per_hour: float | None) -> Section:
    columns = [
        "model",
        "parameters",
        "trained",
        "training time",
        "examples/s",
        "peak memory",
        "on disk",
        "texts/s",
        "ms per text",
        "device",
    ]
    columns += ["hours per million texts"] + ([f"cost per million texts at {price_per_hour:g}/h"] if price_per_hour is not None else [])
    rows = []
    for cost in costs:
        share = cost.trained_parameters / cost.parameters if cost.parameters and cost.trained_parameters is not None else None
        hours = cost.hours_per_million
        cells = [
            _show(cost.parameters, "{:,.0f}"),
            _show(share, "{:.1%}"),
            _show(cost.training_seconds, "{:,.0f} s"),
            _show(cost.training_rate, "{:,.1f}"),
            _show(cost.peak_memory and cost.peak_memory / 2**30, "{:.2f} GiB"),
            _show(cost.model_size and cost.model_size / 1e6, "{:.1f} MB"),
            _show(cost.texts_per_second, "{:,.0f}"),
            _show(cost.milliseconds, "{:.1f}"),
            cost.device or UNKNOWN,
            _show(hours, "{:.2f}"),
        ]
        if price_per_hour is not None:
            cells.append(_show(None if hours is None else hours * price_per_hour, "{:.2f}"))
        rows.append([cost.standing.name, *cells])
    note = (
        "As measured when each run was trained, and its test split opened; times on a busy machine are upper bounds, and only those of one "
        "machine can be compared. Texts/s is in batches, milliseconds for one text alone. Peak memory is that of the training process."
    )
    blocks: list[Paragraph | Table | Figure] = [Table("efficiency", columns, rows, note)]
    blocks += _draw_fronts(folder, costs, price_per_hour)
    return Section("Efficiency", blocks)


def _draw_fronts(folder: Path, costs: list[Cost], price_per_hour: float | None) -> list[Paragraph | Table | Figure]:
    """Draw macro-F1 against the cost of asking and of training, each where it was measured."""
    unit = "hours" if price_per_hour is None else f"cost at {price_per_hour:g} per hour"
    factor = 1.0 if price_per_hour is None else price_per_hour
    drawn: list[Paragraph | Table | Figure] = []
    ways = {
        "asking": (f"{unit} for a million texts", [cost.hours_per_million for cost in costs]),
        "training": (f"{unit} of training", [cost.training_seconds and cost.training_seconds / 3_600 for cost in costs]),
    }
    for way, (label, hours) in ways.items():
        known = [(cost, value * factor) for cost, value in zip(costs, hours, strict=True) if value is not None]
        if len(known) < len(costs):
            missing = [cost.standing.name for cost, value in zip(costs, hours, strict=True) if value is None]
            drawn.append(Paragraph(f"The cost of {way} was not measured for {', '.join(missing)}: `python evaluate.py --split test` does."))
        if len(known) > 1:
            kept, values = zip(*known, strict=True)
            caption = f"Macro-F1 against the cost of {way}; no model is both cheaper and better than one on the green line."
            drawn.append(figures.draw(folder / f"front_{way}.png", caption, figures.paint_front, list(kept), list(values), label))
    return drawn


def describe_scale(folder: Path, standings: list[ModelScores]) -> list[Section]:
    """Say how scores grow with the training rows, and throughput with batch size and processes, where runs differ in them."""
    blocks: list[Paragraph | Table | Figure] = []
    scaling_curves = find_ladders(standings)
    if scaling_curves:
        caption = "Macro-F1 against the share of the training rows; models on a line differ in nothing else."
        blocks.append(figures.draw(folder / "scale.png", caption, figures.paint_ladders, scaling_curves))
        rows = []
        for member in (member for ladder in scaling_curves for member in ladder):
            low, high = member.interval(MAIN_METRIC)
            rows.append([member.name, f"{share_of(member):.4g}", f"{member.score(MAIN_METRIC):.3f} ({low:.3f} to {high:.3f})"])
        blocks.append(Table("scale", ["model", "share of the training rows", MAIN_METRIC], rows))
    runs = [run for standing in standings for run in standing.group.runs]
    shapes = {(run.config.training.per_device_batch_size, run.efficiency.get("num_processes")) for run in runs}
    if len(shapes) > 1:
        rates = [
            [run.name, str(run.config.training.per_device_batch_size), str(run.efficiency.get("num_processes", UNKNOWN))]
            + [_show(run.efficiency.get(name), "{:,.1f}") for name in ("examples_per_second", "tokens_per_second")]
            for run in runs
        ]
        blocks.append(Table("throughput", ["run", "batch size per device", "processes", "examples/s", "tokens/s"], rates))
    return [Section("Scalability", blocks)] if blocks else []


def describe_failures(ranked: list[ModelScores], texts: Sequence[str] | None, quotes_texts: bool) -> Section:
    """Describe the failures of the best model's first run, and all models by kind of row."""
    run = ranked[0].group.runs[0]
    confusions = [[row["gold"], row["given instead"], str(row["rows"]), f"{row['of missed']:.0%}"] for row in rank_confusions(run)]
    errors = rank_errors(run, texts if quotes_texts else None)
    error_rows = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()] for row in errors]
    slices = make_slices(run.labels, texts)
    slice_rows = []
    for part in slices:
        cells = []
        for standing in ranked:
            value, (low, high) = score_slice(standing.group.runs[0], part, SLICE_METRIC)
            cells.append(f"{value:.3f} ({low:.3f} to {high:.3f})")
        slice_rows.append([f"{part.name} {part.kind}", f"{len(part.rows):,}", *cells])
    blocks: list[Paragraph | Table | Figure] = [
        Paragraph(f"Labels most often missed while another was given wrongly in the same row, by **{run.name}**:"),
        Table("confusions", ["gold, missed", "given instead", "rows", "share of the missed"], confusions),
        Paragraph(
            f"Where **{run.name}** was surest and wrong" + (":" if texts else " (the texts are not at hand; `--data` says where they are):")
        ),
        Table("errors", list(errors[0]) if errors else ["id"], error_rows),
        Paragraph(
            "Jaccard index by kind of row (the first seed of each model): gold labels"
            + (", and length of the text in words:" if texts else ":")
        ),
        Table("slices", ["rows", "number", *(standing.name for standing in ranked)], slice_rows),
    ]
    return Section("Where they fail", blocks)


def list_runs(standings: list[ModelScores]) -> Table:
    """Return what each run was."""
    rows = []
    for standing in standings:
        for run in standing.group.runs:
            config = run.config
            form = "full" if not config.lora.r else f"LoRA r={config.lora.r}" + (" on NF4" if config.model.quantization == "nf4" else "")
            steps = [str(config.training.epochs), f"{config.training.learning_rate:g}"]
            if config.model.backbone == BASELINE:
                form, steps = "scikit-learn", ["-", "-"]
            data = f"{Path(config.data.name).name}, {100 * config.data.train_fraction:.4g} %"
            rows.append([run.name, standing.name, config.model.backbone, form, data, *steps, str(config.training.seed)])
    return Table("runs", ["run", "model", "backbone", "form", "training data", "epochs", "learning rate", "seed"], rows)


def _show(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)
