"""Text that others wrote, such as a data row, a label or a file's name: whether UTF-8 can hold it, and how it is shown on a terminal."""

import codecs
import json
import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any, TextIO

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, DEL and C1; line and paragraph separators; overrides of the direction; lone surrogates, which no stream can encode."""
STYLES = re.compile("\x1b\\[[0-9;]*m")
"""Colors and bold letters of a terminal."""
QUIET = "EMOTION_QUIET"
"""Variable that is set while only results and errors are printed."""
ASCII_FORMS = {"█": "#", "●": "*", "○": "o", "…": "...", "±": "+-", "−": "-", "·": "-", "–": "-", "’": "'"}
"""What is shown in place of our own signs where a terminal does not have them."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins with one of these for a formula. Source: OWASP, "CSV Injection"."""
MAX_NAMES_SHOWN = 10
"""Number of names that a message lists."""


def is_writable_text(value: Any) -> bool:
    """Return whether UTF-8 can encode a value; bytes that are not UTF-8 were decoded to lone surrogates, which it cannot."""
    return not isinstance(value, str) or value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def escape_controls(text: str) -> str:
    r"""Return the text with each control character as a visible escape, such as `\x1b`, `\n` or `\u202e`."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def escape_formula(cell: str) -> str:
    """Return the text of a cell, after an apostrophe if a spreadsheet would take it for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def unescape_formula(cell: str) -> str:
    """Return the text of a cell without the apostrophe that `escape_formula` adds."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_STARTS) else cell


def read_digits(text: str) -> int | None:
    """Return a number that is written in digits; None for another text, and for more digits than `int` takes."""
    try:
        return int(text) if text.isdecimal() else None
    except ValueError:
        return None


def describe_error(error: Exception, max_length: int = 200) -> str:
    """Return the message of a library's error on one line, without colors, or its type if there is none."""
    return " ".join(STYLES.sub("", str(error)).split())[:max_length] or type(error).__name__


def format_names(names: Iterable[str]) -> str:
    """Return the first names, quoted, as a part of a sentence, and how many more there are."""
    names = list(names)
    shown = ", ".join(map(repr, names[:MAX_NAMES_SHOWN]))
    return shown if len(names) <= MAX_NAMES_SHOWN else f"{shown} and {len(names) - MAX_NAMES_SHOWN} more"


def print_message(message: str, stream: TextIO | None = None) -> None:
    """Print a message on one line of stderr, or a result on one line of another stream, with its control characters escaped.

    On a terminal, long lines are wrapped between words. With `--quiet`, only results are printed.
    """
    if stream is not None or not is_quiet():
        print(wrap_for(escape_controls(message), stream or sys.stderr), file=stream or sys.stderr)


def wrap_for(text: str, stream: TextIO, indent: str = "  ") -> str:
    """Return the text wrapped between words to the width of a terminal; as it is if the stream is none, or for an indented command."""
    width = find_width(stream)
    # A word that is longer, such as a path, stays whole: it can then be copied.
    options: dict[str, Any] = {"subsequent_indent": indent, "break_long_words": False, "break_on_hyphens": False}
    is_command = text.startswith("  ")
    return text if width is None or is_command else textwrap.fill(text, width, **options)


def find_width(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None if the stream is none, so that its lines are not wrapped."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def is_quiet() -> bool:
    """Return whether only results and errors are printed."""
    return bool(os.environ.get(QUIET))


def be_quiet() -> None:
    """Print only results and errors from here on: no messages, and no progress bars of any package that is not yet imported."""
    os.environ |= {QUIET: "1", "TQDM_DISABLE": "1"}


def format_json(value: Any, stream: TextIO | None = None) -> str:
    r"""Return the value as JSON on one line, with each control character as a `\uXXXX` escape.

    So is each character that is not ASCII if stdout, or another stream, is not UTF-8, which JSON has to be.
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return encode_json(value, is_ascii=codecs.lookup(encoding).name != "utf-8")


def encode_json(value: Any, is_ascii: bool = False) -> str:
    r"""Return the value as JSON on one line, with each control character, or each one that is not ASCII, as a `\uXXXX` escape."""
    text = json.dumps(value, ensure_ascii=is_ascii)
    # `json` escapes them up to U+001F only.
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def show_all_characters(stream: TextIO | None) -> None:
    r"""Let a stream show a sign of ours in ASCII, and any other character as an escape such as `\u4f60`, if its encoding lacks it."""
    if isinstance(stream, TextIOWrapper):  # a notebook's is not, and shows all
        codecs.register_error("emotion.ascii", _replace_unencodable)
        stream.reconfigure(errors="emotion.ascii")


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(ASCII_FORMS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters), error.end


def format_count(number: int, noun: str) -> str:
    """Return a number and its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count_columns(text: str) -> int:
    """Return the number of columns that a text takes on a terminal: two for a wide character such as a Chinese one, none for an accent."""
    return sum((1 + (unicodedata.east_asian_width(char) in "WF")) * (not unicodedata.combining(char)) for char in text)
