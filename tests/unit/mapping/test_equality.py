"""Values with the same meaning are the same, and values with another one are not."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from consumer.mapping.equality import is_blank, same, same_foreign

DAY = "2026-02-01"


@pytest.mark.parametrize(
    ("kind", "wanted", "shown"),
    [
        *(("boolean", True, shown) for shown in (True, "true", "True", "TRUE", " true ", 1, 1.0, "1")),
        *(("boolean", False, shown) for shown in (False, "false", "False", 0, 0.0, "0")),
        *(("number", 3, shown) for shown in (3, 3.0, "3", "3.0", " 3 ", "3.00", "3e0")),
        *(("number", 0, shown) for shown in (0, "0", "0.0", -0.0)),
        *(("number", 2.5, shown) for shown in (2.5, "2.5", "2.50")),
        *(
            ("date", DAY, DAY + time)
            for time in (
                *(
                    "",
                    " ",
                    "T00:00:00Z",
                    "T00:00:00+00:00",
                    " 00:00:00",
                    "T00:00",
                    "T00:00:00.000Z",
                    "T00:00:00.000000",
                ),
                *("T00:00:00+01:00", "T00:00:00-0500", "t00:00:00z", "T12:00:00Z", " 00:00:00+00:00", "T00:00:00"),
            )
        ),
        *(("date", DAY, shown) for shown in ("2026-01-31T23:00:00Z", "2026-01-31T22:00:00+00:00", "2026-01-31 23:00Z")),
        *(("text", "email|1", shown) for shown in ("email|1",)),
        *(("text", "123", shown) for shown in (123, 123.0, "123")),
        *((kind, None, blank) for kind in ("boolean", "number", "date", "text") for blank in (None, "")),
    ],
)
def test_a12_values_that_mean_the_same_are_the_same(kind: str, wanted: Any, shown: Any) -> None:
    assert same(kind, wanted, shown)
    assert same(kind, wanted, Raw(msgspec.json.encode(shown)))
    assert same_foreign(wanted, shown)
    assert same_foreign(Raw(msgspec.json.encode(wanted)), Raw(msgspec.json.encode(shown)))


@pytest.mark.parametrize(
    ("kind", "wanted", "shown"),
    [
        *(("boolean", True, shown) for shown in (False, "false", 0, "0", None, "", 2, "yes", [True])),
        *(("boolean", False, shown) for shown in (None, "", True, "", "no", [False], {"a": 1})),
        *(("number", 3, shown) for shown in (None, "", 4, "4", 3.1, "3,0", True, "three", [3], "3 4", "0x3", "1_0")),
        *(("number", 1, shown) for shown in (True, "true")),
        *(("number", 0, shown) for shown in (None, "", False, "false")),
        *(("date", DAY, shown) for shown in (None, "", "2026-02-02", "2026-01-31", "2026-01-31T23:59:59Z", "1.2.2026")),
        *(
            ("date", DAY, shown)
            for shown in (f"{DAY}T23:00:00Z", f"{DAY}X", f"{DAY}T", 20260201, "2026-02-01T00", True)
        ),
        *(("text", "email|1", shown) for shown in (None, "", "email|2", "EMAIL|1", 1, ["email|1"])),
        *(("text", "1", shown) for shown in (True, "01", 1.5)),
        *(
            (kind, None, shown)
            for kind in ("boolean", "number", "date", "text")
            for shown in (0, False, "0", "null", [0])
        ),
    ],
)
def test_a12_values_that_mean_something_else_are_not(kind: str, wanted: Any, shown: Any) -> None:
    assert not same(kind, wanted, shown)
    assert not same(kind, wanted, Raw(msgspec.json.encode(shown)))


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"20251110120000123456", b"20251110120000123457"),
        (b"20251110120000123456", b'"20251110120000123457"'),
        (b"1.1", b"1.2"),
        (b'"a"', b'"b"'),
        (b"[1]", b"[2]"),
        (b'{"a": 1}', b'{"a": 2}'),
        (b'"x"', b"null"),
        (b"0", b"null"),
        (b'"half \\ud83d"', b'"half "'),
    ],
)
def test_a_foreign_value_that_came_back_as_another_is_noticed(sent: bytes, shown: bytes) -> None:
    assert not same_foreign(Raw(sent), Raw(shown))


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"20251110120000123456", b'"20251110120000123456"'),
        (b"1.10", b"1.1"),
        (b"1e400", b"1E400"),
        (b"true", b'"true"'),
        (b'"half \\ud83d"', b'"half \\uD83D"'),
        (b'{"a": [1, 2.0]}', b'{"a":[1,2]}'),
        (b"null", b'""'),
    ],
)
def test_a_foreign_value_in_another_spelling_is_the_same(sent: bytes, shown: bytes) -> None:
    assert same_foreign(Raw(sent), Raw(shown))


@given(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.floats(allow_nan=False))
def test_every_value_is_the_same_as_itself(value: Any) -> None:
    assert all(same(kind, value, value) for kind in ("boolean", "number", "date", "text"))
    assert same_foreign(value, value)
    assert is_blank(value) is (value in (None, ""))
