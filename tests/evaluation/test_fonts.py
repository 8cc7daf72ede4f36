"""Fonts are chosen for the characters of label names."""

import matplotlib
import pytest
from matplotlib import font_manager

from emotion.evaluation import fonts


def test_names_of_the_default_font_change_nothing(capsys):
    before = list(matplotlib.rcParams["font.family"])
    with fonts.use_fonts(["joy", "gêne", "радость"]):
        assert matplotlib.rcParams["font.family"] == before
    assert capsys.readouterr().err == ""


def test_figures_have_the_default_style_whatever_another_library_has_set():
    with matplotlib.rc_context({"font.size": 18, "figure.dpi": 200}):
        with fonts.use_fonts(["joy"]):
            assert all(matplotlib.rcParams[key] == matplotlib.rcParamsDefault[key] for key in ("font.size", "figure.dpi"))
        assert matplotlib.rcParams["font.size"] == 18


@pytest.mark.parametrize("is_installed", [True, False])
def test_an_installed_font_is_used_for_the_characters_that_the_default_lacks(is_installed, monkeypatch, capsys):
    characters = {"default": set("joy"), "sans": {"愤", "怒"}, "serif": {"愤", "怒", "غ"}}
    monkeypatch.setattr(fonts, "_list_characters", lambda path: characters.get(path, characters["default"]))
    entries = [
        font_manager.FontEntry(fname=name, name=f"A {name}", style="normal", weight=400) for name in ("serif", "sans") if is_installed
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    with fonts.use_fonts(["joy", "愤怒", "غ", "\u200b"]):
        families = matplotlib.rcParams["font.family"]
        assert families[-2:] == ["A sans", "A serif"] if is_installed else "A sans" not in families
    message = capsys.readouterr().err
    assert message == "" if is_installed else "figures: no installed font can draw غ 怒 愤; install one that has them" in message


def test_a_character_that_no_font_has_is_named_on_any_system(capsys):
    """U+10FFFD is for private use. matplotlib's own font for any character, which draws boxes, does not count."""
    assert fonts.find_fonts({"j", "\U0010fffd"}) == ([], {"\U0010fffd"})
    with fonts.use_fonts(["愤怒", "joy"]):
        assert not any("Last Resort" in family for family in matplotlib.rcParams["font.family"])
    families, missing = fonts.find_fonts({"愤", "怒"})
    assert ("no installed font can draw" in capsys.readouterr().err) == bool(missing) and bool(families) != bool(missing)
