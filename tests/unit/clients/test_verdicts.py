import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clients.verdicts import detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"detail": "one", "message": "two"}', "one"),
        (b'{"title": "", "message": "two"}', "two"),
        (b'{"error": {"code": "bad", "message": "three"}}', "three"),
        (b'{"error": "four"}', "four"),
        (b'{"errors": ["five", {"message": "six"}]}', "five; six"),
        (b'{"errors": {"email": ["not an address"]}}', "email: not an address"),
        (b"<h1>Bad\n  Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b'{"message": "ola@x.no is taken"}', "o***@x.no is taken"),
        (b"", ""),
    ],
)
def test_the_detail_is_what_the_body_says(body: bytes, said: str) -> None:
    assert detail(body) == said


@given(st.binary(max_size=2000))
def test_any_body_gives_one_short_line(body: bytes) -> None:
    said = detail(body)
    assert len(said) <= 200
    assert "\n" not in said
