"""The words of a text in any script: what TF-IDF counts, and what an explanation gives contributions to."""

import re
import unicodedata
from functools import cache

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # hiragana and katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""Characters of scripts without blanks between words: each is a word of its own."""
COUNTED_WORD = re.compile(rf"[^\W{UNSPACED}]+|[^\w\s]|[{UNSPACED}]")
"""A word, or a single punctuation mark or symbol: `!` and emoji carry emotions too."""
JOINERS = "\u200c\u200d"
"""Invisible characters inside words of Persian and of Indian languages."""


def find_words(text: str) -> list[tuple[int, int]]:
    """Return start and end of each word and of each run of other characters but blanks; combining marks belong to their letter."""
    return [match.span() for match in _compile_word().finditer(text)]


@cache
def _compile_word() -> re.Pattern[str]:
    # All combining marks but the variation selectors of ideographs. To look at every code point would take ten times as long.
    marks = "".join(filter(_is_mark, map(chr, range(0x300, 0x1F000))))
    word = rf"(?:[^\W{UNSPACED}]|[{marks}{JOINERS}])+"
    return re.compile(rf"(?![{marks}])[{UNSPACED}][{marks}]*|{word}(?:['’]{word})*|[^\w\s]+")


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")
