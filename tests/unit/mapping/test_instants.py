from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from consumer.mapping.instants import UnreadableState, day, instant

NOON = datetime(2025, 11, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["2025-11-10T12:00:00Z", "2025-11-10T12:00:00.000000000Z", "2025-11-10t13:00:00+01:00", " 2025-11-10 12:00:00 "],
)
def test_the_usual_spellings_are_one_instant(text: str) -> None:
    assert instant(text, "x") == NOON


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2025-11-10T23:30:00Z", "UTC", "2025-11-10"),
        ("2025-11-10T23:30:00Z", "Europe/Oslo", "2025-11-11"),
        ("2025-11-10T02:00:00", "America/New_York", "2025-11-09"),
        ("2025-06-30T22:30:00Z", "Europe/Oslo", "2025-07-01"),
        ("2025-11-10", "America/New_York", "2025-11-10"),
        ("9999-12-31T23:59:59Z", "Europe/Oslo", "9999-12-31"),
        ("0001-01-01T00:00:00Z", "America/New_York", "0001-01-01"),
    ],
)
def test_a_day_is_the_one_in_the_time_zone(text: str, zone: str, expected: str) -> None:
    assert day(text, "x", ZoneInfo(zone)) == expected


@pytest.mark.parametrize(
    "text", ["soon", "", "2025-13-01", "2025-11-10T25:00:00Z", "1762776000", "1761112012345", "17627760"]
)
def test_what_is_no_time_names_the_field_and_not_the_value(text: str) -> None:
    with pytest.raises(UnreadableState, match=r"^contract\.nextBillAt is not an ISO 8601 time$") as raised:
        day(text, "contract.nextBillAt", ZoneInfo("UTC"))
    assert raised.value.field == "contract.nextBillAt"
