"""Bytes become text in the encoding that they have, and what was detected is said."""

import pytest

from emotion.config import DataConfig, load_config
from emotion.data.reading.encodings import HEAD_BYTES, find_encoding
from emotion.data.reading.tables import read_table
from emotion.errors import ConfigError, DataError

TEXTS = ["naïve café – “quoted”", "plain words", "Grüße aus Köln", "don\u2019t", "déjà vu"]
NOTE = "the encoding is {}, as detected; data.encoding sets another"


def encode(encoding, mark="", end="\r\n"):
    return (mark + end.join(["text,labels", *(f"{text},joy" for text in TEXTS)]) + end).encode(encoding)


def read(path, content, **settings):
    path.write_bytes(content)
    return read_table(path, DataConfig(**settings))


DETECTED = {
    "windows-1252": (encode("windows-1252"), "windows-1252"),
    "UTF-16 with a mark": (encode("utf-16"), "utf-16"),
    "UTF-16, big-endian with a mark": (encode("utf-16-be", "\ufeff"), "utf-16"),
    "UTF-16 without a mark": (encode("utf-16-le"), "utf-16-le"),
    "UTF-16, big-endian": (encode("utf-16-be"), "utf-16-be"),
    "UTF-32": (encode("utf-32"), "utf-32"),
}


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("case", DETECTED)
def test_an_encoding_is_detected_and_said(case, ending, tmp_path):
    content, encoding = DETECTED[case]
    if ending == "tsv":
        content = content.decode(encoding).replace(",", "\t").encode(encoding)
    table = read(tmp_path / f"a.{ending}", content)
    assert table.columns == ["text", "labels"] and [row[0] for row in table.rows] == TEXTS
    assert table.notes == [f"{tmp_path / f'a.{ending}'}: {NOTE.format(encoding)}"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf_8_needs_no_note(mark, tmp_path):
    table = read(tmp_path / "a.csv", encode("utf-8", mark))
    assert table.columns == ["text", "labels"] and [row[0] for row in table.rows] == TEXTS and table.notes == []


def test_json_is_decoded_as_other_text_is(tmp_path):
    lines = "".join(f'{{"text": "{text}"}}\n' for text in TEXTS)
    for content in (lines, f"[{lines.replace(chr(10), ',')[:-1]}]"):
        table = read(tmp_path / "a.jsonl", content.encode("utf-16"))
        assert [row[0] for row in table.rows] == TEXTS and table.notes == [f"{tmp_path / 'a.jsonl'}: {NOTE.format('utf-16')}"]


SET = {"windows-1251": "Мне очень грустно", "shift_jis": "とても悲しい", "utf-16-le": "a\u0101", "windows-1250": "smutný příběh"}


@pytest.mark.parametrize("encoding", SET)
def test_data_encoding_decides(encoding, tmp_path):
    table = read(tmp_path / "a.csv", f"text,id\n{SET[encoding]},1\n".encode(encoding), encoding=encoding)
    assert table.rows == [[SET[encoding], "1"]] and table.notes == []


def test_a_byte_order_mark_is_not_a_part_of_the_first_name(tmp_path):
    for encoding in ("utf-16-le", "utf-8"):
        assert read(tmp_path / "a.csv", encode(encoding, "\ufeff"), encoding=encoding).columns == ["text", "labels"]


@pytest.mark.parametrize("encoding", ["windows-1251", "windows-1250", "shift_jis", "gb18030"])
def test_an_encoding_that_is_not_recognized_is_asked_for(encoding, tmp_path):
    text = {**SET, "windows-1250": "mój brat był zły, że się spóźniłem w piątek, więc płakał", "gb18030": "我很难过"}[encoding]
    content = ("text,id\n" + f"{text},1\n" * 20).encode(encoding)
    with pytest.raises(DataError, match=r"a\.csv: 20 of the first 21 lines are not UTF-8; set data\.encoding, for example windows-1250"):
        read(tmp_path / "a.csv", content)


def test_some_bytes_that_are_not_utf_8_are_bad_rows(tmp_path):
    """Two lines show no encoding, and neither do many beside text that is UTF-8."""
    for other, num_good in ((b"caf\xe9,1\n" * 2, 1), (b"caf\xe9,1\n" * 20 + "café,2\n".encode(), 2)):
        table = read(tmp_path / "a.csv", b"text,id\nplain,1\n" + other)
        assert len(table.rows) == num_good and table.notes == []
        assert {bad.reason for bad in table.bad_rows} == {"not valid UTF-8; for another encoding, set data.encoding"}


def test_a_character_that_is_cut_at_the_end_of_the_head_is_no_sign():
    line = "é\n".encode()
    head = (line * HEAD_BYTES)[:HEAD_BYTES]
    assert head[-1:] == "é".encode()[:1] and find_encoding("a.csv", head, None) == ("utf-8-sig", [])


def test_a_file_that_ends_within_a_character_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv: cannot be read \(.*\); set data\.encoding"):
        read(tmp_path / "a.csv", "text,id\na,1\nb,2\n".encode("utf-16")[:-1])


@pytest.mark.parametrize("name", ["utf-9", "rot13", "undefined"])
def test_an_unknown_encoding_is_refused(name):
    with pytest.raises(ConfigError, match=rf"data\.encoding='{name}': must be an encoding that Python has"):
        load_config(None, [f"data.encoding={name}"])
