"""The report of a comparison, section by section in reading order."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emotion.config import BASELINE
from emotion.evaluation.comparison import figures
from emotion.evaluation.comparison.accuracy import (
    EQUIVALENCE_MARGIN,
    MAIN_METRIC,
    METRICS,
    PAIRED_METRICS,
    RANKING_METRICS,
    SIGNIFICANCE_LEVEL,
    Difference,
    ModelScores,
    compare_labels,
    compare_pairs,
    count_resamples,
    format_score,
    rank_models,
    score_models,
)
from emotion.evaluation.comparison.behaviour import report_behaviour
from emotion.evaluation.comparison.conclusion import conclude
from emotion.evaluation.comparison.costs import Cost, compute_cost, find_scaling_curves
from emotion.evaluation.comparison.failures import report_failures
from emotion.evaluation.comparison.runs import Run, check_comparable, group_seeds
from emotion.evaluation.document import Block, Paragraph, Section, Table, escape_markdown, write_document
from emotion.evaluation.drawing import save_figure
from emotion.evaluation.fonts import use_fonts
from emotion.text import format_count

UNKNOWN = "not measured"
SOMETIMES = ("differences", "labels", "pareto_inference", "pareto_training", "scale", "throughput", "behaviour", "behaviour_differences")
"""Tables and figures that depend on what the models have."""
LABELS_ONLY, UNKNOWN_SEEDS = "labels only", "not known"


def write_comparison(
    folder: Path,
    runs: Sequence[Run],
    texts: Sequence[str] | None,
    price_per_hour: float | None,
    quote_texts: bool = True,
    margin: float = EQUIVALENCE_MARGIN,
) -> list[str]:
    """Write report.html, report.md, tables and figures to `folder`, and return the sentences of the conclusion.

    Args:
        folder: the folder of the report; it is created if needed.
        runs: the runs to compare.
        texts: texts of the test rows, None if they are not available.
        price_per_hour: price of one hour on the machine, None to report hours only.
        quote_texts: False to use only the lengths of the texts and quote none of them.
        margin: two models are practically equal if their scores are shown to differ by less.

    Raises:
        DataError: if the runs do not have the same test rows.
    """
    check_comparable(runs)
    groups = group_seeds(runs)
    models = score_models(groups, count_resamples(len(groups)))
    differences = {metric: compare_pairs(models, metric, margin) for metric in PAIRED_METRICS if len(models) > 1}
    costs = [compute_cost(model) for model in models]
    ranked = rank_models(models)
    conclusion = conclude(models, differences.get(MAIN_METRIC, []), costs)
    with use_fonts([*runs[0].label_set.names, *(model.name for model in models)]):
        sections = [
            Section("Conclusion", [Paragraph(" ".join(conclusion)), _describe_test(runs)]),
            _report_accuracy(folder, ranked),
            *([_report_differences(folder, ranked, differences)] if differences else []),
            _report_costs(folder, [cost for cost in costs if not cost.model.group.is_external], price_per_hour),
            *_report_scaling(folder, models),
            report_failures(folder, ranked, texts, quote_texts),
            *report_behaviour(ranked),
            Section("Runs", [list_runs(models), *_list_notes(models)]),
        ]
    count = format_count(len(models), "model")
    taxonomy = f", labels of the taxonomy {runs[0].taxonomy}" if runs[0].taxonomy is not None else ""
    write_document(folder, f"{count} on {len(runs[0].ids):,} test rows{taxonomy}", sections, SOMETIMES)
    return conclusion


def _describe_test(runs: Sequence[Run]) -> Paragraph:
    """Return what was tested, on which data, and when."""
    trained = [run for run in runs if run.config is not None]
    count = format_count(len(trained), "run")
    if num_others := len(runs) - len(trained):
        count += f" and {format_count(num_others, 'model')} of others"
    titles = sorted({run.config.data.title for run in trained if run.config is not None})
    days = sorted({run.evaluated[:10] for run in runs if run.evaluated})
    when = f", scored on {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}" if days else ""
    rows = f"{len(runs[0].ids):,} test rows of {escape_markdown(', '.join(titles))}"
    labels = f"{len(runs[0].label_set):,} labels, {runs[0].labels.sum():,} of them given"
    return Paragraph(f"Tested: {count} on {rows} ({labels}){when}. This report was written on {time.strftime('%Y-%m-%d')}.")


def _report_accuracy(folder: Path, ranked: list[ModelScores]) -> Section:
    """Return the scores of all models with their intervals."""
    rows = []
    for model in ranked:
        cells = []
        for metric in METRICS:
            std = model.std(metric)
            cells.append(format_score(model.score(metric), model.interval(metric)) + (f" ± {std:.3f}" if std is not None else ""))
        is_known = model.group.runs[0].probabilities is not None
        cells += [f"{model.score(metric):.3f}" if is_known else LABELS_ONLY for metric in RANKING_METRICS]
        rows.append([model.name, *cells, UNKNOWN_SEEDS if model.group.is_external else str(len(model.by_seed))])
    note = (
        "Scores at the decision rule of each model, fitted on the validation split unless a note under Runs says otherwise; macro averages "
        "leave out labels without a gold row. In parentheses: 95% bootstrap interval over test rows. macro_average_precision and "
        "expected_calibration_error do not depend on thresholds; both are biased where labels have few gold rows, so they have no "
        "interval. "
        "For a model with several seeds, the score is the mean over seeds and ± is followed by the standard deviation over seeds."
    )
    has_seeds = any(len(model.by_seed) > 1 for model in ranked)
    caption = "Scores with 95% bootstrap intervals over test rows" + ("; small dots are single seeds." if has_seeds else ".")
    table = Table("accuracy", ["model", *METRICS, *RANKING_METRICS, "seeds"], rows, note)
    return Section("Accuracy", [save_figure(folder / "accuracy.png", caption, figures.plot_scores, ranked), table])


def _report_differences(folder: Path, ranked: list[ModelScores], differences: dict[str, list[Difference]]) -> Section:
    """Return the tests of all pairs of models, and of each label against the best model."""
    best, *others = ranked
    best_name = escape_markdown(best.name)
    pairs = [pair for metric in differences for pair in sorted(differences[metric], key=lambda pair: -abs(pair.value))]
    pair_rows = [
        [
            f"{pair.first.name} - {pair.second.name}",
            pair.metric,
            f"{pair.value:+.4f}",
            "{:+.4f} to {:+.4f}".format(*pair.interval),
            f"{pair.p_value:.4f}",
            pair.verdict,
        ]
        for pair in pairs
    ]
    pairs_note = (
        f"Paired bootstrap over test rows with {len(best.resampled[MAIN_METRIC]):,} resamples, the same for all models. p-values are "
        f"corrected by Holm's method over the pairs of each metric; a difference is significant if p < {SIGNIFICANCE_LEVEL}. The intervals "
        "are not corrected for multiple comparisons. Models are practically equal if two one-sided tests on the same resamples, corrected "
        f"in the same way, show that the difference is below {pairs[0].margin:g}; without either verdict, the rows are too few to tell."
    )
    comparisons = [compare_labels(model, best) for model in others]
    label_rows = []
    for column, label in enumerate(best.group.runs[0].label_set.names):
        if np.isnan(best.label_f1[column]):
            label_rows.append([label, UNKNOWN, *("" for _ in comparisons)])
            continue
        cells = [f"{gaps[column]:+.3f}" + (" ●" if p_values[column] < SIGNIFICANCE_LEVEL else "") for gaps, p_values in comparisons]
        label_rows.append([label, f"{best.label_f1[column]:.3f}", *cells])
    labels_note = (
        f"F1 of {best_name}, and for every other model its F1 minus that of {best_name}. ● marks a significant difference "
        f"(p < {SIGNIFICANCE_LEVEL}, corrected by Holm's method over the labels of one model)."
    )
    matrix_caption = "Macro-F1 of the row's model minus macro-F1 of the column's model, with the 95% interval where it is significant."
    labels_caption = f"F1 of each label (support in parentheses) minus F1 of {best_name}; ● marks significant differences."
    return Section(
        "Pairwise differences",
        [
            save_figure(folder / "differences.png", matrix_caption, figures.plot_differences, ranked, differences[MAIN_METRIC]),
            Table("differences", ["pair", "metric", "difference", "95% interval", "p (Holm)", "verdict"], pair_rows, pairs_note),
            save_figure(folder / "labels.png", labels_caption, figures.plot_label_differences, ranked, best),
            Table("labels", ["label", best.name, *(model.name for model in others)], label_rows, labels_note),
        ],
    )


def _report_costs(folder: Path, costs: list[Cost], price_per_hour: float | None) -> Section:
    """Return the measured cost of all models, and macro-F1 against the cost of inference and of training."""
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
        "predicted on",
        "trained on",
    ]
    columns += ["hours per million texts"] + ([f"cost per million texts at {price_per_hour:g}/h"] if price_per_hour is not None else [])
    rows = []
    for cost in costs:
        hours = cost.hours_per_million
        cells = [
            _format(cost.num_parameters, "{:,.0f}"),
            _format(cost.trained_fraction, "{:.1%}"),
            _format(cost.training_seconds, "{:,.0f} s"),
            _format(cost.training_examples_per_second, "{:,.1f}"),
            _format(cost.peak_memory and cost.peak_memory / 2**30, "{:.2f} GiB"),
            _format(cost.model_size and cost.model_size / 1e6, "{:.1f} MB"),
            _format(cost.texts_per_second, "{:,.0f}"),
            _format(cost.milliseconds_per_text, "{:.1f}"),
            cost.predicted_on or UNKNOWN,
            cost.trained_on or UNKNOWN,
            _format(hours, "{:.2f}"),
        ]
        if price_per_hour is not None:
            cells.append(_format(None if hours is None else hours * price_per_hour, "{:.2f}"))
        rows.append([cost.model.name, *cells])
    note = (
        "Measured while each run was trained and while its test split was scored. Compare times only between runs on the same machine; "
        'times from a busy machine are upper bounds. "trained" is the fraction of parameters that were trained, peak memory is that of '
        "the training process, texts/s is batched inference, and ms per text is inference of one text at a time."
    )
    return Section("Efficiency", [Table("efficiency", columns, rows, note), *_draw_pareto_fronts(folder, costs, price_per_hour)])


def _draw_pareto_fronts(folder: Path, costs: list[Cost], price_per_hour: float | None) -> list[Block]:
    """Draw macro-F1 against the cost of inference and of training; name the models whose cost was not measured."""
    unit, price, factor = ("hours", "", 1.0) if price_per_hour is None else ("cost", f" at {price_per_hour:g} per hour", price_per_hour)
    hours_of = {
        "inference": (f"{unit} per million texts{price}", [cost.hours_per_million for cost in costs]),
        "training": (f"{unit} of training{price}", [cost.training_seconds and cost.training_seconds / 3_600 for cost in costs]),
    }
    devices_of = {"inference": [cost.predicted_on for cost in costs], "training": [cost.trained_on for cost in costs]}
    remedies = {"inference": "; `python evaluate.py --model RUN --split test` measures it", "training": ""}
    blocks: list[Block] = []
    for phase, (label, hours) in hours_of.items():
        if unknown := [escape_markdown(cost.model.name) for cost, value in zip(costs, hours, strict=True) if value is None]:
            blocks.append(Paragraph(f"The cost of {phase} was not measured for {', '.join(unknown)}{remedies[phase]}."))
        measured = [
            (cost.model, value * factor, device)
            for cost, value, device in zip(costs, hours, devices_of[phase], strict=True)
            if value is not None
        ]
        blocks += _draw_pareto_front(folder / f"pareto_{phase}.png", phase, label, measured)
    return blocks


def _draw_pareto_front(path: Path, phase: str, label: str, measured: list[tuple[ModelScores, float, str | None]]) -> list[Block]:
    """Draw macro-F1 against the cost of the models that were measured on the same device, the one with most models; name the others."""
    if not measured:
        return []
    device = Counter(device for _, _, device in measured).most_common(1)[0][0]
    drawn = [(model, value) for model, value, own in measured if own == device]
    others = [f"{escape_markdown(model.name)} ({escape_markdown(own or UNKNOWN)})" for model, _, own in measured if own != device]
    blocks: list[Block] = []
    if others:
        blocks.append(Paragraph(f"The cost of {phase} was measured on another device for {', '.join(others)}; it is not drawn."))
    if len(drawn) > 1:
        where = f" on {escape_markdown(device)}" if device else ""
        caption = f"Macro-F1 against the cost of {phase}{where}. No model is both cheaper and better than a model on the Pareto front."
        models, values = map(list, zip(*drawn, strict=True))
        blocks.append(save_figure(path, caption, figures.plot_pareto_front, models, values, label))
    return blocks


def _report_scaling(folder: Path, models: list[ModelScores]) -> list[Section]:
    """Return how the score depends on the number of training rows, and throughput on batch size and number of processes.

    A part is left out if the runs do not differ in it, and the section is left out if both parts are.
    """
    blocks: list[Block] = []
    if curves := find_scaling_curves(models):
        caption = "Macro-F1 against the fraction of the training rows. Models on one line differ only in that fraction."
        blocks.append(save_figure(folder / "scale.png", caption, figures.plot_scaling_curves, curves))
        rows = [
            [model.name, f"{model.group.train_fraction:.4g}", format_score(model.score(MAIN_METRIC), model.interval(MAIN_METRIC))]
            for curve in curves
            for model in curve
        ]
        blocks.append(Table("scale", ["model", "fraction of the training rows", MAIN_METRIC], rows))
    pairs = [(run, run.config.training.per_device_batch_size) for model in models for run in model.group.runs if run.config is not None]
    if len({(batch_size, run.efficiency.get("num_processes")) for run, batch_size in pairs}) > 1:
        rows = [
            [run.name, str(batch_size), str(run.efficiency.get("num_processes", UNKNOWN))]
            + [_format(run.efficiency.get(name), "{:,.1f}") for name in ("examples_per_second", "tokens_per_second")]
            for run, batch_size in pairs
        ]
        blocks.append(Table("throughput", ["run", "batch size per device", "processes", "examples/s", "tokens/s"], rows))
    return [Section("Scalability", blocks)] if blocks else []


def list_runs(models: list[ModelScores]) -> Table:
    """Return the settings that distinguish the runs."""
    rows = []
    for model in models:
        for run in model.group.runs:
            config = run.config
            if config is None:
                rows.append([run.name, model.name, "not trained here", "predictions from a file", *["-"] * 4])
                continue
            method = (
                "full fine-tuning"
                if not config.lora.r
                else f"LoRA r={config.lora.r}" + (" on NF4" if config.model.quantization == "nf4" else "")
            )
            steps = [str(config.training.epochs), f"{config.training.learning_rate:g}"]
            if config.model.backbone == BASELINE:
                method, steps = "scikit-learn", ["-", "-"]
            elif config.distillation.teachers:
                method += f", {format_count(len(config.distillation.teachers), 'teacher')}"
            data = f"{config.data.title}, {100 * config.data.train_fraction:.4g}%"
            rows.append([run.name, model.name, config.model.backbone, method, data, *steps, str(config.training.seed)])
    return Table("runs", ["run", "model", "backbone", "method", "training data", "epochs", "learning rate", "seed"], rows)


def _list_notes(models: list[ModelScores]) -> list[Block]:
    """Return how the predictions of each model that was not trained here were read, and which runs have thresholds given by hand."""
    runs = [run for model in models for run in model.group.runs if run.notes]
    return [Paragraph(f"**{escape_markdown(run.name)}**: {escape_markdown('; '.join(run.notes))}.") for run in runs]


def _format(value: float | None, template: str) -> str:
    return UNKNOWN if value is None else template.format(value)
