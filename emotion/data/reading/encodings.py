"""Find the encoding of a text file: the one of the settings, or the one that its first bytes show."""

import codecs
import re
from typing import IO

from emotion.errors import DataError

HEAD_BYTES = 2**16
"""Number of bytes from which the encoding is detected; streams are opened with a buffer of this size."""
UTF_8 = "utf-8-sig"
"""The default: UTF-8, with or without a byte-order mark."""
NOT_UTF_8 = "not valid UTF-8; for another encoding, set data.encoding"
"""Why a row of a file that is read as UTF-8 cannot be used."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Longest first: the mark of UTF-32 begins with that of UTF-16."""
MIN_LINES = 3
"""With fewer lines that are not UTF-8, the file is UTF-8 with bad rows."""
MAX_ACCENTED = 0.3
"""Greatest fraction of letters beyond ASCII in a text of Windows-1252; in Cyrillic or Greek text nearly all are."""
MAX_SYMBOLS_IN_WORDS = 0.1
"""Greatest fraction of characters beyond ASCII that are symbols within a word, such as `\u00b3` where Windows-1250 has a letter."""
SYMBOL_IN_WORD = re.compile(r"(?<=[a-z])[\u00a1-\u00bf\u00d7\u00f7](?=[a-z])")


def peek_head(stream: IO[bytes]) -> bytes:
    """Return the first bytes of a stream without consuming them."""
    return stream.peek(HEAD_BYTES)[:HEAD_BYTES]  # type: ignore[attr-defined]


def find_encoding(path: str, head: bytes, setting: str | None) -> tuple[str, list[str]]:
    """Return Python's name of the encoding of a text that begins with `head`, and a note if it was detected and is not UTF-8.

    `setting` is `data.encoding`, which decides if it is not None.

    Raises: DataError if the bytes are not UTF-8, and not recognized as UTF-16 or Windows-1252.
    """
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if setting is not None:
        name = codecs.lookup(setting).name
        if marked is not None and name.startswith(marked):  # `utf-16-le` would keep the byte-order mark as a character
            return marked, []
        return (UTF_8 if name == "utf-8" else name), []
    detected = marked or _detect_utf_16(head) or _detect_windows_1252(path, head)
    if detected is None:
        return UTF_8, []
    return detected, [f"the encoding is {detected}, as detected; data.encoding sets another"]


def _detect_utf_16(head: bytes) -> str | None:
    """Return the encoding if every other byte is mostly NUL, as in UTF-16 without a byte-order mark."""
    first, second = (head[start::2].count(0) / max(len(head[start::2]), 1) for start in (0, 1))
    if max(first, second) < 0.4 or min(first, second) > 0.1:
        return None
    return "utf-16-be" if first > second else "utf-16-le"


def _detect_windows_1252(path: str, head: bytes) -> str | None:
    """Return the encoding if several lines are not UTF-8 and read well as Windows-1252; None for UTF-8 with bad rows."""
    if head.isascii():
        return None
    if len(head) >= HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head  # a character may be cut at the end
    lines = head.splitlines()
    others = [line for line in lines if not line.isascii()]
    num_other = sum(not _is_utf_8(line) for line in others)
    if num_other < max(MIN_LINES, len(others)):  # lines that are UTF-8 show that the file is
        return None
    if _reads_as_windows_1252(head):
        return "windows-1252"
    raise DataError(
        f"{path}: {num_other:,} of the first {len(lines):,} lines are not UTF-8; set data.encoding, "
        "for example windows-1250, windows-1251, shift_jis or gb18030 (or utf-8 to treat these lines as bad rows)"
    )


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _reads_as_windows_1252(head: bytes) -> bool:
    try:
        text = head.decode("windows-1252")
    except UnicodeDecodeError:
        return False
    letters = [character for character in text if character.isalpha()]
    num_accented, num_high = sum(not letter.isascii() for letter in letters), sum(not character.isascii() for character in text)
    is_western = num_accented <= MAX_ACCENTED * len(letters)
    return is_western and len(SYMBOL_IN_WORD.findall(text.lower())) <= MAX_SYMBOLS_IN_WORDS * num_high
