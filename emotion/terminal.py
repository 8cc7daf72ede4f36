"""Show text that others wrote, such as a data row, a label or a file's name: no character of it controls the terminal or starts a line."""

import json
import re
import sys
from typing import Any, TextIO

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, DEL and C1; line and paragraph separators; overrides of the direction; lone surrogates, which no stream can encode."""


def escape_controls(text: str) -> str:
    r"""Return the text with each control character as a visible escape, such as `\x1b`, `\n` or `\u202e`."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def print_message(message: str, stream: TextIO | None = None) -> None:
    """Print a message on one line of stderr, or of another stream, with its control characters escaped."""
    print(escape_controls(message), file=stream or sys.stderr)


def format_json(value: Any) -> str:
    r"""Return the value as JSON on one line; control characters, which `json` escapes up to U+001F only, are `\uXXXX`."""
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
