import base64
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.stream import offset_map
from consumer.stream.offset_map import BOUND, UnreadableMap, decode, encode

offsets = st.integers(0, 2**62)
bitmaps = st.binary(min_size=1, max_size=9000)


def above(committed: int, bits: bytes) -> set[int]:
    return {committed + 1 + place for place in range(len(bits) * 8) if bits[place // 8] >> place % 8 & 1}


def recompose(metadata: str, payload: bytes) -> str:
    return metadata[: metadata.rindex(":") + 1] + base64.b64encode(payload).decode()


def payload_of(metadata: str) -> bytes:
    return base64.b64decode(metadata[metadata.rindex(":") + 1 :])


@given(offsets, st.sets(st.integers(1, 3000)))
def test_what_was_done_is_read_back(committed: int, places: set[int]) -> None:
    done = {committed + place for place in places}

    assert decode(encode(committed, done), committed) == done


@given(offsets, bitmaps)
def test_it_fits_into_the_bound_and_keeps_the_lowest(committed: int, bits: bytes) -> None:
    done = above(committed, bits)

    metadata = encode(committed, done)
    kept = decode(metadata, committed)

    assert len(metadata) <= BOUND
    assert kept == set(sorted(done)[: len(kept)])


def test_a_map_that_does_not_fit_keeps_most_of_what_would() -> None:
    noise = base64.b16decode("".join(f"{(n * 2654435761 >> 7) % 65536:04X}" for n in range(8000)))

    kept = decode(encode(5, above(5, noise)), 5)

    assert max(kept) - 5 > (BOUND - 100) * 6 * 0.9  # base64 holds 6 bits a character


def test_a_long_finished_run_costs_next_to_nothing() -> None:
    done = range(8, 8 + 100_000)

    metadata = encode(7, done)

    assert len(metadata) < 500
    assert decode(metadata, 7) == set(done)


def test_it_covers_its_whole_span_and_ignores_what_lies_beyond() -> None:
    span = 1 << 17

    assert decode(encode(0, [1, span, span + 1, 10**15]), 0) == {1, span}


@pytest.mark.parametrize("done", [[], [100], [3, 99, 100]])
def test_nothing_done_above_needs_no_map(done: list[int]) -> None:
    assert encode(100, done) == ""
    assert decode("", 100) == frozenset()


@given(offsets, offsets, st.sets(st.integers(1, 50), min_size=1))
def test_a_map_for_another_offset_counts_for_nothing(made_for: int, committed: int, places: set[int]) -> None:
    metadata = encode(made_for, {made_for + place for place in places})

    if made_for != committed:
        with pytest.raises(UnreadableMap):
            decode(metadata, committed)


@given(st.text(min_size=1), offsets)
def test_foreign_metadata_raises_nothing_but_unreadable_map(metadata: str, committed: int) -> None:
    with pytest.raises(UnreadableMap):
        decode(metadata, committed)


@given(st.one_of(st.text(), st.binary().map(lambda data: base64.b64encode(data).decode())), st.integers(0, 9))
def test_a_foreign_payload_raises_nothing_but_unreadable_map(payload: str, committed: int) -> None:
    with suppress(UnreadableMap):
        decode(f"v1:{committed}:{payload}", committed)


@given(bitmaps, st.data())
def test_a_map_that_was_cut_counts_for_nothing(bits: bytes, data: st.DataObject) -> None:
    metadata = encode(3, above(3, bits) | {4})
    payload = payload_of(metadata)
    cut = data.draw(st.integers(0, len(payload) - 1))

    with pytest.raises(UnreadableMap):
        decode(recompose(metadata, payload[:cut]), 3)


@given(bitmaps, st.data())
def test_a_map_with_a_flipped_bit_counts_for_nothing_or_the_same(bits: bytes, data: st.DataObject) -> None:
    metadata = encode(3, above(3, bits) | {4})
    payload = bytearray(payload_of(metadata))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with suppress(UnreadableMap):
        assert decode(recompose(metadata, bytes(payload)), 3) == decode(metadata, 3)


@pytest.mark.parametrize("size", [offset_map.SPAN // 8 + 1, 50_000_000])
def test_a_map_of_more_than_its_span_is_not_unpacked(size: int) -> None:
    bomb = base64.b64encode(zlib.compress(b"\xff" * size)).decode()

    with pytest.raises(UnreadableMap):
        decode(f"v1:0:{bomb}", 0)


@given(st.sets(st.integers(1, 100_000), max_size=500), st.integers(0, 600))
def test_a_smaller_bound_is_kept_and_keeps_the_lowest(done: set[int], bound: int) -> None:
    text = encode(0, done, bound)
    assert len(text) <= bound
    kept = decode(text, 0)
    assert kept <= done
    assert not kept or max(kept) < min(done - kept, default=max(kept) + 1)
