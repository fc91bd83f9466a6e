"""Nothing of an address or a secret is left, however somebody's API spells it."""

import html
import json
import re
import time
import unicodedata
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from urllib.parse import quote_plus, unquote, unquote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consumer import masking
from consumer.masking import contains_address, is_clean, mask_addresses, mask_secrets, remember_secret
from consumer.secret import Secret


@pytest.fixture(autouse=True)
def _only_the_secrets_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_secrets", {})


def test_a_secret_is_masked_wherever_an_api_repeats_it() -> None:
    secret = Secret("s3cr3t-t0ken")
    assert (
        mask_addresses(f"refused: Bearer {secret.value} of kari@example.no") == "refused: Bearer *** of k***@example.no"
    )


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no alice@example.no here", "no a***@example.no here"),
        ("/v1/contacts/alice%40example.no/", "/v1/contacts/a***@example.no/"),
        ("to=alice%2540example.no&x=1", "to=a***@example.no&x=1"),
        ("alice%25252540example%252Eno", "a***@example.no"),
        ("%61lice%40example.no", "a***@example.no"),
        ("<b>alice&#64;example.no</b>", "<b>a***@example.no</b>"),
        ("alice&#x40;example.no", "a***@example.no"),
        ("alice&#0064example.no", "a***@example.no"),
        ("alice&commat;example&period;no", "a***@example.no"),
        ("alice&amp;#64;example.no", "a***@example.no"),
        ("alice%26%2364%3Bexample.no", "a***@example.no"),
        ("alice&#37;40example.no", "a***@example.no"),
        ('{"email":"alice\\u0040example.no"}', '{"email":"a***@example.no"}'),
        ('"{\\"email\\":\\"alice\\\\u0040example.no\\"}"', '"{\\"email\\":\\"a***@example.no\\"}"'),
        ("alice\\x40example.no", "a***@example.no"),
        ("alice\\u{40}example.no", "a***@example.no"),
        ("alice\\@example.no", "a***@example.no"),
        ("alice\uff20example.no", "a***@example.no"),
        ("alice\ufe6bexample.no", "a***@example.no"),
        ("alice%EF%BC%A0example.no", "a***@example.no"),
        ("alice=40example.no", "a***@example.no"),
        ("alice@[192.0.2.1] failed", "a***@[192.0.2.1] failed"),
        ("alice@[IPv6:2001:db8::1]", "a***@[IPv6:2001:db8::1]"),
        ('no: "quoted user"@example.com, sorry', "no: q***@example.com, sorry"),
        ("%22quoted%20user%22%40example.com", "q***@example.com"),
        ("o'brien+tag@example.no", "o***@example.no"),
        ("'alice@example.no'", "'a***@example.no'"),
        ("kåre.ø@example.no", "k***@example.no"),
        ("alice@corp@example.no", "a***@example.no"),
        ("mailto:alice@example.no?cc=bob@example.no", "mailto:a***@example.no?cc=b***@example.no"),
        ("alice@example.no.", "a***@example.no."),
        ("token " + b64encode(b'{"email":"alice@example.no"}').decode(), "token ***"),
        # what is none
        ("status=400 and @type, 5 @ 3 kr, 100%, a & b, C:\\x", "status=400 and @type, 5 @ 3 kr, 100%, a & b, C:\\x"),
        ("time=400.5", "time=400.5"),
        ("50%25 of 84cccf985de28a2a84824786", "50%25 of 84cccf985de28a2a84824786"),
    ],
)
def test_a16_an_address_is_masked_in_every_spelling(text: str, masked: str) -> None:
    assert mask_addresses(text) == masked
    assert mask_addresses(masked) == masked
    assert contains_address(text) == (text != masked)
    if text != masked and "token " not in text:
        assert not is_clean(json.dumps({"text": text}, ensure_ascii=False).encode())


SECRET = 'p+q/r=5 &<"\\å%41'


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        quote_plus(SECRET),
        quote_plus(quote_plus(SECRET)),
        quote_plus(SECRET).lower(),
        quote_plus(SECRET).replace("%2F", "/"),
        html.escape(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(SECRET)[1:-1])[1:-1],
        SECRET.replace("+", " "),
        SECRET.replace("/", "\\/"),
        quote_plus(html.escape(SECRET)),
    ],
)
def test_a16_a_secret_is_masked_in_every_spelling(spelled: str) -> None:
    remember_secret(SECRET)
    text = f"client_id=me&client_secret={spelled}&grant_type=x"
    assert mask_secrets(text) == "client_id=me&client_secret=***&grant_type=x"
    assert mask_addresses(text) == "client_id=me&client_secret=***&grant_type=x"
    assert not is_clean(json.dumps({"text": text}, ensure_ascii=False).encode())


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "a", "me:", "client:"])
def test_a16_a_secret_in_base64_is_masked(encode: Callable[[bytes], bytes], before: str) -> None:
    remember_secret("open sesame?>")
    text = f"Authorization: Basic {encode(f'{before}open sesame?>'.encode()).decode()} was refused"
    assert mask_addresses(text) == "Authorization: Basic *** was refused"


def test_a_short_secret_is_masked_as_a_word_only() -> None:
    remember_secret("sesam")
    remember_secret("abc")
    assert mask_secrets("sesam of sesamy, abc, key=sesam") == "*** of sesamy, abc, key=***"


def test_secrets_and_addresses_that_overlap_leave_nothing() -> None:
    remember_secret("alice@example.no:hunter2")
    remember_secret("hunter2-and-more")
    assert mask_addresses("x alice@example.no:hunter2-and-more y") == "x *** y"


ESCAPES: list[Callable[[str], str]] = [
    lambda char: "".join(f"%{byte:02X}" for byte in char.encode()),
    lambda char: "".join(f"%{byte:02x}" for byte in char.encode()),
    lambda char: "".join(f"%25{byte:02X}" for byte in char.encode()),
    lambda char: f"&#{ord(char)};",
    lambda char: f"&#x{ord(char):X};",
    lambda char: f"\\u{ord(char):04x}",
    lambda char: f"\\x{ord(char):02x}",
    lambda char: chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char,
    lambda char: {"@": "&commat;", "+": "&plus;", ".": "&period;", "_": "&lowbar;"}.get(char, char),
]


@st.composite
def spelled(draw: st.DrawFn, plain: st.SearchStrategy[str]) -> tuple[str, str]:
    """A text, and the same text with any of its characters escaped, up to three times over.

    The first escapes are of any characters; the others of all, or of those that are neither letter nor digit.
    """
    text = spelling = draw(plain)
    for number, escape in enumerate(draw(st.lists(st.sampled_from(ESCAPES), max_size=3))):
        everywhere = draw(st.booleans())
        spelling = "".join(
            escape(char)
            if char.isascii() and (everywhere or (draw(st.booleans()) if number == 0 else not char.isalnum()))
            else char
            for char in spelling
        )
    return text, spelling


def readings(text: str) -> Iterator[str]:
    """What others may make of the text, undoing up to three escapes."""
    undoing: list[Callable[[str], str]] = [
        unquote,
        unquote_plus,
        html.unescape,
        lambda it: re.sub(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})", lambda m: chr(int(m[1] or m[2], 16)), it),
        lambda it: unicodedata.normalize("NFKC", it),
    ]
    found = {text}
    for _ in range(3):
        found |= {undo(it) for it in found for undo in undoing}
    yield from found


LOCALS = st.text("abcdefghij0123456789._-+'!#$*^~|", min_size=4, max_size=12)


@given(spelled(LOCALS.map(lambda local: f"{local}@xyz.nu")), st.sampled_from(["", "to: ", "?m=", "/"]))
def test_a16_nothing_of_an_address_is_left(address: tuple[str, str], before: str) -> None:
    plain, spelling = address
    local = plain.partition("@")[0].lstrip("'")
    assume(len(local) > 3 and local[1:4] != "***")
    masked = mask_addresses(f"{before}{spelling} is not valid")
    assert not any(local[1:] in reading for reading in readings(masked))
    assert masked.endswith(" is not valid")
    assert mask_addresses(masked) == masked


@given(spelled(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=8, max_size=24)))
def test_a16_nothing_of_a_secret_is_left(secret: tuple[str, str]) -> None:
    plain, spelling = secret
    masking._secrets.clear()
    remember_secret(plain)
    masked = mask_secrets(f"secret: {spelling} is wrong")
    assert not any(plain in reading for reading in readings(masked))
    assert masked.startswith("secret: ")
    assert mask_secrets(masked) == masked


@given(st.text(st.sampled_from("a@%25&#6;\\u04\"'<[] .=\uff20+/")))
def test_any_text_is_masked_once_and_for_all(text: str) -> None:
    masked = mask_addresses(text)
    assert mask_addresses(masked) == masked


@pytest.mark.parametrize(
    "part",
    [
        "@",
        "a",
        "a@",
        "%25",
        "%2525",
        "%40",
        "\\",
        "\\\\u",
        "&",
        "&amp;",
        "&#",
        "&#6",
        '"',
        '"@',
        "a@[",
        "a.",
        "=40a.",
        "+",
        "\uff20",
    ],
)
def test_a16_the_time_grows_with_the_length_only(part: str) -> None:
    remember_secret("a secret of some length")

    def seconds(size: int) -> float:
        text = part * (size // len(part))
        began = time.process_time()
        mask_addresses(f"{text} @x")
        return time.process_time() - began

    assert seconds(160_000) < 20 * max(seconds(20_000), 0.05)
