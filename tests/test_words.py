"""Words in scripts with and without blanks between them."""

import pytest

from emotion.words import COUNTED_WORD, find_words

TEXTS = {
    "I'm happy, don’t!!": ["I'm", "happy", ",", "don’t", "!!"],
    "abc中文def": ["abc", "中", "文", "def"],
    "我很高兴。": ["我", "很", "高", "兴", "。"],
    "とても嬉しい！": ["と", "て", "も", "嬉", "し", "い", "！"],
    "สวัสดี": ["ส", "วั", "ส", "ดี"],
    "नमस्ते दुनिया": ["नमस्ते", "दुनिया"],
    "می‌خواهم بروم": ["می‌خواهم", "بروم"],
    "나는 행복해": ["나는", "행복해"],
    "cafe\u0301 naïve": ["cafe\u0301", "naïve"],
    "❤️👩‍👩‍👧 x": ["❤️👩‍👩‍👧", "x"],
    "\u0301 \n": ["\u0301"],
    "": [],
}


@pytest.mark.parametrize(("text", "words"), TEXTS.items())
def test_words_of_any_script(text, words):
    spans = find_words(text)
    assert [text[start:end] for start, end in spans] == words
    assert "".join(words) == "".join(text.split())  # nothing but blanks is left out


@pytest.mark.parametrize(("text", "words"), TEXTS.items())
def test_no_counted_word_spans_a_script_without_blanks(text, words):
    counted = COUNTED_WORD.findall(text)
    assert "".join(counted) == "".join(words)
    assert [word for word in counted if "\u4e00" <= word[0] <= "\u9fff" and len(word) > 1] == []
