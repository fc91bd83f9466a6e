"""How long an API wants to be left alone, whatever our clock or its clock shows."""

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from consumer.clients.http import Answer
from consumer.clients.waits import asked_to_wait, seconds_to_wait, unix_time

NOW = 1_700_000_000.0  # Tuesday, 14 November 2023, 22:13:20 UTC


def answer(status: int, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    return Answer(status, body, CIMultiDictProxy(CIMultiDict(headers)))


def imf(moment: float) -> str:
    return formatdate(moment, usegmt=True)


def rfc850(moment: float) -> str:
    return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(moment))


def asctime(moment: float) -> str:
    return time.asctime(time.gmtime(moment))


FORMATS: list[Callable[[float], str]] = [
    imf,
    rfc850,
    asctime,
    lambda moment: imf(moment).removesuffix(" GMT"),
    lambda moment: imf(moment).lower(),
]


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/Los_Angeles", "Pacific/Kiritimati"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("skew", [-600, 0, 600, 86_400, -40 * 31_536_000])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.usefixtures("local_zone")
def test_a14_dates_count_from_the_date_of_the_response(skew: float, form: Callable[[float], str]) -> None:
    """A server's clock may be ahead or behind, and this process may run in any time zone."""
    theirs = NOW + skew
    asked = answer(503, {"Date": form(theirs), "Retry-After": form(theirs + 7)})
    assert seconds_to_wait(asked, NOW) == 7
    reset = {"Date": form(theirs), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{theirs + 2:.0f}"}
    assert seconds_to_wait(answer(200, reset), NOW) == 2


@given(
    skew=st.integers(-10_000_000, 10_000_000),
    wait=st.integers(1, 3600),
    form=st.sampled_from(FORMATS),
    dated=st.sampled_from(FORMATS),
    kind=st.sampled_from(["date", "seconds", "body", "body date", "reset", "reset ms", "reset left"]),
    status=st.sampled_from([429, 500, 503]),
)
def test_a14_whatever_the_clocks_show_the_api_is_left_alone_for_as_long_as_it_says(
    *, skew: int, wait: int, form: Callable[[float], str], dated: Callable[[float], str], kind: str, status: int
) -> None:
    theirs = NOW + skew
    then = theirs + wait
    headers = {"Date": dated(theirs)}
    body = b""
    if kind == "date":
        headers["Retry-After"] = form(then)
    elif kind == "seconds":
        headers["Retry-After"] = str(wait)
    elif kind == "body":
        body = b'{"error": {"retry_after": %d}}' % wait
    elif kind == "body date":
        body = b'{"retry_after": "%s"}' % form(then).encode()
    else:
        headers["X-RateLimit-Remaining"] = "0"
        number = {"reset": then, "reset ms": then * 1000, "reset left": wait}[kind]
        headers["X-RateLimit-Reset"] = f"{number:.0f}"
    assert seconds_to_wait(answer(status, headers, body), NOW) == wait


def test_without_a_readable_date_our_own_clock_is_used() -> None:
    for date in ({}, {"Date": ""}, {"Date": "now"}, {"Date": "Thu, 99 Foo 2023 99:99:99 GMT"}):
        assert seconds_to_wait(answer(429, {**date, "Retry-After": imf(NOW + 40)}), NOW) == 40


def test_a_response_from_a_cache_is_as_old_as_its_age_says() -> None:
    kept = {"Date": imf(NOW - 30), "Retry-After": imf(NOW + 40)}
    assert seconds_to_wait(answer(429, {**kept, "Age": "30"}), NOW) == 40
    for odd in ("-30", "nan", "1e300", "old", ""):
        assert seconds_to_wait(answer(429, {**kept, "Age": odd}), NOW) == 70


@pytest.mark.parametrize(
    ("status", "seconds"),
    [(429, 7), (500, 7), (502, 7), (503, 7), (504, 7), (200, 0), (302, 0), (403, 0), (404, 0)],
)
def test_errors_of_the_server_may_ask_to_wait_as_well(status: int, seconds: float) -> None:
    asked = answer(status, {"Retry-After": "7"})
    assert seconds_to_wait(asked, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 1),
        ("-5", 1),
        ("-1e300", 1),
        ("nan", 1),
        ("soon", 1),
        ("", 1),
        ("1e300", 3600),
        ("1e400", 3600),
        ("99999999999999999999999", 3600),
        (imf(NOW + 1e9), 3600),
        (imf(NOW - 40), 1),
        (imf(NOW), 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_a14_a_wait_is_never_longer_than_an_hour_and_a_429_never_means_at_once(value: str, seconds: float) -> None:
    headers = {"Date": imf(NOW), "Retry-After": value}
    assert seconds_to_wait(answer(429, headers), NOW) == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"retry_after": true}', 1),
        (b'{"retry_after": null}', 1),
        (b'{"retry_after": NaN}', 1),
        (b'{"retry_after": 1e300}', 3600),
        (b'{"retry_after": 1%s}' % (b"0" * 400), 3600),
        (b'{"error": {"retry_after": "x"}, "retry_after": 5}', 5),
        (b'{"error": [], "retry_after": [5]}', 1),
        (b"[5]", 1),
        (b"\xff", 1),
    ],
)
def test_a_wait_in_a_body_is_bounded_as_well(body: bytes, seconds: float) -> None:
    assert seconds_to_wait(answer(429, {"Date": imf(NOW)}, body), NOW) == seconds


@pytest.mark.parametrize("remaining", ["0", "0.0", "-1"])
@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("-5", 0), ("nan", 0), ("soon", 0), ("inf", 3600), ("1e300", 3600), (str(NOW - 5), 0), (str(NOW + 1e6), 3600)],
)
def test_an_odd_reset_is_bounded(remaining: str, reset: str, seconds: float) -> None:
    headers = {"Date": imf(NOW), "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset}
    assert seconds_to_wait(answer(200, headers), NOW) == seconds


@given(
    status=st.sampled_from([200, 429, 503]),
    headers=st.dictionaries(
        st.sampled_from(["Date", "Age", "Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        st.one_of(st.text(), st.integers().map(str), st.floats().map(str), st.floats(0, 1e11).map(imf)),
    ),
    body=st.one_of(st.binary(), st.integers().map(lambda number: b'{"retry_after": %d}' % number)),
)
def test_any_response_gives_a_wait_between_nothing_and_an_hour(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    any_answer = answer(status, headers, body)
    wait = seconds_to_wait(any_answer, NOW)
    assert 0 <= wait <= 3600
    if status == 429:
        assert wait > 0
    asked_to_wait(any_answer, NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sun, 06 Nov 1994 08:49:37", 784_111_777),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 784_111_777),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 784_111_777),
        ("Wednesday, 06-Nov-70 08:49:37 GMT", 3_182_489_377),  # 2070: less than 50 years ahead
        ("Tuesday, 06-Nov-74 08:49:37 GMT", 152_959_777),  # 1974: 2074 is more than that
        ("Sun, 06 Nov 1994 08:49:60 GMT", 784_111_800),
        ("1994-11-06", None),
        ("Sun, 06 Nov 1994 24:49:37 GMT", None),
    ],
)
@pytest.mark.usefixtures("local_zone")
def test_every_format_of_an_http_date_is_read_as_utc(text: str, moment: float | None) -> None:
    assert unix_time(text, NOW) == moment
