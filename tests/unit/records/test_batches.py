import gc
import gzip
import random
import struct
import time
import tracemalloc
from typing import Any, Literal

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.records.batches import split
from consumer.records.payload import length_at
from consumer.records.reader import LARGEST_RECORD, Undecodable
from tests.batch_bytes import (
    BAD_NAME,
    CODECS,
    HEADER,
    batch,
    events,
    legacy,
    placed,
    replaced,
    sealed,
)

Found = list[tuple[Any, ...]]


def read(data: bytes, start: int = 0) -> Found:
    """Return offset and value of each record, and both offsets and the error of what cannot be decoded."""
    found: Found = []
    for one in split(data):
        for record in one.records(start):
            if isinstance(record, Undecodable):
                found.append((record.offset, record.last_offset, record.error))
                start = record.last_offset + 1
            elif record is not None:
                found.append((record.offset, record.value))
                start = record.offset + 1
    return found


def values(first: int, last: int) -> Found:
    return [(offset, b"value %d" % offset) for offset in range(first, last + 1)]


def compressed(codec: int, payload: bytes, count: int, base: int = 0) -> bytearray:
    """Return a batch whose records are this payload, compressed."""
    data = events(count, base)
    attributes = struct.unpack_from(">h", data, 21)[0] | codec
    struct.pack_into(">h", data, 21, attributes)
    return sealed(data[:HEADER] + compress(codec, payload))


def compress(codec: int, payload: bytes) -> bytes:
    if codec == CODECS["gzip"]:
        return gzip.compress(payload, 6)
    if codec == CODECS["snappy"]:
        return bytes(cramjam.snappy.compress_raw(payload))
    if codec == CODECS["lz4"]:
        compressor = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)
        compressor.compress(payload)
        return bytes(compressor.finish())
    return bytes(cramjam.zstd.compress(payload))


def payload_of(data: bytearray) -> bytes:
    return bytes(data[HEADER:])


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_records_of_every_codec_are_read_from_any_offset_on(codec: int) -> None:
    data = bytes(events(50, 100, codec) + events(20, 150, codec))

    assert read(data) == values(100, 169)
    assert read(data, 137) == values(137, 169)
    assert read(data, 160) == values(160, 169)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy"])
def test_the_formats_before_kafka_0_11_are_read(magic: Literal[0, 1], codec: str) -> None:
    data = legacy([(b"k", b"one"), (None, None), (b"", b"three")], 0, CODECS[codec], magic)

    assert read(data) == [(0, b"one"), (1, None), (2, b"three")]
    assert read(data, 2) == [(2, b"three")]


def test_a_damaged_message_of_an_old_format_is_one_that_cannot_be_decoded() -> None:
    data = bytearray(legacy([(b"k", b"one"), (b"k", b"two"), (b"k", b"six")]))
    at = data.index(b"two")
    data[at] ^= 1

    assert read(bytes(data)) == [(0, b"one"), (1, 1, "its checksum is wrong"), (2, b"six")]


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_k1_a_header_name_that_is_not_utf_8_costs_that_record_alone(codec: int) -> None:
    good = [(b"k", b"value %d" % number, ()) for number in range(9)]
    odd = (b"k", b"odd", (("sporingsnoekkel"[:14], b"1"),))
    plain = replaced(batch([*good[:4], odd, *good[5:]], 10), b"sporingsnoekke", BAD_NAME)
    data = compressed(codec, payload_of(plain), 9, 10) if codec else plain

    found = read(bytes(data))

    assert found[4] == (14, 14, "its content is damaged (CorruptRecordException)") or "Unicode" in str(found[4])
    assert [item[0] for item in found] == list(range(10, 19))
    assert [item for item in found if len(item) == 3] == [found[4]]
    assert read(bytes(data), 15) == found[5:]


def test_k1_an_attribute_byte_that_the_client_cannot_read_costs_that_record_alone() -> None:
    data = events(5)
    at = data.index(b"value 2") - 7  # length, attributes, time, offset, key's length, key, value's length
    assert data[at + 1] == 0
    data[at + 1] = 0xF8

    found = read(bytes(sealed(data)))

    assert [item[:2] for item in found] == [(0, b"value 0"), (1, b"value 1"), (2, 2), (3, b"value 3"), (4, b"value 4")]


def test_k1_a_wrong_checksum_costs_that_batch_alone() -> None:
    broken = events(5, 3)
    broken[-1] ^= 1
    data = bytes(events(3) + broken + events(2, 8))

    assert read(data) == [*values(0, 2), (3, 7, "its checksum is wrong"), *values(8, 9)]
    assert read(data, 5)[0] == (5, 7, "its checksum is wrong")


def test_a_damaged_header_does_not_reach_beyond_the_next_batch() -> None:
    broken = events(5)
    struct.pack_into(">i", broken, 23, 1 << 30)  # the last offset, by which reading would go on elsewhere

    assert read(bytes(broken + events(2, 5))) == [(0, 4, "its checksum is wrong"), *values(5, 6)]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 7])
def test_a_batch_that_cannot_be_decompressed_is_one(codec: int) -> None:
    data = events(5)
    struct.pack_into(">h", data, 21, codec)
    (first, *_), *rest = read(bytes(sealed(data) + events(1, 5)))

    assert first == 0
    assert rest == values(5, 5)


def test_records_that_end_early_cost_those_that_are_missing() -> None:
    data = sealed(events(5)[:-12])

    found = read(bytes(data))

    assert found[:4] == values(0, 3)
    assert found[4] == (4, 4, "its records end early")


@pytest.mark.parametrize("length", [b"\x00", b"\x02", b"\x7e", b"\xfe", b"\x80", b"\xff", b"\x01"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_k1_a_record_of_a_wrong_length_costs_that_record_alone(length: bytes, codec: int) -> None:
    data = events(9, 10)
    at = data.index(b"value 13") - 7  # length, attributes, time, offset, key's length, key, value's length
    data[at : at + 1] = length
    found = read(bytes(compressed(codec, payload_of(data), 9, 10) if codec else sealed(data)))

    assert [item[:2] for item in found] == [*values(10, 12), (13, 13), *values(14, 18)]


def test_k1_records_of_wrong_lengths_in_a_large_batch_cost_themselves_alone() -> None:
    count = 3000
    records = [(b"k", b"value %05d" % number + bytes(1000), ()) for number in range(count)]
    payload = bytearray(payload_of(batch(records)))
    broken = [5, 700, 701, 1500, count - 1]
    starts = [0]
    while starts[-1] < len(payload):
        starts.append(starts[-1] + length_at(payload, starts[-1]))
    for number in broken:
        payload[starts[number]] ^= 0x44
    data = compressed(CODECS["gzip"], bytes(payload), count)

    found = read(bytes(data) + bytes(events(1, count)))

    assert [item[0] for item in found] == list(range(count + 1))
    assert [item[0] for item in found if len(item) == 3] == broken


def test_k1_a_record_with_attributes_after_one_that_cannot_be_decoded_is_read() -> None:
    data = events(5)
    for value, attributes in ((b"value 2", 0x80), (b"value 3", 0x7F)):
        data[data.index(value) - 6] = attributes
    found = read(bytes(sealed(data)))

    assert [item[:2] for item in found] == [*values(0, 1), (2, 2), *values(3, 4)]


def test_k1_searching_for_records_in_what_holds_none_takes_no_more_than_a_second_or_two() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    began = time.process_time()
    found = read(bytes(sealed(events(50)[:HEADER] + noise)))

    assert sum((item[1] - item[0] if len(item) == 3 else 0) + 1 for item in found) == 50
    assert time.process_time() - began < 10


def test_k1_a_batch_of_records_that_are_all_damaged_takes_no_more_than_some_seconds() -> None:
    count = 20_000
    payload = payload_of(events(count)).replace(b"value", b"v")  # no length is right any more
    began = time.process_time()
    found = read(bytes(compressed(CODECS["gzip"], payload, count)))

    assert sum(last - first + 1 for first, last, _ in found) == count
    assert time.process_time() - began < 20


@given(st.integers(0, 11), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=3))
def test_k1_whatever_changes_within_a_record_the_others_are_read(number: int, changes: list[tuple[int, int]]) -> None:
    records = [batch([(b"key %d" % n, b"value %d" % n, ())] * (n + 1)) for n in range(12)]
    payloads = [payload_of(one) for one in records]
    singles = [payload[len(payload) * n // (n + 1) :] for n, payload in enumerate(payloads)]
    changed = bytearray(singles[number])
    for place, byte in changes:
        changed[place % len(changed)] = byte
    data = events(12)[:HEADER] + b"".join([*singles[:number], bytes(changed), *singles[number + 1 :]])

    found = read(bytes(sealed(data)))

    assert [item[0] for item in found] == list(range(12))
    assert [item for item in found if item[0] != number] == [item for item in values(0, 11) if item[0] != number]


def test_offsets_that_do_not_fit_cost_that_record_alone() -> None:
    data = events(5)
    at = data.index(b"value 2") - 4
    assert data[at] == 4  # offset 2, zigzag
    data[at] = 100

    found = read(bytes(sealed(data)))

    assert [item[:2] for item in found] == [(0, b"value 0"), (1, b"value 1"), (2, 2), (3, b"value 3"), (4, b"value 4")]


def test_a_compacted_batch_has_gaps() -> None:
    data = events(6)
    kept = payload_of(data)
    size = len(kept) // 6
    data = sealed(data[:HEADER] + kept[size : 2 * size] + kept[4 * size : 5 * size])
    struct.pack_into(">i", data, 57, 2)  # the number of records

    assert read(bytes(sealed(data))) == [*values(1, 1), *values(4, 4)]


def test_an_empty_answer_and_one_that_is_cut_off_have_no_records() -> None:
    assert read(b"") == []
    assert read(bytes(events(3) + events(3, 3)[:-5])) == values(0, 2)


@pytest.mark.parametrize("cut", [1, 30, 80])
def test_a_first_batch_that_is_cut_off_is_passed(cut: int) -> None:
    ((first, last, _),) = read(bytes(events(3, 7)[:-cut]), 8)
    assert (first, last) == (8, 9 if cut < 80 else 8)


@given(st.lists(st.tuples(st.integers(HEADER, 10_000), st.integers(0, 255)), max_size=4), st.sampled_from(range(5)))
def test_k1_whatever_bytes_change_every_offset_is_accounted_for_once(
    changes: list[tuple[int, int]], codec: int
) -> None:
    data = events(12, 5, codec)
    before = payload_of(data)
    for place, byte in changes:
        data[HEADER + place % len(before)] = byte
    found = read(bytes(sealed(data) + events(2, 17)))

    covered = [offset for item in found for offset in range(item[0], (item[1] if len(item) == 3 else item[0]) + 1)]
    assert covered == list(range(5, 19))
    assert found[-2:] == values(17, 18)


@given(st.binary(max_size=300), st.integers(0, 50))
def test_no_bytes_at_all_raise(data: bytes, start: int) -> None:
    read(data, start)
    whole = bytearray(events(3)[:HEADER]) + data
    read(bytes(sealed(whole)), start)


def test_k8_a_batch_of_many_records_is_read_piece_by_piece() -> None:
    count = 20_000
    data = bytes(compressed(CODECS["gzip"], payload_of(batch([(b"k", bytes(1000), ())] * count)), count))
    assert len(data) < 600_000
    gc.collect()
    tracemalloc.start()
    offset = -1
    for one in split(data):
        for record in one.records(0):
            assert record is not None
            assert record.offset == offset + 1
            offset += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert offset == count - 1
    assert peak < 8 << 20
    assert read(data, count - 2) == [(count - 2, bytes(1000)), (count - 1, bytes(1000))]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_k8_what_decompresses_to_too_much_is_a_batch_that_cannot_be_decoded(codec: str) -> None:
    data = bytes(compressed(CODECS[codec], bytes(40 << 20), 3))

    assert read(data + bytes(events(1, 3))) == [(0, 2, "decompresses to more than 32 MiB"), *values(3, 3)]


def test_k8_a_record_that_is_too_large_is_passed_and_those_around_it_are_read() -> None:
    size = LARGEST_RECORD + 1000
    payload = payload_of(batch([(b"k", b"small", ()), (b"k", bytes(size), ()), (b"k", b"last", ())]))
    data = bytes(compressed(CODECS["gzip"], payload, 3))

    first, large, last = read(data)

    assert (first, last) == ((0, b"small"), (2, b"last"))
    assert large[:2] == (1, 1)
    assert "more than 32 MiB" in str(large[2])


def test_placing_a_batch_moves_its_offsets() -> None:
    assert read(bytes(placed(events(2), 40)))[0][0] == 40
