from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from consumer.partitioner import partition_of


@given(st.binary(max_size=40), st.integers(1, 50))
def test_a_key_has_the_partition_that_aiokafka_and_java_give_it(key: bytes, count: int) -> None:
    partitions = list(range(count))
    expected = DefaultPartitioner()(key, partitions, partitions)
    assert {partition_of(key, partitions, partitions) for _ in range(2)} == {expected}


def test_without_a_key_it_is_one_that_is_available() -> None:
    assert partition_of(None, range(9), [7]) == 7
