"""The results of a suite in words and tables: for the terminal, the report, and the model card."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion.evaluation.behaviour.results import FILE_NAME
from emotion.evaluation.document import Block, Paragraph, Section, Table, escape_markdown, format_plain, write_document
from emotion.files import write_json
from emotion.text import escape_controls, format_names

NUM_WORST = 20
NUM_WORST_PRINTED = 5
MAX_WORST_PER_CAPABILITY = 4
"""Cases of one capability among the worst, at most one of each cluster: 12 variants of one sentence would hide all others."""
INTERVAL_NOTE = (
    "The intervals are Wilson's, with the effective number of cases where cases share a sentence or a counterpart. They say how far the "
    "rate may be from that of more cases written in the same manner, not of the texts that people write."
)
GAP_NOTE = (
    "Difference: probability with the term minus the mean over all terms in the same sentences, for the label where it is largest. The "
    "intervals are Student's over sentences and not corrected; p is corrected by Holm's method over all terms and labels of a group."
)


def write_behaviour_report(folder: Path, results: dict[str, Any]) -> None:
    """Write behaviour.json, report.md, report.html and the tables as CSV to a folder."""
    write_json(folder / FILE_NAME, results)
    worst = rank_worst(results, NUM_WORST)
    sections = [
        Section("Summary", [Paragraph(f"{_capitalize(line)}.") for line in summarize_results(results)]),
        Section("Pass rates", [tabulate_rates(results)]),
        Section("Worst cases", _list_worst(worst)),
        *([Section("Identity terms", _list_gaps(results))] if results["gaps"] else []),
    ]
    write_document(folder, f"Behaviour of {escape_controls(results['model'])}", sections, sometimes=("worst", "gaps"))


def summarize_results(results: dict[str, Any]) -> list[str]:
    """Return what was checked, the lowest pass rates, and the largest gap of an identity term, as Markdown."""
    num_cases, num_passed = len(results["cases"]), sum(case["passed"] for case in results["cases"])
    lines = [f"behaviour: {num_passed:,} of {num_cases:,} cases of {escape_markdown(results['suite'])} passed{_describe_skipped(results)}"]
    lines += _describe_lowest(results["capabilities"])
    return [*lines, *summarize_gaps(results["gaps"])]


def format_results(results: dict[str, Any], is_full: bool = False) -> list[str]:
    """Return the lines that the terminal shows; all failed cases if `is_full`."""
    width = max(len(escape_controls(row["capability"])) for row in results["capabilities"])
    lines = [f"{'capability':<{width}}  {'passed':>11}  rate  95% interval"]
    for row in results["capabilities"]:
        counts = f"{row['passed']:,}/{row['cases']:,}"
        interval = f"{_format_interval(row)}{_mark_hard(row)}"
        lines.append(f"{escape_controls(row['capability']):<{width}}  {counts:>11}  {row['rate']:.2f}  {interval}")
    failed = [case for case in _sort_failed(results) if is_full] or rank_worst(results, NUM_WORST_PRINTED)
    lines += [f"failed: {case['id']}: {_quote(case)}{_describe_expected(case)}; {case['detail']}" for case in failed]
    return [*lines, *map(format_plain, summarize_results(results))]


def format_card_section(results: dict[str, Any]) -> str:
    """Return the section of a model card, as Markdown."""
    table = tabulate_rates(results)
    rows = [list(table.columns), ["---"] * len(table.columns), *([escape_markdown(cell) or " " for cell in row] for row in table.rows)]
    return "\n".join(
        [
            f"{len(results['cases']):,} cases of {escape_markdown(results['suite'])}{_describe_skipped(results)}.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            table.note,
            *([""] if results["gaps"] else []),
            *(f"- {_capitalize(line)}." for line in summarize_gaps(results["gaps"])),
        ]
    )


def tabulate_rates(results: dict[str, Any]) -> Table:
    """Return the pass rates of the capabilities with bars."""
    rates = results["capabilities"]
    rows = [
        [f"{row['capability']}{_mark_hard(row)}", f"{row['rate']:.2f}", _format_interval(row), f"{row['passed']:,}", f"{row['cases']:,}"]
        for row in rates
    ]
    bars = [(row["rate"], row["low"], row["high"]) for row in rates]
    return Table("capabilities", ["capability", "pass rate", "95% interval", "passed", "cases"], rows, INTERVAL_NOTE, bars)


def rank_worst(results: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the cases that fail by most probability: at most one of a cluster, and few of a capability; hard ones are left out."""
    worst: list[dict[str, Any]] = []
    clusters, counts = set(), Counter[str]()
    for case in _sort_failed(results):
        if case["hard"] or case["cluster"] in clusters or counts[case["capability"]] >= min(MAX_WORST_PER_CAPABILITY, count // 2):
            continue
        clusters.add(case["cluster"])
        counts[case["capability"]] += 1
        worst.append(case)
    return worst[:count]


def summarize_gaps(gaps: Sequence[dict[str, Any]]) -> list[str]:
    """Return the largest gap of the groups of identity terms, and how many are more than chance, as Markdown."""
    if not gaps:
        return []
    row = max(gaps, key=lambda row: abs(row["gaps"][0]["difference"]))
    gap = row["gaps"][0]
    direction = "higher" if gap["difference"] >= 0 else "lower"
    bounds = sorted([gap["low"], gap["high"]] if gap["difference"] >= 0 else [-gap["high"], -gap["low"]])
    mean = f"mean probability of {escape_markdown(gap['label'])} is {abs(gap['difference']):.3f} {direction}"
    num_found, num_tests = (sum(row[name] for row in gaps) for name in ("num_found", "num_tests"))
    return [
        f"identity terms: the largest difference is with {escape_markdown(gap['term'])}, whose {mean} (95% interval {bounds[0]:.3f} to "
        f"{bounds[1]:.3f}) than with all {len(row['gaps'])} terms of {escape_markdown(row['capability'])} in the same {gap['sentences']:,} "
        "sentences",
        f"{num_found:,} of {num_tests:,} differences between a term and the mean are significant after correction, and "
        "where none is, a dozen sentences may be too few to find one",
    ]


def _describe_skipped(results: dict[str, Any]) -> str:
    if not results["skipped"]:
        return ""
    names = escape_markdown(format_names(results["missing_labels"]))
    return f"; {results['skipped']:,} more were skipped, because the model does not have the labels {names}"


def _describe_lowest(rates: list[dict[str, Any]]) -> list[str]:
    """Name the capability with the lowest pass rate, of those whose cases are not all hard, and the pass rates of the others."""
    usual, hard = ([row for row in rates if (row["hard"] == row["cases"]) is is_hard] for is_hard in (False, True))
    lines = []
    if usual:
        low = min(usual, key=lambda row: row["rate"])
        lines.append(f"lowest pass rate: {_describe_rate(low)}")
    return lines + [f"hard cases only: {_describe_rate(row)}" for row in hard]


def _describe_rate(row: dict[str, Any]) -> str:
    rate = f"{row['rate']:.0%} of {row['cases']:,} cases (95% interval {row['low']:.0%} to {row['high']:.0%})"
    return f"{escape_markdown(row['capability'])}, {rate}"


def _sort_failed(results: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted((case for case in results["cases"] if not case["passed"]), key=lambda case: -case["excess"])


def _list_worst(worst: list[dict[str, Any]]) -> list[Block]:
    if not worst:
        return [Paragraph("Every case that is not hard passed.")]
    note = "By how much probability a case fails; at most one case of a sentence and its variants. Hard cases are left out."
    is_quoted = all("text" in case for case in worst)
    rows = []
    for case in worst:
        quoted = [case["text"], case.get("compare_to", ""), case.get("reason", "")] if is_quoted else []
        rows.append([case["id"], *quoted[:2], _describe_expected(case), case["detail"], f"{case['excess']:.2f}", *quoted[2:]])
    texts, reason = (["text", "compared with"], ["reason"]) if is_quoted else ([], [])
    return [Table("worst", ["case", *texts, "expected", "answer", "fails by", *reason], rows, note)]


def _list_gaps(results: dict[str, Any]) -> list[Block]:
    rows = []
    for of_capability in results["gaps"]:
        for gap in of_capability["gaps"]:
            interval = f"{gap['low']:+.3f} to {gap['high']:+.3f}"
            cells = [gap["label"], f"{gap['difference']:+.3f}", interval, f"{gap['p_value']:.4f}", f"{gap['sentences']:,}"]
            rows.append([f"{of_capability['capability']}: {gap['term']}", *cells])
    return [Table("gaps", ["term", "label", "difference", "95% interval", "p (Holm)", "sentences"], rows, GAP_NOTE)]


def _describe_expected(case: dict[str, Any]) -> str:
    return f"{case['expect']} {', '.join(map(str, case.get('labels') or ['all labels']))}"


def _quote(case: dict[str, Any]) -> str:
    """Return the text of a case and its counterpart, if they are stored."""
    if "text" not in case:
        return ""
    other = f" (against “{case['compare_to']}”)" if case.get("compare_to") else ""
    return f"“{case['text']}”{other}: "


def _format_interval(row: dict[str, Any]) -> str:
    return f"{row['low']:.2f} to {row['high']:.2f}"


def _mark_hard(row: dict[str, Any]) -> str:
    return "" if not row["hard"] else " (hard)" if row["hard"] == row["cases"] else f" ({row['hard']:,} hard)"


def _capitalize(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
