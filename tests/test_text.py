"""Text that others wrote cannot control a terminal, and stays JSON."""

import io
import json
import unicodedata

import pytest

from emotion.text import describe_error, escape_controls, format_json, read_digits

HARMLESS = "Grüße, 你好, مرحبا, שלום, हिन्दी 👩‍👩‍👧‍👦 e\u0301 \\n $x$ \u200f\u00a0"
"""Letters of all scripts, joined emoji, combining characters, a written backslash, a right-to-left mark."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\a", r"\x1b]0;title\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("a\n  ● joy 99%\r\tb", r"a\n  ● joy 99%\r\tb"),
        ("\u202ecod.exe\u2066\u2029", r"\u202ecod.exe\u2066\u2029"),
        ("caf\udce9\x7f\0", r"caf\udce9\x7f\x00"),
    ],
)
def test_control_characters_are_shown(text, shown):
    assert escape_controls(text) == shown
    assert json.loads(format_json({text: text})) == {text: text}


def test_all_other_characters_are_kept():
    assert escape_controls(HARMLESS) == HARMLESS and format_json(HARMLESS) == json.dumps(HARMLESS, ensure_ascii=False)
    astral = "".join(map(chr, range(0x10000, 0x110000)))
    escaped = {chr(code) for code in range(0x10000) if escape_controls(chr(code)) != chr(code)}
    assert escape_controls(astral) == astral
    kinds = {unicodedata.category(character) for character in escaped}
    assert kinds == {"Cc", "Zl", "Zp", "Cf", "Cs"} and len(escaped) == 65 + 2 + 9 + 2_048
    assert all(not set(format_json(character)) & escaped and json.loads(format_json(character)) == character for character in escaped)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk", "utf-16", "utf-8", None])
def test_json_is_utf8_whatever_the_encoding_of_the_stream(encoding):
    """In cp1252 or gbk, `ü` would be a byte that no reader of JSON takes."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding) if encoding else io.StringIO()
    line = format_json({"ü": "你 👩 \x9b"}, stream)
    assert json.loads(line) == {"ü": "你 👩 \x9b"}
    assert line.isascii() if encoding not in ("utf-8", None) else line == '{"ü": "你 👩 \\u009b"}'


def test_an_error_of_a_library_is_one_line_without_colors():
    assert describe_error(ValueError("\x1b[96mstep 1/3\x1b[0m\n  failed\x1b[1;31m!")) == "step 1/3 failed!"
    assert describe_error(ValueError("a" * 300)) == "a" * 200 and describe_error(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("text", "number"), [("012", 12), ("٣", 3), ("9" * 4_300, 10**4_300 - 1), ("9" * 4_301, None), ("-1", None), ("1.0", None), ("", None)]
)
def test_digits(text, number):
    assert read_digits(text) == number
