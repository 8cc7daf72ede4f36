"""Grouping: the terms of --by, dates of several formats, and periods."""

from datetime import UTC, date, datetime, timedelta

import pytest

from emotion.analysis.prevalence.grouping import PERIODS, Grouping, list_periods, name_period, parse_grouping
from emotion.errors import ConfigError, DataError


def test_terms():
    assert parse_grouping("month(date),source") == Grouping(("source",), "date", "month", "ISO 8601")
    assert parse_grouping("source, app") == Grouping(("source", "app"))
    assert parse_grouping("day(a (b))", "unix") == Grouping((), "a (b)", "day", "unix")
    assert parse_grouping("price(EUR)") == Grouping(("price(EUR)",))  # no period, so the name of a column


@pytest.mark.parametrize(
    ("by", "date_format", "message"),
    [
        ("a,,b", None, "--by a,,b: names an empty column, or a column twice; give columns such as month(date),source"),
        ("month(a),a", None, "--by month(a),a: names an empty column, or a column twice; give columns such as month(date),source"),
        (
            "day(a),year(b)",
            None,
            "--by day(a),year(b): has 2 dates; give one of day(COLUMN), week(COLUMN), month(COLUMN), quarter(COLUMN), ",
        ),
        ("day(a)", "%Y%Y", "--date-format %Y%Y: is not a format of dates (redefinition of group name 'Y' as group 2; "),
        (
            "day(a)",
            "%d.%Q",
            "--date-format %d.%Q: is not a format of dates ('Q' is a bad directive in format '%d.%Q'); give one such as %d/%m/%Y",
        ),
        (
            "month(a)",
            "%Y",
            "--date-format %Y: does not say the month of a date: 2023-08-17 is '2023', which is read as 2023-01; give a format",
        ),
        ("month(a)", "%d %b", "--date-format %d %b: does not say the month of a date: 2023-08-17 is '17 Aug', which is read as 1900-08; "),
        ("quarter(a)", "%H:%M", "--date-format %H:%M: does not say the quarter of a date: 2023-08-17 is '00:00', which is read as 1900-Q1"),
        ("week(a)", "%m/%Y", "--date-format %m/%Y: does not say the week of a date: 2023-08-17 is '08/2023', which is read as 2023-W31"),
        ("a", "%d", "--date-format %d: there is no date in --by a; give a term such as month(COLUMN)"),
    ],
)
def test_terms_that_cannot_be_used(by, date_format, message):
    with pytest.raises(ConfigError) as error:
        parse_grouping(by, date_format)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("date_format", ["unix", "%d.%m.%y", "%d %b %Y", "%Y-%m-%dT%H:%M:%S.%f%z", "%G-W%V-%u", "%I:%M %p %d/%m/%Y %Z"])
def test_formats_of_dates(date_format):
    assert parse_grouping("day(a)", date_format).date_format == date_format


def test_periods_sort_by_time():
    expected = {"day": "2024-12-30", "week": "2025-W01", "month": "2024-12", "quarter": "2024-Q4", "year": "2024"}
    assert {period: name_period(date(2024, 12, 30), period) for period in PERIODS} == expected
    days = [date(2023, 12, 31), date(2024, 1, 1), date(2024, 2, 9), date(2024, 11, 10), date(2025, 6, 1)]
    for period in PERIODS:
        names = [name_period(day, period) for day in days]
        assert names == sorted(names)
        between = list_periods(names[0], names[-1])
        assert between == sorted({name_period(date(2023, 12, 31) + timedelta(number), period) for number in range(519)})
        assert set(names) <= set(between) and list_periods(names[1], names[1]) == [names[1]]
    assert list_periods("2024-Q4", "2025-Q2") == ["2024-Q4", "2025-Q1", "2025-Q2"]


@pytest.mark.parametrize(
    ("value", "date_format", "expected"),
    [
        ("2024-03-31", "ISO 8601", "2024-03"),
        (" 2024-03-31T23:30:00+02:00 ", "ISO 8601", "2024-03"),
        ("31/03/2024", "%d/%m/%Y", "2024-03"),
        ("1711927800", "unix", "2024-03"),
        (1711927800, "unix", "2024-03"),
        (date(2024, 3, 31), "ISO 8601", "2024-03"),
        (datetime(2024, 3, 31, 23, tzinfo=UTC), "%d/%m/%Y", "2024-03"),
        ("", "ISO 8601", None),
        (None, "unix", None),
    ],
)
def test_dates(value, date_format, expected):
    assert Grouping((), "date", "month", date_format).find_period(value) == expected


@pytest.mark.parametrize(
    ("value", "date_format"), [("31/03/2024", "ISO 8601"), (20240331, "ISO 8601"), ("x", "unix"), ("1e300", "unix"), ("2024", "%d/%m/%Y")]
)
def test_values_that_are_no_date(value, date_format):
    with pytest.raises(ValueError):
        Grouping((), "date", "month", date_format).find_period(value)


def test_names_of_groups_and_of_columns():
    grouping = parse_grouping("source,lang")
    assert grouping.name_group(["app", "en"]) == "app / en" and grouping.name_group([None, 3]) == "(empty) / 3"
    with pytest.raises(DataError, match=r"^f\.csv: has no column 'source' to group by; did you mean 'Source'\?$"):
        grouping.check_columns("f.csv", ["Source", "lang"])
    with pytest.raises(DataError, match=r"^f\.csv: has no column 'source' to group by; its columns are 'x'$"):
        grouping.check_columns("f.csv", ["x"])
