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
        (b'{"message": "no such user: Kari \\ud83d"}', "no such user: Kari"),
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


@pytest.mark.parametrize("opened", [b"[", b'{"errors":', b'{"a":'])
@pytest.mark.parametrize("depth", [7, 100, 500, 900, 100_000])
def test_a_body_of_any_depth_gives_one_short_line(opened: bytes, depth: int) -> None:
    body = opened * depth + b'"x"' + (b"]" if opened == b"[" else b"}") * depth
    assert len(detail(body)) <= 200


def test_a_long_body_is_looked_at_no_further_than_it_could_be_shown() -> None:
    assert detail(b'{"errors": [' + b'"an error", ' * 100_000 + b'"x"]}').startswith("an error; an error")
