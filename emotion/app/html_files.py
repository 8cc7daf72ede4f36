"""Files and models as HTML: progress, results, scores and pictures. All text of others is escaped."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from emotion.app.about import About
from emotion.app.html_answers import MAX_LABELS, format_name, format_table, format_text
from emotion.app.results import Progress, ScoredFile
from emotion.app.uploads import Upload
from emotion.text import escape_controls, format_count

MAX_CELL_CHARACTERS = 200
LONG_CHARACTERS = 40
"""A longer cell gets a wide column."""
FILE_ROUTE = "gradio_api/file="
"""Where Gradio serves files of allowed folders, relative to the page."""
NUM_COLORS = 6
"""Colors of label chips; labels share them in turn."""


def format_upload(upload: Upload) -> str:
    """Return the size of a file, the column that was guessed, and its first rows."""
    unreadable = f", of which {upload.num_unreadable:,} cannot be read" if upload.num_unreadable else ""
    guess = (
        f"texts probably in <code>{escape(escape_controls(upload.text_column))}</code>"
        if upload.text_column
        else "choose the column of the texts"
    )
    head = "".join(f'<th scope="col">{escape(escape_controls(column))}</th>' for column in upload.columns)
    rows = ["<tr>" + "".join(map(_format_cell, values)) + "</tr>" for values in upload.rows]
    name = escape(escape_controls(upload.path.name))
    summary = f"<p><b>{name}</b>: {format_count(upload.num_rows, 'row')}{unreadable}; {guess}.</p>"
    return summary + format_notes(upload.notes) + format_table(head, rows, "First rows of the file")


def format_progress(progress: Progress) -> str:
    """Return a progress bar with rows and rows per second."""
    percent = 100 * progress.num_done / max(progress.num_rows, 1)
    text = f"{progress.num_done:,} of {progress.num_rows:,} rows"
    if progress.is_loading:
        text = "Preparing the model for files …"
    elif progress.rows_per_second > 0:
        text += f" · {progress.rows_per_second:,.0f} rows/s"
    bar = f'<div class="progress"><span style="width:{percent:.1f}%"></span></div>'
    attributes = f'role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent:.0f}" aria-label="Rows scored"'
    return f'<div class="job"><div {attributes}>{bar}</div><p>{text}</p></div>'


def format_stopped(progress: Progress) -> str:
    """Return what remains of a job that was stopped."""
    done = f"Stopped after {progress.num_done:,} of {progress.num_rows:,} rows; press Score to go on from there."
    return f'<div class="job"><p role="status">{done}</p></div>'


def format_result(result: ScoredFile) -> str:
    """Return the counts, the share of each label with its interval, and the first rows with their labels."""
    rate = result.progress.rows_per_second
    speed = f" ({rate:,.0f} rows/s)" if rate > 0 else " (scored before)"
    bad = f" {result.num_bad:,} could not be scored; the second file says why." if result.num_bad else " Every row was scored."
    lines = [f'<p role="status"><b>{format_count(result.num_rows, "row")}</b>{speed}.{bad}</p>']
    if result.scores is not None:
        names = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "subset_accuracy": "all labels right"}
        scores = ", ".join(f"{title} {_format_score(result.scores[name])}" for name, title in names.items())
        lines.append(f"<p>Against the gold labels of {result.scores['num_rows'] or 0:,.0f} rows: {scores}.</p>")
    return f'<div class="job">{"".join(lines)}{format_notes(result.notes)}</div>{_format_frequencies(result)}{_format_rows(result)}'


def format_scores(about: About) -> str:
    """Return the scores with their intervals, and where the model fails."""
    if not about.split:
        return '<p class="hint">No report stands beside this model. <code>evaluate.py --split test</code> writes one into its run.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("score", "value", "95% interval"))
    rows = [
        f'<tr><th scope="row">{score.name}</th><td class="number">{score.value:.3f}</td><td class="number">'
        + ("{:.3f} to {:.3f}".format(*score.interval) if score.interval else "")
        + "</td></tr>"
        for score in about.scores
    ]
    fitted = " The rule was fitted on these rows, so its scores are optimistic." if about.split == "validation" else ""
    title = f"<h2>Scores on the {about.split} split</h2><p class='hint'>{about.num_rows:,} rows.{fitted}</p>"
    title += format_notes(about.notes) + _format_verdict(about)
    return title + format_table(head, rows, "Scores at the decision rule") + _format_weakest(about)


def format_labels(about: About) -> str:
    """Return precision, recall and F1 of each label."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("label", "rows", "precision", "recall", "F1", "95% interval"))
    rows = [
        f'<tr><th scope="row">{format_name(row["label"])}</th><td class="number">{int(row["support"]):,}</td>'
        + "".join(f'<td class="number">{_format_number(row[name], ".3f")}</td>' for name in ("precision", "recall", "f1"))
        + f'<td class="number">{_format_interval(row)}</td></tr>'
        for row in about.labels
    ]
    return f"<h2>Each label</h2>{format_table(head, rows, 'Scores of each label')}" if rows else ""


def format_figures(about: About) -> str:
    """Return the pictures of the report, which the browser loads when they come into view."""
    figures = [
        f'<figure><a href="{FILE_ROUTE}{quote(str(path))}" target="_blank">'
        f'<img src="{FILE_ROUTE}{quote(str(path))}" loading="lazy" width="{width}" height="{height}" alt="{escape(caption)}"></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for path, caption in about.figures
        for width, height in [_read_size(path)]
    ]
    return f"<h2>Pictures</h2><div class='figures'>{''.join(figures)}</div>" if figures else ""


def format_comparison(about: About) -> str:
    """Return the comparison report in a frame that can run no script and load nothing."""
    if about.comparison is None:
        return ""
    content = escape(about.comparison.read_text(encoding="utf-8", errors="replace"))
    return f'<h2>Comparison report</h2><iframe class="report" title="Comparison report" sandbox loading="lazy" srcdoc="{content}"></iframe>'


def _format_frequencies(result: ScoredFile) -> str:
    widest = max((frequency.interval[1] for frequency in result.frequencies), default=1.0) or 1.0
    rows = [
        f'<li class="share"><span class="name">{format_name(frequency.name)}</span>'
        f'<span class="track" aria-hidden="true"><span class="fill" style="width:{frequency.fraction / widest:.2%}"></span>'
        f'<span class="interval" style="left:{frequency.interval[0] / widest:.2%};'
        f'width:{(frequency.interval[1] - frequency.interval[0]) / widest:.2%}"></span></span>'
        f'<span class="value">{frequency.fraction:.1%} <span class="hint">({frequency.interval[0]:.1%}–{frequency.interval[1]:.1%}, '
        f"{format_count(frequency.count, 'row')})</span></span></li>"
        for frequency in result.frequencies[:MAX_LABELS]
        if frequency.count
    ]
    if not rows:
        return '<p class="hint">No row got a label.</p>'
    note = "Share of the scored rows that got each emotion, with 95% intervals. Rows can have several. Lines: the intervals."
    return f'<h2>How common each emotion is</h2><p class="hint">{note}</p><ul class="shares" role="list">{"".join(rows)}</ul>'


def _format_rows(result: ScoredFile) -> str:
    colors = {
        frequency.name: number % NUM_COLORS
        for number, frequency in enumerate(sorted(result.frequencies, key=lambda frequency: frequency.name))
    }
    head = '<th scope="col">text</th><th scope="col">emotions</th>'
    rows = []
    for text, labels in result.rows:
        chips = "".join(f'<span class="chip color-{colors[name]}">{format_name(name)}</span>' for name in labels or ())
        nothing = '<span class="hint">not scored</span>' if labels is None else "–"
        rows.append(f'<tr><td class="long">{format_text(_shorten(text))}</td><td>{chips or nothing}</td></tr>')
    caption = f"First {len(rows):,} rows" if len(rows) < result.num_rows else "All rows"
    return format_table(head, rows, caption)


def _format_weakest(about: About) -> str:
    rows = [
        f"<li><b>{format_name(row['label'])}</b>: F1 {_format_number(row['f1'], '.2f')}; "
        f"{_format_number(row['precision'], '.0%')} of its predictions are right, "
        f"{_format_number(row['recall'], '.0%')} of its {int(row['support']):,} rows are found.</li>"
        for row in about.weakest
    ]
    return f"<h2>Where it fails</h2><ul class='plain'>{''.join(rows)}</ul>" if rows else ""


def _format_interval(row: dict[str, str]) -> str:
    low, high = row.get("f1_low"), row.get("f1_high")
    return f"{_format_number(low, '.3f')} to {_format_number(high, '.3f')}" if low and high else ""


def _format_number(cell: str, specification: str) -> str:
    """Return a number of a csv file; a dash for an empty cell, which is a score that could not be measured."""
    return format(float(cell), specification) if cell else "–"


def _read_size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG file."""
    with path.open("rb") as stream:
        header = stream.read(24)
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def format_notes(notes: list[str]) -> str:
    """Return one paragraph for each note."""
    return "".join(f'<p class="notice">{escape(escape_controls(note))}</p>' for note in notes)


def _format_verdict(about: About) -> str:
    if about.verdict is None:
        return ""
    style = "notice good" if about.verdict.verdict == "useful" else "notice"
    return f'<p class="{style}">{escape(escape_controls(str(about.verdict)))}</p>'


def _format_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _format_cell(value: object) -> str:
    text = _shorten(value)
    return f"<td{' class=long' if len(text) > LONG_CHARACTERS else ''}>{format_text(text)}</td>"


def _shorten(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…"
