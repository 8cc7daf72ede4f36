"""Fonts for figures: label names can be in any script, and matplotlib's own font has Latin, Greek, Cyrillic and some others."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from emotion.text import print_message

MAX_CHARACTERS_SHOWN = 10
UNUSABLE_FONTS = ("emoji", "color", "last resort")
"""Parts of the names of fonts that are not used: matplotlib cannot draw colored glyphs, and its "Last Resort" draws boxes."""


@contextmanager
def use_fonts(names: Iterable[str]) -> Iterator[None]:
    """Draw with installed fonts that have the characters of these names, and print for which characters there is none.

    The rest is matplotlib's default style, for which the figures are laid out: other libraries, such as quapy, change the size of all text
    when they are imported.
    """
    from matplotlib import rcParams, style

    with style.context("default"):
        families, missing = find_fonts({character for name in names for character in name if character.isprintable()})
        if missing:
            shown = " ".join(sorted(missing)[:MAX_CHARACTERS_SHOWN])
            print_message(
                f"figures: no installed font can draw {shown}; install one that has them, such as Noto Sans; tables are not affected"
            )
        rcParams["font.family"] = [*rcParams["font.family"], *families]
        yield


def find_fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """Return families of installed fonts that together have characters which the default font lacks, and the characters that none has."""
    from matplotlib import font_manager

    missing = characters - _list_characters(font_manager.findfont(font_manager.FontProperties()))
    families: list[str] = []
    for entry in sorted(font_manager.fontManager.ttflist, key=_rank) if missing else ():
        if (
            missing
            and not any(part in entry.name.lower() for part in UNUSABLE_FONTS)
            and (found := missing & _list_characters(entry.fname))
        ):
            families.append(entry.name)
            missing -= found
    return families, missing


def _rank(entry: Any) -> tuple[bool, bool, str]:
    """Order fonts: regular sans serif first, then by name, so that the choice does not depend on the order of files."""
    return entry.style != "normal" or entry.weight not in (400, "normal", "regular"), "sans" not in entry.name.lower(), entry.fname


def _list_characters(path: str) -> set[str]:
    from matplotlib import font_manager

    try:
        return {chr(code) for code in font_manager.get_font(path).get_charmap()}
    except (OSError, RuntimeError):  # a font file that cannot be read
        return set()
