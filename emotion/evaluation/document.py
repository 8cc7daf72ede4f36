"""A document of paragraphs, tables and figures, written as Markdown, as one self-contained HTML page, and as CSV tables."""

import base64
import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from emotion.files import atomic_write, write_csv
from emotion.text import escape_controls

FIGURE_SCALE_PERCENT = 72
"""Width of a figure on the page, in percent of its pixels. 9-point text in a figure is then as large as the text of a table."""
MAX_LINE_LENGTH = 40
"""Characters of a cell that stay on one line; longer ones are wrapped."""
QUOTED_COLUMNS = ("text", "compared with")
"""Columns of texts that people wrote. They are shown in their own direction; in other cells and sentences, words are."""
NUMBER = re.compile(r"[-+−]?\.?\d[\d,.]*(?![\d,.]|-| →)")
"""The beginning of a cell with a number, which is no date such as 2024-03."""
RIGHT_TO_LEFT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
RIGHT_TO_LEFT_WORDS = re.compile(f"[{RIGHT_TO_LEFT}](?:[{RIGHT_TO_LEFT}\\s'’-]*[{RIGHT_TO_LEFT}])?")
"""A name in Hebrew, Arabic or another such script. Without its own direction it would pull the numbers after it to its other side."""
MARKDOWN = re.compile(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_")
"""Characters that Markdown would not show. After a letter or a digit, `_` begins no emphasis."""
INLINE = re.compile(r"\\(&#?\w+;|[^\w\s]|_)|`([^`]+)`|\*\*")
"""In the Markdown of a paragraph, after `html.escape`: an escaped character, code, or a border of bold text."""


@dataclass(frozen=True)
class Paragraph:
    """Text with two Markdown elements, `code` and **bold**; names in it have gone through `escape_markdown`."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table of formatted cells. The first column is the header of each row."""

    name: str
    """Name of the CSV file, without suffix."""
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """Paragraph below the table."""
    bars: Sequence[tuple[float, float, float] | None] = ()
    """For each row a value in [0, 1] and its interval, which the page draws beside the header; None for an empty cell."""


@dataclass(frozen=True)
class Figure:
    """A figure drawn for a light page, which is saved beside the report, and the same figure drawn for a dark page."""

    path: Path
    dark: bytes
    """Content of a PNG file."""
    caption: str


Block = Paragraph | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    title: str
    blocks: Sequence[Block]


def write_document(folder: Path, title: str, sections: Sequence[Section], sometimes: Collection[str] = ()) -> None:
    """Write report.md, report.html and one CSV file per table to `folder`, where the figures are already saved.

    `sometimes` are the names of tables and figures that not every report of this sort has. Those that an earlier report left in the folder
    and this one does not have are removed: they would be taken for its own, and may quote texts that it does not.
    """
    blocks = [block for section in sections for block in section.blocks]
    written = {f"{block.name}.csv" for block in blocks if isinstance(block, Table)}
    written |= {block.path.name for block in blocks if isinstance(block, Figure)}
    if (folder / "report.md").is_file():
        for name in {f"{stem}.{suffix}" for stem in sometimes for suffix in ("csv", "png")} - written:
            (folder / name).unlink(missing_ok=True)
    with atomic_write(folder / "report.md") as partial:
        partial.write_text(format_markdown(title, sections), encoding="utf-8")
    with atomic_write(folder / "report.html") as partial:
        partial.write_text(format_html(title, sections), encoding="utf-8")
    for table in (block for block in blocks if isinstance(block, Table)):
        write_csv(folder / f"{table.name}.csv", [table.columns, *table.rows])


def format_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the document as Markdown, with figures linked by file name."""
    parts = [f"# {escape_markdown(title)}"]
    for section in sections:
        parts.append(f"## {section.title}")
        for block in section.blocks:
            if isinstance(block, Paragraph):
                parts.append(block.text)
            elif isinstance(block, Figure):
                parts.append(f"![{block.caption}]({block.path.name})")
            else:
                lines = [block.columns, ["---"] * len(block.columns), *block.rows]
                parts.append("\n".join("| " + " | ".join(escape_markdown(cell) or " " for cell in line) + " |" for line in lines))
                parts += [block.note] if block.note else []
    return "\n\n".join(parts) + "\n"


def format_html(title: str, sections: Sequence[Section]) -> str:
    """Return the document as one self-contained page: styles and figures are embedded."""
    links = " · ".join(f'<a href="#{_make_slug(section.title)}">{html.escape(section.title)}</a>' for section in sections)
    body = [f"<h1>{_escape_html(title)}</h1>", f"<nav>{links}</nav>"]
    for section in sections:
        body.append(f'<section id="{_make_slug(section.title)}"><h2>{html.escape(section.title)}</h2>')
        for block in section.blocks:
            if isinstance(block, Paragraph):
                body.append(f"<p>{_format_inline(block.text)}</p>")
            elif isinstance(block, Figure):
                body.append(_format_figure(block))
            else:
                body.append(_format_table(block))
        body.append("</section>")
    return PAGE.format(title=html.escape(escape_controls(title)), style=STYLE, body="\n".join(body))


def _format_table(table: Table) -> str:
    columns = [_format_header(column, "col") for column in table.columns]
    bars = [_format_bar(bar) for bar in table.bars] or [""] * len(table.rows)
    if table.bars:
        columns.insert(1, "<th></th>")
    lines = [
        f"<tr>{_format_header(row[0], 'row')}{bar}{''.join(map(_format_cell, row[1:], table.columns[1:]))}</tr>"
        for row, bar in zip(table.rows, bars, strict=True)
    ]
    note = f'<p class="note">{_format_inline(table.note)}</p>' if table.note else ""
    head, body = "".join(columns), "".join(lines)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}'


def _format_bar(bar: tuple[float, float, float] | None) -> str:
    """Return a cell with a bar from 0 to a value, and a line from the lower to the upper bound of its interval."""
    if bar is None:
        return "<td></td>"
    value, low, high = bar
    line = f'<span style="left:{low:.1%};width:{max(high - low, 0):.1%}"></span>'
    return f'<td class="bar" aria-hidden="true"><div><div style="width:{value:.1%}"></div>{line}</div></td>'


def _format_header(cell: str, scope: str) -> str:
    css_class = ' class="text"' if len(cell) > MAX_LINE_LENGTH else ""
    return f'<th scope="{scope}"{css_class}>{_escape_html(cell)}</th>'


def _format_cell(cell: str, column: str) -> str:
    is_quoted, is_long = column in QUOTED_COLUMNS, len(cell) > MAX_LINE_LENGTH
    classes = [*(["quoted"] if is_quoted else []), *(["text"] if is_long else ["number"] if NUMBER.match(cell) and not is_quoted else [])]
    css_class = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{css_class}>{html.escape(escape_controls(cell)) if is_quoted else _escape_html(cell)}</td>"


def _format_figure(figure: Figure) -> str:
    """Return the light and the dark version of a figure; the browser shows the one for its color scheme."""
    content = figure.path.read_bytes()
    light, dark, caption = _format_data_url(content), _format_data_url(figure.dark), _format_inline(figure.caption)
    width = int.from_bytes(content[16:20], "big") * FIGURE_SCALE_PERCENT // 100  # bytes 16 to 19 of a PNG file are its width
    image = f'<img src="{light}" style="width:{width}px" alt="{re.sub("<[^>]+>", "", caption)}">'
    picture = f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">{image}</picture>'
    return f'<figure><div class="wide" tabindex="0">{picture}</div><figcaption>{caption}</figcaption></figure>'


def _format_data_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _format_inline(text: str) -> str:
    """Return the Markdown of a paragraph as HTML."""
    bold = cycle(("<strong>", "</strong>"))

    def convert(match: re.Match[str]) -> str:
        literal, code = match.groups()
        return literal or (f"<code>{code}</code>" if code else next(bold))

    return _isolate(INLINE.sub(convert, html.escape(text)))


def format_plain(text: str) -> str:
    """Return the Markdown of a paragraph as the plain text that it shows."""
    return INLINE.sub(lambda match: match[1] or match[2] or "", text)


def replace_section(text: str, title: str, content: str | None) -> str:
    """Return a Markdown text with the content of a section replaced, or added as the last section; None removes the section.

    A section ends at the next heading of its level. Names of others are escaped, so none of them begins a line with `## `.
    """
    section = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.S | re.M)
    written = "" if content is None else f"## {title}\n\n{content}\n\n"
    if section.search(text):
        return section.sub(lambda _: written, text).rstrip("\n") + "\n"
    return f"{text.rstrip()}\n\n{written}".rstrip("\n") + "\n"


def escape_markdown(text: str) -> str:
    """Return one line of Markdown that shows a text as it is: no emphasis, link, HTML, formula or end of a table's cell."""
    return MARKDOWN.sub(r"\\\g<0>", escape_controls(text))


def _escape_html(text: str) -> str:
    return _isolate(html.escape(escape_controls(text)))


def _isolate(content: str) -> str:
    """Return HTML in which words in a script from right to left have their own direction."""
    return RIGHT_TO_LEFT_WORDS.sub(r"<bdi>\g<0></bdi>", content)


def _make_slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --line: #d0d7de; --band: #f4f6f8; --link: #0b5cad; }
td.bar { --bar: #5aa3d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a3abb5; --paper: #14171b; --line: #363c44; --band: #1c2026; --link: #79b8ff; }
  td.bar { --bar: #2f6f9f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
nav, .note, figcaption { color: var(--soft); font-size: .9rem; } a { color: var(--link); }
.wide { overflow-x: auto; margin: .8rem 0; } .wide:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .65rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
thead th { background: var(--band); } tbody th { font-weight: 600; } td.number { text-align: right; }
td.quoted { unicode-bidi: plaintext; }
th.text, td.text { white-space: normal; min-width: 18rem; max-width: 34rem; overflow-wrap: anywhere; }
td.bar { min-width: 7rem; width: 24%; vertical-align: middle; }
td.bar > div { position: relative; height: .75rem; background: var(--band); }
td.bar > div > div { height: 100%; background: var(--bar); border-radius: 0 2px 2px 0; }
td.bar span { position: absolute; top: calc(50% - 1px); height: 2px; background: var(--ink); }
figure { margin: 1.2rem 0; } img { display: block; max-width: max(100%, 34rem); height: auto; }
code { font-size: .9em; background: var(--band); padding: .1em .3em; border-radius: 3px; overflow-wrap: anywhere; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
